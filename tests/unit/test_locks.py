"""The locks: every package named by its hash, at the versions and for the extras of the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = {path.stem: path.read_text() for path in sorted((ROOT / "deploy/locks").glob("*.txt"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
_TRAINING = ("torch", "dicom", "nifti", "tracing", "privacy")
NEEDS: dict[str, tuple[str, ...]] = {
    "coordinator": ("postgres", "s3", "tracing"),
    "torch-cpu": _TRAINING,
    "torch-cuda": _TRAINING,
    # Ray is for more machines than one and no test needs it.
    "development": tuple(set(PROJECT["optional-dependencies"]) - {"ray"}),
}
STALE = "run: make lock"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(lock: str) -> dict[str, str]:
    """Name and version of every package."""
    found = re.findall(r"^([\w.-]+)==([\w.+]+)", LOCKS[lock], re.MULTILINE)
    return {plain(name): version for name, version in found}


def pinned() -> dict[str, str]:
    """What constraints.txt says."""
    found = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return {plain(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_every_package_and_no_address(lock: str) -> None:
    for block in re.split(r"\n(?=\S)", LOCKS[lock].strip()):
        assert re.match(r"[\w.-]+==[\w.+]+", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block
    assert "://" not in LOCKS[lock]
    assert "index" not in LOCKS[lock]


@pytest.mark.parametrize("lock", NEEDS)
def test_a_lock_has_what_pyproject_asks_for(lock: str) -> None:
    extras = PROJECT["optional-dependencies"]
    asked = [*PROJECT["dependencies"], *(each for extra in NEEDS[lock] for each in extras[extra])]
    names = {plain(re.split(r"[\[<>=!~; ]", each)[0]) for each in asked}
    assert names - set(locked(lock)) == set(), STALE


@pytest.mark.parametrize("lock", NEEDS)
def test_a_lock_has_the_versions_that_the_tests_use(lock: str) -> None:
    tested = pinned()
    other = {
        name: version
        for name, version in locked(lock).items()
        if name in tested and version.partition("+")[0] != tested[name]
    }
    assert other == {}, STALE


@pytest.mark.parametrize("lock", sorted(set(NEEDS) - {"torch-cuda"}))
def test_what_is_locked_is_pinned_for_the_tests_too(lock: str) -> None:
    # Needed by an older Python 3.11 than any that is tested, and by nothing that runs.
    assert set(locked(lock)) - set(pinned()) <= {"async-timeout", "setuptools"}, STALE


def test_the_coordinator_has_no_torch_and_only_one_lock_has_cuda() -> None:
    assert not {"torch", "monai"} & set(locked("coordinator"))
    for lock in ("torch-cpu", "development"):
        assert locked(lock)["torch"] == f"{pinned()['torch']}+cpu"
        assert not [name for name in locked(lock) if name.startswith(("nvidia", "triton"))]
    assert locked("torch-cuda")["torch"] == pinned()["torch"]
