"""The units of a study in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from letheon.simulation.task import Event, Failed, Task, perform

GRACE_S = 10.0  # from SIGTERM to SIGKILL
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_units(tasks: Sequence[Task], workers: int) -> Generator[Event, None, None]:
    """Carries the tasks out, at most `workers` at once, each worker with one thread.

    A worker that dies loses its unit's present branch and nothing else: the unit is told as
    `Failed`, and another worker goes on with the next. Closing the iterator, or an exception
    that passes through it, ends every worker. Results are the same for any number of workers.
    """
    pool = _Pool(deque(tasks), workers)
    try:
        yield from pool.events()
    finally:
        pool.end()


@dataclass
class _Worker:
    """A process and the near end of its pipe.

    A pipe each, not a queue for all: whoever is killed while it writes to a shared queue takes
    the queue's lock along.
    """

    process: SpawnProcess
    link: Connection
    task: Task | None = None


class _Pool:
    def __init__(self, waiting: deque[Task], workers: int) -> None:
        self._waiting = waiting
        self._most = workers
        self._workers: list[_Worker] = []

    def events(self) -> Iterator[Event]:
        """Until no task is left."""
        while self._hand_out():
            links: dict[object, _Worker] = {worker.link: worker for worker in self._workers}
            for link in wait([worker.link for worker in self._workers]):
                worker = links[link]
                event = self._heard(worker)
                if event is not None:
                    yield event

    def end(self) -> None:
        """Ends every worker, by its process id."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(GRACE_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.link.close()
        self._workers.clear()

    def _hand_out(self) -> bool:
        """Gives every idle worker something to do; whether any works."""
        idle = [worker for worker in self._workers if worker.task is None]
        while self._waiting and (idle or len(self._workers) < self._most):
            task = self._waiting.popleft()
            worker = idle.pop() if idle else self._start(task.log.parent / "workers.log")
            worker.task = task
            self._send(worker, task)
        return any(worker.task is not None for worker in self._workers)

    def _start(self, log: Path) -> _Worker:
        near, far = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_serve, args=(far, log))
        with _for_a_worker():
            process.start()
        far.close()  # so that the worker's death is the end of the pipe
        worker = _Worker(process, near)
        self._workers.append(worker)
        return worker

    def _send(self, worker: _Worker, task: Task) -> None:
        try:
            worker.link.send(task)
        except OSError:
            return  # it is dead; reading from it says so

    def _heard(self, worker: _Worker) -> Event | None:
        try:
            event: Event | None = worker.link.recv()
        except (EOFError, OSError):
            return self._buried(worker)
        if event is None:
            worker.task = None
        return event

    def _buried(self, worker: _Worker) -> Event | None:
        self._workers.remove(worker)
        worker.link.close()
        worker.process.join()
        if worker.task is None:
            return None
        return Failed(worker.task.unit.name, _end_of(worker.process, worker.task))


def _end_of(process: SpawnProcess, task: Task) -> str:
    code = process.exitcode or 0
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
    log = task.log.parent / "workers.log"
    return f"its worker process {process.pid} was ended {how} (its last words are in {log})"


@contextmanager
def _for_a_worker() -> Iterator[None]:
    """Ctrl-C reaches every process of the terminal: a worker leaves it to the one that began it.

    Blocked signals and the environment are what a new process inherits.
    """
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _serve(link: Connection, log: Path) -> None:
    """A worker's life: tasks in, events out, None after each task."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:  # warnings would tear the progress bar
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    while True:
        try:
            task: Task = link.recv()
        except EOFError:
            return
        perform(task, link.send)
        link.send(None)


def _end_with_parent() -> None:
    """Also when the parent is killed, which leaves it no time to end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
