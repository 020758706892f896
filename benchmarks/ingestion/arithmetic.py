"""Merging into the head and folding into a contribution, against the memory they have to move."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.ingestion.figures import Figure, interleaved, medians
from benchmarks.ingestion.payloads import VALUES_PER_MB, noise
from letheon.federation.replay import fold, merge_delta

AT_LEAST = 0.6
_COEFFICIENT = 0.37
_NAME = "numpy: the same reads and writes"


def measure(*, megabytes: int, repeats: int) -> Iterator[Figure]:
    """Both read two vectors and write one, as one addition by numpy does."""
    values = megabytes * VALUES_PER_MB
    delta, head, total, sink = (
        noise(values, 1),
        noise(values, 2),
        noise(values, 3),
        noise(values, 4),
    )
    delta.flags.writeable = False
    found = medians(
        interleaved(
            {
                "merge": lambda _: seconds(lambda: merge_delta(head, _COEFFICIENT, delta)),
                "fold": lambda _: seconds(lambda: fold(total, _COEFFICIENT, delta)),
                "bound": lambda _: seconds(lambda: np.add(sink, delta, out=sink)),
            },
            repeats=repeats,
            warm_ups=2,
        )
    )
    case = f"{megabytes} MB"
    yield Figure("merge into the head", case, found["merge"], "s", _NAME, found["bound"], AT_LEAST)
    yield Figure(
        "fold into a contribution", case, found["fold"], "s", _NAME, found["bound"], AT_LEAST
    )


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, in this thread: none of it is waiting, and nobody else's work counts."""
    began = time.thread_time()
    work()
    return time.thread_time() - began
