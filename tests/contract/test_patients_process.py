"""The real training process of an agent, told to leave patients out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import a_plan
from running_agent import a_config

from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.trainer_process import TrainerProcess
from client_agent.domain.tasks import ModelFile, TrainTask
from letheon.errors import Refused
from letheon.federation.parameters import Layout, TensorSpec, flatten
from letheon.imaging.models.model import ImageSpec
from letheon.imaging.models.weights import initialise, read_weights

pytestmark = pytest.mark.system
SIDE = 12
IMAGES = {"records": 80, "classes": 2, "channels": 1, "height": SIDE, "width": SIDE}
NETWORK = {"width": 4}
TASK = TrainTask("tasks/t", 0, "digest", 7, 0, 0.05)


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder, self.excluded = folder, frozenset[str]()
        self.key = load_site_key(folder, may_make=True)
        config = a_config("127.0.0.1:9", folder, data={"plugin": "synthetic", "arguments": IMAGES})
        self.trainer = TrainerProcess(config, folder, lambda: None, lambda: self.excluded)
        module = initialise(
            "small_cnn", NETWORK, ImageSpec(channels=1, height=SIDE, width=SIDE), 2, 0
        )
        weights = read_weights(module)
        layout = Layout(tuple(TensorSpec(n, tuple(v.shape)) for n, v in weights.items()))
        self.plan = a_plan(
            layout,
            model={"plugin": "small_cnn", "arguments": NETWORK},
            image={"channels": 1, "height": SIDE, "width": SIDE},
            classes=2,
            training={"local_steps": 4, "batch_size": 16},
            gate={"bootstrap": 20},
        )
        flatten(weights, layout).tofile(folder / "base")
        self.base = ModelFile(0, 0, folder / "base")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.trainer.stop(1.0)


def test_the_child_excludes_trains_the_past_again_and_audits_a_subject(site: Site) -> None:
    trainer, folder = site.trainer, site.folder
    held = trainer.open()
    assert held.index_file is not None
    index = dict(json.loads(held.index_file.read_text()))
    trainer.adopt(site.plan)
    everything = json.loads(held.record_set_file.read_text())
    patients = sorted({index[one] for one in everything})[:3]
    first = trainer.train(site.base, TASK, folder / "first")
    left = [one for one in everything if index[one] not in patients]
    (folder / "ids").write_text(json.dumps(left))
    again = trainer.retrain(site.base, folder / "ids", 0.05, 7, folder / "again")

    site.excluded = frozenset(patients)
    without = trainer.train(site.base, TASK, folder / "without")

    assert without.payload.sha256 == again.sha256 != first.payload.sha256
    assert without.holdings.train_records == held.train_records
    assert json.loads(without.holdings.record_set_file.read_text()) == left
    told = trainer.audit_subject(site.base, 1, patients)
    assert told.erased_records == 8
    with pytest.raises(Refused, match="no statistic of so few"):
        trainer.audit_subject(site.base, 1, patients[:1])
    values = np.fromfile(folder / "without", "<f4")
    assert hashlib.sha256(values.tobytes()).hexdigest() == without.payload.sha256
