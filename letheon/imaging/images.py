"""The pixels of records: an array, or a store that decodes a row when it is first needed."""

from __future__ import annotations

import itertools
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from letheon.errors import BadData

Pixels = npt.NDArray[np.float32]  # [n, *shape]
Indices = npt.NDArray[np.int64]  # rows

# Rows decoded at once where all of them are gone through.
_BLOCK = 64
_numbers = itertools.count()


class Images(Protocol):
    """What `Records.images` is: a numpy array, or anything that answers like one row by row.

    A number gives one row `[*shape]`; a slice, an index array or a mask gives `[k, *shape]`. What
    is given belongs to the caller. `np.asarray` of a store decodes all of it.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows first."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 for images; uint8 for masks."""
        ...

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]: ...  # noqa: ANN401 - as numpy's
    def __iter__(self) -> Iterator[Any]: ...


class DecodedRows:
    """Least recently used rows, up to a number of bytes. Several stores may share one."""

    def __init__(self, most_bytes: int) -> None:
        if most_bytes < 0:
            raise ValueError("the bytes of decoded rows must be >= 0")
        self._most = most_bytes
        self._held = 0
        self._rows: OrderedDict[tuple[int, int], npt.NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def held_bytes(self) -> int:
        """Bytes of the rows held now."""
        return self._held

    def get(self, key: tuple[int, int]) -> npt.NDArray[Any] | None:
        """The row, now the most recently used; None if it is not held."""
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: tuple[int, int], row: npt.NDArray[Any]) -> None:
        """Keeps a row; the least recently used ones make room."""
        if row.nbytes > self._most:
            return
        with self._lock:
            if (old := self._rows.pop(key, None)) is not None:
                self._held -= old.nbytes
            self._rows[key] = row
            self._held += row.nbytes
            while self._held > self._most:
                self._held -= self._rows.popitem(last=False)[1].nbytes


class _Store(ABC):
    """Rows behind numpy's indexing."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def _row(self, row: int) -> npt.NDArray[Any]: ...

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows: Any, /) -> npt.NDArray[Any]:  # noqa: ANN401 - as numpy's
        if isinstance(rows, int | np.integer):
            return self._row(_places(rows, len(self))[0]).copy()
        if isinstance(rows, tuple):
            found = self[rows[0]]
            one = isinstance(rows[0], int | np.integer)
            return np.asarray(found[rows[1:] if one else (slice(None), *rows[1:])])
        places = _places(rows, len(self))
        found = np.empty((len(places), *self.shape[1:]), dtype=self.dtype)
        for place, row in enumerate(places):
            found[place] = self._row(row)
        return found

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("the pixels are decoded: they cannot be had without a copy")
        return self[:].astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dtype} of shape {list(self.shape)})"


class LazyImages(_Store):
    """Rows that `decode` makes when they are asked for; `decoded` keeps the recent ones.

    `decode` maps a row number to an array of `shape`, the same one each time, and raises BadData.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, ...],
        decode: Callable[[int], npt.NDArray[Any]],
        decoded: DecodedRows,
        *,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.shape = (count, *shape)
        self.dtype = np.dtype(dtype)
        self._decode = decode
        self._decoded = decoded
        self._number = next(_numbers)  # its rows in a shared cache

    def _row(self, row: int) -> npt.NDArray[Any]:
        key = (self._number, row)
        held = self._decoded.get(key)
        if held is None:
            held = self._decode(row)
            if held.shape != self.shape[1:] or held.dtype != self.dtype:
                raise BadData(
                    f"record {row} was decoded to {held.dtype} of shape {list(held.shape)}, "
                    f"not {self.dtype} of shape {list(self.shape[1:])}"
                )
            self._decoded.put(key, held)
        return held


class _Selected(_Store):
    """Some rows of a store, in any order, still decoded when asked for."""

    def __init__(self, store: Images, rows: Indices) -> None:
        self.shape = (len(rows), *store.shape[1:])
        self.dtype = store.dtype
        self._store = store
        self._rows = rows

    def _row(self, row: int) -> npt.NDArray[Any]:
        return self._store[int(self._rows[row])]

    def select(self, rows: Indices) -> _Selected:
        """Rows of these rows."""
        return _Selected(self._store, self._rows[rows])


def select(images: Images, rows: Indices) -> Images:
    """The rows: copied from an array, a view that stays lazy of anything else."""
    if isinstance(images, np.ndarray):
        return images[rows]
    return images.select(rows) if isinstance(images, _Selected) else _Selected(images, rows)


def blocks(images: Images) -> Iterator[npt.NDArray[Any]]:
    """All rows in order: an array whole, a store in blocks of a few rows."""
    if isinstance(images, np.ndarray):
        yield images
        return
    for start in range(0, len(images), _BLOCK):
        yield images[start : start + _BLOCK]


def _places(rows: Any, count: int) -> list[int]:  # noqa: ANN401 - as numpy's
    """Row numbers, by numpy's own rules."""
    return [int(place) for place in np.atleast_1d(np.arange(count)[rows])]
