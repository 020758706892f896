"""`letheon up` as a person uses it: start, look, stop, go on; nothing is ever left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LETHEON = [sys.executable, "-m", "letheon.cli"]


def eventually(what: Callable[[], Any], within_s: float = 60.0) -> Any:
    """The first true answer. Fails after `within_s`."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(0.2)
    pytest.fail(f"not so within {within_s:.0f} s")


def processes_of(folder: Path) -> list[int]:
    """Processes that were given a path in the folder."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words) and process.pid != os.getpid():
            found.append(process.pid)
    return found


@contextmanager
def up(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`letheon up` with three sites, and the document it prints once it runs."""
    words = ["up", "--synthetic", "--sites", "3", "--port", "0", "--pace", "0.3"]
    process = subprocess.Popen(
        [*LETHEON, *words, *more, "--dir", str(folder), "--format", "json"],
        stdout=subprocess.PIPE,
        stderr=(folder.parent / f"{folder.name}.err").open("a"),
        text=True,
    )
    try:
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            if line.startswith("}"):
                break
        assert text, (folder.parent / f"{folder.name}.err").read_text()
        yield process, json.loads(text)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)


def ask(address: str, *words: str) -> Any:
    """A command's document, or None while the coordinator is away."""
    done = subprocess.run(
        [*LETHEON, "--coordinator", address, *words, "--format", "json"],
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout) if done.returncode == 0 else None


def head(address: str) -> int:
    status = ask(address, "status")
    return int(status["federation"]["head_version"]) if status else -1


def check_metrics(folder: Path, pages: dict[str, str]) -> None:
    """Every process serves its metrics, and prometheus.yml names every page."""
    promised = {
        "coordinator": ["letheon_update_stage_seconds_bucket", "letheon_erasure_queue_depth"],
        "calibrator": ["letheon_calibrator_jobs"],
        "site-2": ["letheon_agent_tasks_total"],
    }
    assert set(pages) == {"coordinator", "calibrator", "site-1", "site-2", "site-3"}
    scraped = (folder / "prometheus.yml").read_text()
    for name, page in pages.items():
        assert page in scraped
        with urllib.request.urlopen(f"http://{page}/metrics", timeout=60) as answer:
            text = answer.read().decode()
        assert all(metric in text for metric in promised.get(name, ["letheon_agent_"]))


def kill_coordinator(folder: Path) -> None:
    for pid in processes_of(folder):
        words = psutil.Process(pid).cmdline()
        if "coordinator" in words and "-m" in words:
            os.kill(pid, signal.SIGKILL)


def test_it_trains_stops_cleanly_and_goes_on_although_the_coordinator_is_killed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "fed"
    with up(folder) as (process, document):
        address = document["coordinator"]
        eventually(lambda: head(address) >= 5)
        assert len(ask(address, "sites")["sites"]) == 3
        check_metrics(folder, document["metrics"])
        assert ask(address, "ledger", "verify")["holds"]
        reached = head(address)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert processes_of(folder) == []
    with up(folder) as (_, document):
        address = document["coordinator"]
        assert eventually(lambda: head(address) >= reached)
        kill_coordinator(folder)
        reached = eventually(lambda: ask(address, "status"))["federation"]["head_version"]
        eventually(lambda: head(address) > reached)
        assert ask(address, "ledger", "verify")["holds"]
    assert processes_of(folder) == []


def test_kill_9_of_the_command_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "fed"
    with up(folder) as (process, _):
        assert processes_of(folder)
        process.kill()
        process.wait(60)
        eventually(lambda: not processes_of(folder), within_s=20)
