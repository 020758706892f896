"""Reads what comes next while the last is added: checking a payload costs more than adding it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")

AHEAD: Final = 2  # payloads; each may be as large as the model


def read_ahead(items: Sequence[Item], read: Callable[[Item], Read]) -> Iterator[tuple[Item, Read]]:
    """Each item with what was read for it, in order, AHEAD of them under way. Raises as `read`."""
    if len(items) < AHEAD:  # no thread for one
        for item in items:
            yield item, read(item)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[tuple[Item, Future[Read]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > AHEAD:
                due, found = waiting.popleft()
                yield due, found.result()
        for due, found in waiting:
            yield due, found.result()
