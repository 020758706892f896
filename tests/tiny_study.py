"""A study of seconds on images that the test writes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from letheon.simulation.config import StudyConfig, parse_study
from letheon.simulation.task import Event, Task, perform
from letheon.simulation.units import units_of

TOML = """
name = "tiny"
seeds = [0, 1]
kinds = ["backdoored"]
sites = 3
before = 4
after = 4
look_every = 2
snapshots = [2, 4]

[plan]
model = { plugin = "small_cnn", arguments = { width = 4 } }
training = { local_steps = 1, batch_size = 8 }
gate = { bootstrap = 5, max_attempts = 1 }

[[images]]
name = "bars"
file = "bars.npz"

[[methods]]
label = "removal"
method = "removal"

[[methods]]
label = "leave"
method = "leave"
"""


def write_images(path: Path, records: int = 1300) -> Path:
    """Noise with a bright bar whose place is the class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, records)
    images = generator.integers(0, 120, (records, 8, 8), dtype=np.uint8)
    for label in range(3):
        images[labels == label, 2 * label : 2 * label + 2] += 100
    np.savez(path, images=images, labels=labels, class_names=np.array(["low", "mid", "high"]))
    return path


def a_study(**changes: Any) -> StudyConfig:
    """The study of `TOML` with other top-level keys."""
    return parse_study({**tomllib.loads(TOML), **changes}, origin="the test")


def tasks_of(study: StudyConfig, out: Path, data: Path) -> list[Task]:
    """Every unit."""
    return [Task(study, unit, out, data) for unit in units_of(study)]


def in_this_process(study: StudyConfig, out: Path, data: Path) -> list[Event]:
    """Carries every unit out, one after the other."""
    events: list[Event] = []
    for task in tasks_of(study, out, data):
        perform(task, events.append)
    return events


def results(out: Path) -> dict[str, bytes]:
    """Every unit's file."""
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.json"))}
