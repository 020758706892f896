"""What one delta costs the coordinator, counted and not timed: the guard against regressions.

Counted over the use case behind PushDelta on SQLite, and over a real server for the copies. No
count depends on the machine or its load.
"""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import Client, a_coordinator, a_core, a_plan, a_vector, enrol, take_delta
from sqlalchemy import Engine, event, text

from coordinator.core import Core
from coordinator.domain.upload import DeltaPurpose, Header
from coordinator.training_wiring import receive_upload
from letheon.federation.encoding import encode
from letheon.federation.parameters import Layout, TensorSpec
from letheon.servicekit.chunks import CHUNK_BYTES, RawChunk, check_chunk, parse_push
from letheon.v1.models_pb2 import Chunk
from letheon.v1.training_pb2 import PushDeltaRequest

LARGE = Layout((TensorSpec("w", (16 * CHUNK_BYTES // 4,)),))  # 16 chunks
FSYNCS = 2  # the file, and the folder it is named in; SQLite syncs its log once more by itself
STATEMENTS = 25
COMMITS = 2  # that the upload began; the delta itself
ROWS = Counter(entries=1, receipts=1)


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    """A coordinator that has taken a delta before: what is done once is done."""
    core = a_core(tmp_path, plan=a_plan(LARGE))
    enrol(core, "north")
    take_delta(core, "north", a_vector(1, LARGE))
    yield core
    core.store.close()  # type: ignore[attr-defined]


def engine_of(core: Core) -> Engine:
    engine: Engine = core.store._engine  # type: ignore[attr-defined]
    return engine


@contextmanager
def statements(core: Core) -> Iterator[list[str]]:
    """The first words of everything sent to the database."""
    sent: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engine = engine_of(core)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def counted_syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of what is made durable by this process, SQLite apart."""
    synced: list[str] = []
    for name in ("fsync", "fdatasync"):
        real = getattr(os, name)

        def counting(descriptor: int, real: object = real) -> None:
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
            real(descriptor)  # type: ignore[operator]

        monkeypatch.setattr(os, name, counting)
    yield synced
    monkeypatch.undo()


def row_counts(core: Core) -> Counter[str]:
    with engine_of(core).connect() as connection:
        tables = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        return Counter(
            {
                name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608
                for (name,) in tables.all()
            }
        )


def test_a_delta_is_synced_once_and_named_once(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted_syncs(monkeypatch) as synced:
        take_delta(core, "north", a_vector(2, LARGE), update_id="u")
    assert synced == ["u.part", "payloads"]
    assert len(synced) == FSYNCS


def test_a_delta_sends_a_bounded_number_of_statements(core: Core) -> None:
    with statements(core) as sent:
        take_delta(core, "north", a_vector(2, LARGE))
    assert len(sent) <= STATEMENTS, sent
    assert sum(s.startswith("BEGIN IMMEDIATE") for s in sent) == COMMITS


def test_a_delta_sends_as_many_statements_after_many_deltas_of_many_sites(tmp_path: Path) -> None:
    core = a_core(tmp_path)
    enrol(core, *(f"site-{number}" for number in range(40)))
    take_delta(core, "site-0", a_vector(100))  # looks up the newest checkpoint, once
    with statements(core) as first:
        take_delta(core, "site-0", a_vector(0))
    for number in range(40):
        take_delta(core, f"site-{number}", a_vector(number))
    with statements(core) as last:
        take_delta(core, "site-0", a_vector(99))
    core.store.close()  # type: ignore[attr-defined]
    assert last == first


def test_a_delta_leaves_one_row_of_the_ledger_and_one_receipt(core: Core) -> None:
    before = row_counts(core)
    take_delta(core, "north", a_vector(2, LARGE))
    assert row_counts(core) - before == ROWS


def test_a_delta_is_taken_without_a_buffer_of_its_size(core: Core) -> None:
    """All that Python and numpy allocate at once, from the first chunk to the receipt."""
    payload = encode(a_vector(2, LARGE), "float32")
    header = a_header(core, payload)
    pieces = [payload[at : at + CHUNK_BYTES] for at in range(0, len(payload), CHUNK_BYTES)]
    tracemalloc.start()
    try:
        receive_upload(core).receive(header, lambda _: iter(pieces))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The scratch of the norm is 2 MiB, that of the merge 1 MiB; one is gone before the other.
    assert peak < 3 * CHUNK_BYTES < len(payload)


def a_header(core: Core, payload: bytes) -> Header:
    return Header(
        update_id="u",
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        offset=0,
        layout=tuple((t.name, t.shape, "float32") for t in LARGE.tensors),
        purpose=DeltaPurpose("north", "train-0-0-0", 0, 0, 0, 100, 0.5),
    )


def test_a_chunk_is_copied_once_on_its_way_to_the_disk() -> None:
    """Bytes newly allocated between the message that arrived and the data that is written."""
    data = os.urandom(CHUNK_BYTES)
    message = PushDeltaRequest(chunk=Chunk(offset=0, data=data, crc32c=1)).SerializeToString()
    tracemalloc.start()
    try:
        chunk = parse_push(message)
        assert isinstance(chunk, RawChunk)
        with pytest.raises(Exception, match="damaged"):  # it was read whole for its checksum
            check_chunk(chunk, 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1.01 * CHUNK_BYTES


def test_the_server_reads_chunks_without_protobuf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Counter[str] = Counter()
    real = parse_push

    def counting(message: bytes) -> PushDeltaRequest | RawChunk:
        found = real(message)
        made[type(found).__name__] += 1
        return found

    monkeypatch.setattr("coordinator.rpc.raw_uploads.parse_push", counting)
    with a_coordinator(tmp_path, plan=a_plan(LARGE)) as (_, client):
        _push(client)
    assert made == {"PushDeltaRequest": 1, "RawChunk": 16}


def _push(client: Client) -> None:
    client.register("north")
    client.push("north", a_vector(1, LARGE))
