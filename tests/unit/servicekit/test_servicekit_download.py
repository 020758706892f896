import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from letheon.errors import (
    CoordinatorUnreachable,
    DigestMismatch,
    ModelDestroyed,
    OffsetMismatch,
    UnknownModelVersion,
)
from letheon.servicekit import transfer
from letheon.servicekit.transfer import CHUNK_BYTES, read_chunks
from letheon.v1.models_pb2 import DownloadModelRequest, DownloadModelResponse, Model

SIZE = 5 * CHUNK_BYTES + 17
PAYLOAD = hashlib.shake_256(b"model").digest(SIZE)


class Shelf:
    """Serves model versions as the real coordinator does."""

    def __init__(self) -> None:
        self.models = {7: PAYLOAD}
        self.head = 7
        self.requests: list[tuple[str, int]] = []
        self.break_after: int | None = None
        self.gone: Exception | None = None

    def download(
        self, request: DownloadModelRequest, timeout: float
    ) -> Iterator[DownloadModelResponse]:
        self.requests.append((request.name, request.offset))
        if self.gone is not None:
            raise self.gone
        alias = request.name in ("models/head", "models/serving")
        version = self.head if alias else int(request.name.partition("/")[2])
        data = self.models[version]
        if request.offset > len(data):
            raise OffsetMismatch("beyond the end", committed_bytes=len(data))
        yield DownloadModelResponse(
            header=Model(
                name=f"models/{version}",
                version=version,
                epoch=2,
                size_bytes=len(data),
                sha256=hashlib.sha256(PAYLOAD if version == 7 else data).hexdigest(),
            )
        )
        sent = 0
        for chunk in read_chunks(io.BytesIO(data), request.offset, len(data)):
            if self.break_after is not None and sent >= self.break_after:
                raise CoordinatorUnreachable("gone")
            sent += len(chunk.data)
            yield DownloadModelResponse(chunk=chunk)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


Fetch = Callable[..., transfer.Downloaded]


@pytest.fixture
def fetch(shelf: Shelf, tmp_path: Path) -> Fetch:
    def download(name: str = "models/head") -> transfer.Downloaded:
        return transfer.download(shelf.download, tmp_path / "cache" / "model", name=name)

    return download


def left_over(tmp_path: Path) -> list[str]:
    folder = tmp_path / "cache"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def broken_off(shelf: Shelf, fetch: Fetch, name: str = "models/head") -> None:
    shelf.break_after = 2 * CHUNK_BYTES
    with pytest.raises(CoordinatorUnreachable):
        fetch(name)
    shelf.break_after = None


def test_a_download_is_verified_and_named_when_complete(fetch: Fetch, tmp_path: Path) -> None:
    done = fetch()
    assert done.path.read_bytes() == PAYLOAD
    assert (done.version, done.epoch) == (7, 2)
    assert done.sha256 == hashlib.sha256(PAYLOAD).hexdigest()
    assert left_over(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["models/7", "models/head", "models/serving"])
def test_a_broken_download_goes_on_with_the_version_it_began(
    shelf: Shelf, fetch: Fetch, name: str
) -> None:
    broken_off(shelf, fetch, name)
    shelf.models[9], shelf.head = b"newer", 9
    done = fetch(name)
    assert (done.version, done.path.read_bytes()) == (7, PAYLOAD)
    assert shelf.requests == [(name, 0), ("models/7", 2 * CHUNK_BYTES)]


def test_a_part_of_another_version_is_not_gone_on_with(shelf: Shelf, fetch: Fetch) -> None:
    broken_off(shelf, fetch)
    shelf.models[9] = b"newer"
    assert fetch("models/9").path.read_bytes() == b"newer"
    assert shelf.requests[-1] == ("models/9", 0)


@pytest.mark.parametrize("gone", [UnknownModelVersion("none"), ModelDestroyed("destroyed")])
def test_a_version_that_is_gone_takes_its_part_with_it(
    shelf: Shelf, fetch: Fetch, gone: Exception, tmp_path: Path
) -> None:
    broken_off(shelf, fetch)
    assert left_over(tmp_path) == ["model.part", "model.part-header"]
    shelf.gone = gone
    with pytest.raises(type(gone)):
        fetch()
    assert left_over(tmp_path) == []


def test_a_part_that_was_damaged_on_disk_is_fetched_anew(
    shelf: Shelf, fetch: Fetch, tmp_path: Path
) -> None:
    broken_off(shelf, fetch)
    part = tmp_path / "cache" / "model.part"
    part.write_bytes(b"x" * part.stat().st_size)
    assert fetch().path.read_bytes() == PAYLOAD
    assert [offset for _, offset in shelf.requests] == [0, 2 * CHUNK_BYTES, 0]


def test_a_damaged_note_of_a_part_is_no_obstacle(
    shelf: Shelf, fetch: Fetch, tmp_path: Path
) -> None:
    broken_off(shelf, fetch)
    (tmp_path / "cache" / "model.part-header").write_bytes(b"\xff\xff\xff")
    assert fetch().path.read_bytes() == PAYLOAD


def test_a_whole_part_that_was_not_renamed_yet_is_verified_and_renamed(
    shelf: Shelf, fetch: Fetch, tmp_path: Path
) -> None:
    broken_off(shelf, fetch)
    (tmp_path / "cache" / "model.part").write_bytes(PAYLOAD)
    assert fetch().path.read_bytes() == PAYLOAD
    assert shelf.requests[-1] == ("models/7", SIZE)


def test_bytes_that_are_not_the_promised_ones_are_refused(
    shelf: Shelf, fetch: Fetch, tmp_path: Path
) -> None:
    shelf.models[7] = PAYLOAD[:-1] + b"?"
    with pytest.raises(DigestMismatch):
        fetch()
    assert left_over(tmp_path) == []


def test_a_stream_without_a_header_is_no_download(tmp_path: Path) -> None:
    with pytest.raises(CoordinatorUnreachable, match="header"):
        transfer.receive([], tmp_path / "x")


def test_an_answer_is_received_in_one_stream(shelf: Shelf, tmp_path: Path) -> None:
    stream = shelf.download(DownloadModelRequest(name="models/7"), timeout=1)
    assert transfer.receive(stream, tmp_path / "answer").path.read_bytes() == PAYLOAD


def test_progress_is_told_in_bytes(shelf: Shelf, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    transfer.download(
        shelf.download,
        tmp_path / "model",
        name="models/7",
        on_progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (SIZE, SIZE)
    assert seen == sorted(seen)


def test_a_chunk_damaged_on_its_way_keeps_what_came_before(shelf: Shelf, tmp_path: Path) -> None:
    def damaged(request: DownloadModelRequest, timeout: float) -> Iterator[DownloadModelResponse]:
        for count, response in enumerate(shelf.download(request, timeout)):
            if count == 3:
                response.chunk.crc32c ^= 1
            yield response

    target = tmp_path / "model"
    with pytest.raises(CoordinatorUnreachable, match="damaged"):
        transfer.download(damaged, target, name="models/head")
    assert transfer.download(shelf.download, target, name="models/head").version == 7
    assert shelf.requests[-1] == ("models/7", 2 * CHUNK_BYTES)
