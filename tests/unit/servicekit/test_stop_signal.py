"""SIGTERM and SIGINT reach the process whatever its main thread holds or waits for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from letheon.servicekit.stop_signal import stopped_by_signal

_OWN = (signal.SIGTERM, signal.SIGINT)


def run_script(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("number", [int(each) for each in _OWN])
def test_a_signal_that_comes_while_the_main_thread_holds_the_event_still_sets_it(
    number: int,
) -> None:
    done = run_script(
        "import os, threading\n"
        "from letheon.servicekit.stop_signal import on_stop_signal\n"
        "ending = threading.Event()\n"
        "on_stop_signal(ending.set)\n"
        "with ending._cond:\n"
        f"    os.kill(os.getpid(), {number})\n"
        "    sum(range(100_000))\n"
        "print(ending.wait(30))\n"
    )
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


def test_an_end_that_hangs_comes_with_the_code_that_was_asked_for() -> None:
    done = run_script(
        "import threading\n"
        "from letheon.servicekit.stop_signal import end_within\n"
        "end_within(0.05, 3)\n"
        "threading.Event().wait(60)\n"
    )
    assert done.returncode == 3


def test_an_end_that_hangs_outside_python_comes_with_the_stacks() -> None:
    done = run_script(
        "import ctypes\n"
        "from letheon.servicekit import stop_signal\n"
        "stop_signal._SAY_WHERE_AFTER_S = 0.1\n"
        "stop_signal.end_within(0.05, 0)\n"
        "ctypes.PyDLL(None).sleep(60)\n"  # holds the interpreter, so no other thread runs
    )
    assert done.returncode == 1
    assert "most recent call first" in done.stderr


def test_a_signal_reaches_a_main_thread_that_waits() -> None:
    with stopped_by_signal() as stopped:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
        assert stopped.wait(30)


def test_other_signals_are_not_taken_for_a_stop() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with stopped_by_signal() as stopped:
            os.kill(os.getpid(), signal.SIGUSR1)
        assert not stopped.is_set()  # all that was heard has been read by now
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_former_handlers_come_back_afterwards() -> None:
    before = [signal.getsignal(number) for number in _OWN]
    before_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before_fd)
    with stopped_by_signal() as stopped:
        assert [signal.getsignal(number) for number in _OWN] != before
    assert [signal.getsignal(number) for number in _OWN] == before
    assert signal.set_wakeup_fd(before_fd) == before_fd
    assert not stopped.is_set()
