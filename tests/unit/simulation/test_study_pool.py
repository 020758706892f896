"""Units in worker processes: the same bytes however they are run, and whatever is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from tiny_study import TOML, a_study, in_this_process, results, tasks_of, write_images

from letheon.errors import BadConfig
from letheon.simulation.on_ray import run_units_on_ray
from letheon.simulation.pool import run_units
from letheon.simulation.task import Begun, Failed, Finished
from letheon.simulation.units import branches_of, done_of, units_of

STUDY = a_study()
NAMES = [unit.name for unit in units_of(STUDY)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "bars.npz").parent


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("uninterrupted")
    in_this_process(STUDY, out, data)
    told = results(out)
    assert set(told) == {f"{name}.json" for name in NAMES}
    return told


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_writes_the_same_bytes(
    workers: int, uninterrupted: dict[str, bytes], data: Path, tmp_path: Path
) -> None:
    events = list(run_units(tasks_of(STUDY, tmp_path, data), workers))
    assert [each for each in events if isinstance(each, Failed)] == []
    for unit in units_of(STUDY):
        told = [each for each in events if each.unit == unit.name]
        begun = [each.branch for each in told if isinstance(each, Begun)]
        assert tuple(begun) == branches_of(STUDY, unit) == done_of(STUDY, unit, tmp_path)
        assert told[-1] == Finished(unit.name)
    assert results(tmp_path) == uninterrupted
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_killed_loses_one_unit_and_a_second_run_mends_it(
    uninterrupted: dict[str, bytes], data: Path, tmp_path: Path
) -> None:
    events = []
    for event in run_units(tasks_of(STUDY, tmp_path, data), 1):
        events.append(event)
        if event == Begun(NAMES[0], "removal"):
            (worker,) = multiprocessing.active_children()
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
    (failed,) = [each for each in events if isinstance(each, Failed)]
    assert failed.unit == NAMES[0]
    assert "SIGKILL" in failed.message
    assert Finished(NAMES[1]) in events
    again = in_this_process(STUDY, tmp_path, data)
    assert Begun(NAMES[0], "training") not in again
    assert results(tmp_path) == uninterrupted


def test_a_unit_that_fails_is_named_and_the_others_go_on(data: Path, tmp_path: Path) -> None:
    images = [{"name": "gone", "file": "gone.npz"}, {"name": "bars", "file": "bars.npz"}]
    study = a_study(images=images, methods=[], seeds=[0])
    events = list(run_units(tasks_of(study, tmp_path, data), 1))
    (failed,) = [each for each in events if isinstance(each, Failed)]
    assert failed.unit == "gone-backdoored-0"
    assert "gone.npz" in failed.message
    assert (tmp_path / "logs" / "gone-backdoored-0.log").is_file()
    assert events[-1] == Finished("bars-backdoored-0")


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 130)])
def test_a_command_that_is_stopped_leaves_no_worker_and_goes_on(
    sent: signal.Signals,
    code: int,
    uninterrupted: dict[str, bytes],
    data: Path,
    tmp_path: Path,
) -> None:
    config = tmp_path / "study.toml"
    config.write_text(TOML)
    out = tmp_path / "out"
    words = ["simulate", "--config", config, "--data", data, "--out", out, "--workers", "1"]
    command = subprocess.Popen(
        [sys.executable, "-m", "letheon.cli", *words], stdout=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    with command.stdout as lines:
        next(line for line in lines if f"{NAMES[0]}: retrain_again" in line)
        started = psutil.Process(command.pid).children(recursive=True)
        command.send_signal(sent)
    assert command.wait(60) == code
    gone, alive = psutil.wait_procs(started, timeout=60)
    assert alive == []
    assert len(gone) == len(started) > 0
    in_this_process(STUDY, out, data)
    assert results(out) == uninterrupted


def test_methods_may_be_added_after_the_state_folder_is_gone(
    uninterrupted: dict[str, bytes], data: Path, tmp_path: Path
) -> None:
    name = NAMES[0]
    fewer = STUDY.model_copy(update={"methods": STUDY.methods[:1], "seeds": (0,)})
    in_this_process(fewer, tmp_path, data)
    for path in (tmp_path / "state" / name).iterdir():
        path.unlink()
    in_this_process(STUDY.model_copy(update={"seeds": (0,)}), tmp_path, data)
    assert results(tmp_path)[f"{name}.json"] == uninterrupted[f"{name}.json"]


@pytest.mark.skipif(find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_the_error_names_the_extra(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"letheon\[ray\]"):
        list(run_units_on_ray(tasks_of(STUDY, tmp_path, data), "local"))


def test_ray_writes_the_same_bytes(
    uninterrupted: dict[str, bytes], data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install letheon[ray]")
    events = list(run_units_on_ray(tasks_of(STUDY, tmp_path, data), "local"))
    assert [each for each in events if isinstance(each, Failed)] == []
    assert results(tmp_path) == uninterrupted
