"""What the short experiments beside the studies share: their command line and their file."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.errors import BadConfig
from letheon.simulation.config import Kind, StudyConfig, load_study
from letheon.simulation.units import Unit

RESULTS = Path("benchmarks/results/laboratory")


@dataclass(frozen=True)
class Experiment:
    """Some units of a study, where the study keeps its state, and where the result goes."""

    study: StudyConfig
    out: Path  # the study's folder
    data: Path | None
    seeds: tuple[int, ...]
    result: Path

    def unit(self, images: str, kind: Kind, seed: int) -> Unit:
        """Raises BadConfig if the study has no such images."""
        for config in self.study.images:
            if config.name == images:
                return Unit(config, kind, seed)
        known = ", ".join(config.name for config in self.study.images)
        raise BadConfig(f"the study {self.study.name} has no images {images!r}; it has: {known}")


def read_experiment(name: str, study: str, arguments: Sequence[str] | None) -> Experiment:
    """From a command line. Raises BadConfig for a study that cannot be read."""
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--study", type=Path, default=Path(f"benchmarks/studies/{study}.toml"))
    parser.add_argument("--out", type=Path, default=Path(f"out/studies/{study}"))
    parser.add_argument("--data", type=Path, help="folder of the images; LETHEON_DATA without it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--result", type=Path, default=RESULTS / f"{name}.json")
    told = parser.parse_args(arguments)
    return Experiment(load_study(told.study), told.out, told.data, tuple(told.seeds), told.result)


def write_result(path: Path, told: Mapping[str, Any]) -> None:
    """The file appears whole or not at all; the same numbers give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    partial.replace(path)
