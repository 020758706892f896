"""A job on a small table, and code written into files."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from task_builders import some_records

from letheon.imaging.models.model import TableSpec
from letheon.imaging.models.weights import initialise, read_weights
from letheon.imaging.tasks.tabular import Tabular
from letheon.site.code import load_code, run_code
from letheon.site.job import Config, Job, Sent

SCRIPT = """
import torch
from letheon import site

given = site.receive()
network = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
network.load_state_dict(given.state_dict)
optimiser = torch.optim.SGD(network.parameters(), lr=given.config.learning_rate)
loader = torch.utils.data.DataLoader(site.dataset(given.records), batch_size=8, shuffle=True)
for rows, labels in loader:
    loss = torch.nn.functional.cross_entropy(network(rows), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
site.send(network.state_dict(), num_examples=20, metrics={"loss": loss})
"""

FUNCTION = """
import letheon
import torch
from letheon import site

@letheon.train
def fit(model, records, config):
    optimiser = torch.optim.Adam(model.parameters(), lr=config.arguments.get("rate", 0.01))
    for rows, labels in site.batches(records, config):
        loss = config.loss(model(rows), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return {"loss": loss.item(), "num-examples": len(records)}
"""


def a_job(
    *, seed: int = 3, should_stop: Callable[[], bool] = lambda: False, **arguments: Any
) -> Job:
    """Rows of 5 features, a network of 4 hidden units."""
    module = initialise("mlp", {"hidden": [4]}, TableSpec(5), 2, seed=0)
    config = Config(
        seed=seed,
        steps=6,
        batch_size=8,
        learning_rate=0.1,
        momentum=0.9,
        clip_norm=5.0,
        weight_decay=0.0,
        task="tabular",
        classes=2,
        class_names=("no", "yes"),
        shape=(5,),
        loss=Tabular().loss,
        should_stop=should_stop,
        arguments=arguments,
    )
    return Job(module, read_weights(module), some_records("tabular"), config)


def written(folder: Path, text: str, name: str = "train.py") -> str:
    """A file of code; its path as the configuration names it."""
    path = folder / name
    path.write_text(textwrap.dedent(text).lstrip("\n"), encoding="utf-8")
    return str(path)


def run(told: str, job: Job | None = None) -> Sent:
    """Loads and runs code once."""
    return run_code(load_code(told), job or a_job())
