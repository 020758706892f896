"""Memory and processor use of the whole demo, sampled while it runs."""

from __future__ import annotations

import resource
import threading
import time

import psutil

PERIOD_S = 3.0


class Usage:
    """Peak memory of this process and all below it, and how busy the cores were.

    Memory is the proportional set size: pages shared by several processes count once.
    """

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)
        self._began = time.monotonic()
        self._cpu_at_start = _cpu_seconds()
        self.own_busy = 0.0  # share of all cores used by the demo's own processes, 0 to 1
        self.peak_bytes = 0
        self.busy: list[float] = []

    def __enter__(self) -> Usage:
        psutil.cpu_percent()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        seconds = (time.monotonic() - self._began) * (psutil.cpu_count() or 1)
        self.own_busy = (_cpu_seconds() - self._cpu_at_start) / seconds

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(PERIOD_S):
            processes = [me, *me.children(recursive=True)]
            self.peak_bytes = max(self.peak_bytes, sum(_share(one) for one in processes))
            self.busy.append(psutil.cpu_percent() / 100)

    @property
    def mean_busy(self) -> float:
        """Mean share of all cores in use on this machine, 0 to 1."""
        return sum(self.busy) / len(self.busy) if self.busy else 0.0


def _cpu_seconds() -> float:
    """Processor time of this process and of all below it that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return 0
