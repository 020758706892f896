import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from letheon.errors import BadConfig, Refused
from letheon.servicekit import with_parent
from letheon.servicekit.processes import Child, Supervisor

SLEEPER = (sys.executable, "-S", "-c", "import time; print('up', flush=True); time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); time.sleep(600)",
)


def a_child(tmp_path: Path, command: Sequence[str] = SLEEPER, name: str = "child") -> Child:
    return Child(command, log_path=tmp_path / f"{name}.log", name=name)


def await_output(child: Child, text: str = "up", within_s: float = 60.0) -> None:
    """The child's log is a file, so it is looked at until it says so."""
    pause = threading.Event()
    for _ in range(int(within_s / 0.01)):
        if text in child.log_tail():
            return
        assert child.poll() is None, child.log_tail()
        pause.wait(0.01)
    raise AssertionError(f"no {text!r} in {child.log_path}")


def test_a_child_is_stopped_by_a_request_to_end(tmp_path: Path) -> None:
    child = a_child(tmp_path).start()
    await_output(child)
    assert child.stop(grace_s=20) == -signal.SIGTERM
    assert child.stop() == -signal.SIGTERM  # repeating it is harmless


def test_a_child_that_ignores_the_request_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = a_child(tmp_path, STUBBORN).start()
    await_output(child)
    assert child.stop(grace_s=0.05) == -signal.SIGKILL


def test_a_killed_child_can_be_started_again(tmp_path: Path) -> None:
    child = a_child(tmp_path).start()
    first = child.pid
    assert child.kill() == -signal.SIGKILL
    child.start()
    assert child.pid != first
    child.kill()


def test_a_running_child_is_not_started_twice(tmp_path: Path) -> None:
    child = a_child(tmp_path).start()
    with pytest.raises(Refused, match="runs already"):
        child.start()
    child.kill()


def test_the_process_id_is_that_of_the_program_itself(tmp_path: Path) -> None:
    child = a_child(tmp_path, (sys.executable, "-c", "import os; print(os.getpid())")).start()
    assert child.wait(20) == 0
    assert child.log_tail() == str(child.pid)


def test_the_exit_status_and_the_output_are_kept(tmp_path: Path) -> None:
    child = a_child(tmp_path, (sys.executable, "-c", "print('why'); raise SystemExit(78)"))
    assert child.start().wait(20) == 78
    assert child.poll() == 78
    assert child.log_tail() == "why"


def test_a_program_that_does_not_exist_is_a_bad_config(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="no-such-program"):
        a_child(tmp_path, ("no-such-program",)).start()


def test_a_child_that_was_not_started_has_no_process(tmp_path: Path) -> None:
    child = a_child(tmp_path)
    assert child.poll() is None
    with pytest.raises(Refused, match="not started"):
        _ = child.pid


def test_a_child_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    child = a_child(tmp_path)

    def start_and_see_it_run() -> None:
        child.start()
        await_output(child)

    starter = threading.Thread(target=start_and_see_it_run)
    starter.start()
    starter.join()
    with pytest.raises(TimeoutError):
        child.wait(0.2)
    child.kill()


def test_a_broken_pipe_ends_a_program_as_it_would_in_a_shell(tmp_path: Path) -> None:
    child = a_child(tmp_path, ("sh", "-c", "kill -PIPE $$"), name="pipe").start()
    assert child.wait(20) == -signal.SIGPIPE


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
@pytest.mark.parametrize("when", ["while it runs", "while it starts"])
def test_killing_the_parent_ends_its_children(tmp_path: Path, when: str) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from letheon.servicekit.processes import Child

        child = Child({SLEEPER!r}, log_path=Path({str(tmp_path / "orphan.log")!r})).start()
        print(child.pid, flush=True)
        while {when == "while it runs"} and "up" not in child.log_tail():
            pass
        print("go on", flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert parent.stdout.readline() == b"go on\n"
        os.kill(parent.pid, signal.SIGKILL)
        gone, _ = psutil.wait_procs([child], timeout=20)
        assert gone == [child]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_a_program_whose_parent_is_gone_already_never_runs(tmp_path: Path) -> None:
    launcher = Path(with_parent.__file__)
    mark = tmp_path / "ran"
    stranger = str(os.getppid())  # not the process that starts it
    ended = subprocess.run(
        [sys.executable, "-I", "-S", str(launcher), stranger, "touch", str(mark)], check=False
    )
    assert ended.returncode == -signal.SIGKILL
    assert not mark.exists()


def test_a_supervisor_stops_its_children_in_reverse_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    report = (
        "import pathlib, signal, sys\n"
        "def end(*_):\n"
        f"    with pathlib.Path({str(order)!r}).open('a') as f: f.write(sys.argv[1])\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "while True: signal.pause()\n"
    )
    with Supervisor(grace_s=20) as supervisor:
        for name in "abc":
            command = (sys.executable, "-S", "-c", report, name)
            await_output(supervisor.start(a_child(tmp_path, command, name)))
        assert supervisor.ended() == ()
    assert order.read_text() == "cba"


def test_a_supervisor_names_the_children_that_ended(tmp_path: Path) -> None:
    with Supervisor() as supervisor:
        short = supervisor.start(a_child(tmp_path, (sys.executable, "-S", "-c", ""), "short"))
        supervisor.start(a_child(tmp_path, name="long"))
        short.wait(20)
        assert supervisor.ended() == (short,)
