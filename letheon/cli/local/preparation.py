"""Making a federation on one machine: plan, initial weights, and what each site holds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from letheon.cli.local.dataset import Dataset
from letheon.cli.local.folder import FederationFolder, Made, write_marker
from letheon.cli.local.toml_text import TomlTable, toml_text
from letheon.errors import BadConfig
from letheon.federation.plan import load_plan
from letheon.imaging.partition import dirichlet_partition
from letheon.imaging.records import LabelKind, Records
from letheon.imaging.sources.npz import write_npz

_SIDES_OF_A_VOLUME = ("channels", "depth", "height", "width")
RECORDS_FILE = "records.npz"
CALIBRATION_FILE = "calibration.npz"
AUDIT_FILE = "audit.npz"


@dataclass(frozen=True)
class Recipe:
    """What to make.

    `alter` may change the shard of a site before it is written. The shares of sites that are
    left out are dealt and then dropped: the others hold what they would hold beside them.
    """

    sites: int
    alpha: float
    seed: int
    plan: Path | None = None
    alter: Callable[[str, Records], Records] = lambda _site, records: records
    left_out: frozenset[str] = frozenset()

    @property
    def site_ids(self) -> tuple[str, ...]:
        """site-1, site-2, ..."""
        return tuple(f"site-{number}" for number in range(1, self.sites + 1))


def draft_of(dataset: Dataset, settings: Mapping[str, TomlTable] | None = None) -> TomlTable:
    """A plan for a data set: a small GroupNorm network, asynchronous merging by age."""
    draft: dict[str, object] = {
        "name": dataset.name.replace("_", "-").lower(),
        "classes": dataset.classes,
        "class_names": list(dataset.training.class_names),
        "encoding": "float32",
        **_task_of(dataset),
        "training": {
            "local_steps": 32,
            "batch_size": 32,
            "learning_rate": 0.04,
            "final_learning_rate": 0.01,
            "decay_versions": 80,
        },
        "strategy": {
            "plugin": "fedasync",
            "arguments": {"server_learning_rate": 0.3, "staleness": "polynomial"},
        },
        **(settings or {}),
    }
    return draft  # type: ignore[return-value]


def _task_of(dataset: Dataset) -> dict[str, object]:
    """Task, network and shape of a record."""
    shape = dataset.image_shape
    if len(shape) == 1:
        return {
            "task": {"plugin": "tabular"},
            "model": {"plugin": "mlp"},
            "image": {"features": shape[0]},
        }
    sides = ("channels", "height", "width") if len(shape) == 3 else _SIDES_OF_A_VOLUME
    image = dict(zip(sides, shape, strict=True))
    if dataset.task == "segmentation":
        return {
            "task": {"plugin": "segmentation"},
            "model": {"plugin": "monai_unet"},
            "image": image,
        }
    model: dict[str, object] = {"plugin": "small_cnn", "arguments": {"width": 16}}
    if len(shape) > 3:
        model = {"plugin": "small_cnn_3d"}
    told = {} if dataset.task == "classification" else {"task": {"plugin": dataset.task}}
    return {**told, "model": model, "image": image}


def dealing_labels(records: Records) -> npt.NDArray[np.int64]:
    """What a skewed deal goes by, [n]: the class; nothing where a record has no one class."""
    if records.label_kind is LabelKind.CLASS:
        return np.asarray(records.labels)
    return np.zeros(len(records), dtype=np.int64)


def prepare(
    folder: FederationFolder,
    dataset: Dataset,
    recipe: Recipe,
    *,
    settings: Mapping[str, TomlTable] | None = None,
) -> Made:
    """Writes everything a federation needs before its first start, the marker last.

    The training split is dealt to the sites by a Dirichlet distribution over labels; the
    validation split is halved into calibration and audit images for the calibrator; the test
    split is left out.

    Raises BadConfig for a plan that cannot be built, BadData for a split that is too small.
    """
    _write_draft(folder, dataset, recipe, settings)
    initialise(folder, recipe.seed)
    shares = dirichlet_partition(
        dealing_labels(dataset.training),
        recipe.sites,
        recipe.alpha,
        recipe.seed,
        groups=dataset.training.patients,
    )
    for site, indices in zip(recipe.site_ids, shares, strict=True):
        if site in recipe.left_out:
            continue
        shard = recipe.alter(site, dataset.training.select(indices))
        write_npz(folder.site(site) / RECORDS_FILE, shard)
    calibration, audit = halves(dataset.validation, recipe.seed)
    write_npz(folder.calibrator / CALIBRATION_FILE, calibration)
    write_npz(folder.calibrator / AUDIT_FILE, audit)
    present = tuple(site for site in recipe.site_ids if site not in recipe.left_out)
    made = Made(present, dataset.name, recipe.seed, recipe.alpha)
    write_marker(folder, made)
    return made


def _write_draft(
    folder: FederationFolder,
    dataset: Dataset,
    recipe: Recipe,
    settings: Mapping[str, TomlTable] | None,
) -> None:
    if recipe.plan is not None:
        load_plan(recipe.plan)
    folder.root.mkdir(parents=True, exist_ok=True)
    if recipe.plan is not None:
        shutil.copyfile(recipe.plan, folder.draft)
    else:
        folder.draft.write_text(toml_text(draft_of(dataset, settings)))


def halves(records: Records, seed: int) -> tuple[Records, Records]:
    """Two halves of the records, disjoint by patient where patients are known."""
    groups = records.groups()
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    first = set(order[: len(order) // 2].tolist())
    mask = np.array([group in first for group in groups], dtype=np.bool_)
    return records.select(mask), records.select(~mask)


def initialise(folder: FederationFolder, seed: int) -> None:
    """Runs `letheon federation init` as its own process: torch stays out of this one.

    Raises BadConfig with the sentence that it ended with.
    """
    shutil.rmtree(folder.federation, ignore_errors=True)
    partial = folder.root / "federation.partial"
    shutil.rmtree(partial, ignore_errors=True)
    arguments = ["federation", "init", str(folder.draft), "--out", str(partial)]
    done = subprocess.run(
        [sys.executable, "-m", "letheon.cli", *arguments, "--seed", str(seed)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if line.strip()), "no reason given")
        raise BadConfig(first.strip().removeprefix("letheon: ").rstrip("."), path=folder.draft)
    partial.rename(folder.federation)
