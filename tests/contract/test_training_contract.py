"""letheon.v1.Training behind a real server: every bad upload leaves the head as it was."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from builders import LAYOUT, Client, a_coordinator, a_plan, a_vector, messages

from coordinator.bootstrap import Coordinator
from letheon.errors import (
    ChecksumMismatch,
    DigestMismatch,
    DiskFull,
    LetheonError,
    MalformedName,
    MalformedRequest,
    MalformedUpdate,
    MemoryShort,
    OffsetMismatch,
    StaleEpoch,
    TooManyTransfers,
    UnknownErasure,
    UnknownModelVersion,
    UnknownSite,
    UnknownTask,
    UpdateAltered,
    UploadBusy,
)
from letheon.federation.encoding import ENCODINGS, decode, encode
from letheon.federation.parameters import digest
from letheon.servicekit.transfer import download, push
from letheon.v1 import federation_pb2, ledger_pb2, training_pb2
from letheon.v1.models_pb2 import Chunk

Running = tuple[Coordinator, Client]
PAYLOAD = encode(a_vector(7), "float32")


@pytest.fixture
def running(tmp_path: Path, chosen_database: str | None) -> Iterator[Running]:
    with a_coordinator(tmp_path, database_url=chosen_database) as (coordinator, client):
        client.register("north", "south")
        yield coordinator, client


def head_digest(coordinator: Coordinator) -> tuple[int, str]:
    position, head = coordinator.core.live.snapshot()
    return position.entry, digest(head)


def counters(client: Client) -> dict[str, int]:
    status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
    return dict(status.updates)


def with_nan() -> bytes:
    vector = a_vector(7)
    vector[40] = np.nan  # the ninth element of out, behind 32 + 8 others
    return encode(vector, "float32")


def renamed(header: training_pb2.UploadHeader) -> None:
    header.layout[1].name = "second.bias"


def reshaped(header: training_pb2.UploadHeader) -> None:
    header.layout[0].shape[:] = [4, 8]


def retyped(header: training_pb2.UploadHeader) -> None:
    header.layout[2].dtype = "float16"


def shortened(header: training_pb2.UploadHeader) -> None:
    del header.layout[2]


def of_unknown_site(header: training_pb2.UploadHeader) -> None:
    header.delta.site = "sites/nowhere"


def of_next_epoch(header: training_pb2.UploadHeader) -> None:
    header.delta.epoch = 1


def of_future_base(header: training_pb2.UploadHeader) -> None:
    header.delta.base_version = 9


def of_negative_base(header: training_pb2.UploadHeader) -> None:
    header.delta.base_version = -1


def too_long(header: training_pb2.UploadHeader) -> None:
    header.size_bytes += 4


def without_purpose(header: training_pb2.UploadHeader) -> None:
    header.ClearField("delta")


def with_path_as_id(header: training_pb2.UploadHeader) -> None:
    header.update_id = "../../etc/passwd"


def with_short_digest(header: training_pb2.UploadHeader) -> None:
    header.sha256 = b"short"


def with_other_digest(header: training_pb2.UploadHeader) -> None:
    header.sha256 = hashlib.sha256(b"other").digest()


def as_patch(header: training_pb2.UploadHeader) -> None:
    header.patch.erasure = "erasures/none"
    header.patch.kind = training_pb2.PatchPurpose.PATCH


def as_answer(header: training_pb2.UploadHeader) -> None:
    header.answer.site = "sites/north"
    header.answer.task = "tasks/none"


@pytest.mark.parametrize(
    ("spoil", "error", "fact"),
    [
        (renamed, MalformedUpdate, {"rule": "names", "tensor": "second.bias"}),
        (reshaped, MalformedUpdate, {"rule": "shape", "tensor": "first.weight"}),
        (retyped, MalformedUpdate, {"rule": "dtype", "tensor": "out"}),
        (shortened, MalformedUpdate, {"rule": "count", "tensor": "out"}),
        (too_long, MalformedUpdate, {"rule": "size"}),
        (of_unknown_site, UnknownSite, {"site": "nowhere"}),
        (of_next_epoch, StaleEpoch, {"epoch": "0"}),
        (of_future_base, UnknownModelVersion, {"version": "9"}),
        (of_negative_base, UnknownModelVersion, {}),
        (without_purpose, MalformedRequest, {"field": "purpose"}),
        (with_path_as_id, MalformedName, {}),
        (with_short_digest, MalformedRequest, {"field": "sha256"}),
        (with_other_digest, DigestMismatch, {}),
        (as_patch, UnknownErasure, {}),
        (as_answer, UnknownTask, {}),
    ],
)
def test_a_bad_header_is_refused_and_the_head_stays(
    running: Running,
    spoil: Callable[[training_pb2.UploadHeader], None],
    error: type[LetheonError],
    fact: dict[str, str],
) -> None:
    coordinator, client = running
    before = head_digest(coordinator)
    header = client.header("north", PAYLOAD)
    spoil(header)
    with pytest.raises(error) as caught:
        client.send(header, PAYLOAD)
    assert fact.items() <= caught.value.facts.items()
    assert head_digest(coordinator) == before
    assert coordinator.core.staging.all() == []
    # Nothing is lost: the same site's good upload is merged right after.
    assert client.push("north", a_vector(7)).version == 1


def test_a_delta_with_nan_names_the_tensor_and_is_discarded(running: Running) -> None:
    coordinator, client = running
    before = head_digest(coordinator)
    payload = with_nan()
    header = client.header("north", payload)
    with pytest.raises(MalformedUpdate) as caught:
        client.send(header, payload)
    assert (caught.value.facts["rule"], caught.value.facts["tensor"]) == ("finite", "out")
    assert head_digest(coordinator) == before
    query = training_pb2.QueryUploadRequest(update_id=header.update_id, site="sites/north")
    assert client.training.QueryUpload(query).committed_bytes == 0
    assert counters(client) == {"rejected": 1}


def test_a_delta_beyond_the_norm_of_the_plan_is_rejected(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, plan=a_plan(max_delta_norm=0.5)) as (coordinator, client):
        client.register("north")
        with pytest.raises(MalformedUpdate) as caught:
            client.push("north", a_vector(1, scale=10.0))
        assert caught.value.facts["rule"] == "norm"
        assert coordinator.core.live.position.version == 0


def test_a_damaged_chunk_keeps_what_came_before_it(running: Running) -> None:
    _, client = running
    header = client.header("north", PAYLOAD)

    def damaged() -> Iterator[training_pb2.PushDeltaRequest]:
        stream = messages(header, PAYLOAD, chunk_bytes=64)
        yield next(stream)
        yield next(stream)
        bad = next(stream)
        bad.chunk.crc32c ^= 1
        yield bad

    with pytest.raises(ChecksumMismatch):
        client.training.PushDelta(damaged())
    assert committed(client, header) == 64
    header.offset = 64
    assert client.send(header, PAYLOAD).receipt.version == 1


def test_an_oversized_chunk_is_refused(running: Running) -> None:
    coordinator, client = running
    before = head_digest(coordinator)
    header = client.header("north", PAYLOAD)
    data = bytes((1 << 20) + 1)

    def oversized() -> Iterator[training_pb2.PushDeltaRequest]:
        yield training_pb2.PushDeltaRequest(header=header)
        chunk = Chunk(offset=0, data=data, crc32c=google_crc32c.value(data))
        yield training_pb2.PushDeltaRequest(chunk=chunk)

    with pytest.raises(MalformedUpdate) as caught:
        client.training.PushDelta(oversized())
    assert caught.value.facts["rule"] == "chunk"
    assert head_digest(coordinator) == before


def test_a_message_above_the_limit_never_reaches_the_service(running: Running) -> None:
    coordinator, client = running
    before = head_digest(coordinator)
    header = client.header("north", PAYLOAD)
    header.layout[0].name = "x" * (3 << 20)
    with pytest.raises(LetheonError):
        client.training.PushDelta(messages(header, PAYLOAD))
    assert head_digest(coordinator) == before
    assert client.push("north", a_vector(7)).version == 1


def test_more_bytes_than_promised_are_refused(running: Running) -> None:
    _, client = running
    header = client.header("north", PAYLOAD)
    with pytest.raises(MalformedUpdate) as caught:
        client.training.PushDelta(messages(header, PAYLOAD + b"1234"))
    assert caught.value.facts["rule"] == "size"


def committed(client: Client, header: training_pb2.UploadHeader) -> int:
    query = training_pb2.QueryUploadRequest(update_id=header.update_id, site="sites/north")
    found = client.training.QueryUpload(query)
    assert found.WhichOneof("outcome") == "committed_bytes"
    return int(found.committed_bytes)


def test_a_cut_stream_is_resumed_at_the_committed_offset(running: Running) -> None:
    coordinator, client = running
    staging = coordinator.core.staging
    header = client.header("north", PAYLOAD)

    def cut() -> Iterator[training_pb2.PushDeltaRequest]:
        stream = messages(header, PAYLOAD, chunk_bytes=50)
        for _ in range(3):
            yield next(stream)
        wait_until(lambda: staging.committed_bytes(header.update_id) == 100)
        raise RuntimeError("the link went down")

    with pytest.raises(LetheonError):
        client.training.PushDelta(cut(), timeout=30.0)
    wait_until(lambda: not staging.is_open(header.update_id))
    assert committed(client, header) == 100
    header.offset = 150
    with pytest.raises(OffsetMismatch) as caught:
        client.send(header, PAYLOAD)
    assert caught.value.facts["committed_bytes"] == "100"
    header.offset = 100
    receipt = client.send(header, PAYLOAD).receipt
    assert receipt.version == 1
    assert receipt.sha256 == hashlib.sha256(PAYLOAD).hexdigest()


def wait_until(condition: Callable[[], bool]) -> None:
    """The server learns of what a client did a moment later."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it does not come true")


def test_an_upload_in_segments_survives_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    path = tmp_path / "payload"
    path.write_bytes(PAYLOAD)
    with a_coordinator(tmp_path) as (_, client):
        client.register("north")
        header = client.header("north", PAYLOAD)
        found = client.training.PushDelta(messages(header, PAYLOAD[:80], chunk_bytes=40))
        assert found.committed_bytes == 80
    with a_coordinator(tmp_path) as (_, client):
        assert committed(client, header) == 80
        receipt = push(
            client.training.PushDelta,
            header,
            path,
            query=client.training.QueryUpload,
            segment_bytes=60,
        )
        assert receipt.version == 1


def test_two_streams_of_one_upload_do_not_mix(running: Running) -> None:
    coordinator, client = running
    header = client.header("north", PAYLOAD)
    go_on = threading.Event()

    def slow() -> Iterator[training_pb2.PushDeltaRequest]:
        stream = messages(header, PAYLOAD, chunk_bytes=100)
        yield next(stream)
        yield next(stream)
        go_on.wait(20)
        yield from stream

    first = client.training.PushDelta.future(slow(), timeout=30.0)
    wait_until(lambda: coordinator.core.staging.is_open(header.update_id))
    try:
        with pytest.raises(UploadBusy):
            client.send(header, PAYLOAD)
    finally:
        go_on.set()
    assert first.result().receipt.version == 1


def test_a_repeated_update_changes_nothing_and_returns_the_first_receipt(
    running: Running,
) -> None:
    coordinator, client = running
    update_id = str(uuid.uuid4())
    first = client.push("north", a_vector(7), update_id=update_id)
    client.push("south", a_vector(8))
    before = head_digest(coordinator)
    again = client.push("north", a_vector(7), update_id=update_id)
    assert again == first
    assert head_digest(coordinator) == before
    query = training_pb2.QueryUploadRequest(update_id=update_id, site="sites/north")
    assert client.training.QueryUpload(query).receipt == first
    assert counters(client) == {"accepted": 2}


def test_an_update_id_with_other_bytes_is_refused(running: Running) -> None:
    coordinator, client = running
    update_id = str(uuid.uuid4())
    client.push("north", a_vector(7), update_id=update_id)
    before = head_digest(coordinator)
    with pytest.raises(UpdateAltered):
        client.push("north", a_vector(8), update_id=update_id)
    with pytest.raises(UpdateAltered):
        client.push("south", a_vector(7), update_id=update_id)
    assert head_digest(coordinator) == before


def test_an_unfinished_upload_is_not_harmed_by_one_with_its_id(running: Running) -> None:
    _, client = running
    header = client.header("north", PAYLOAD)
    client.training.PushDelta(messages(header, PAYLOAD[:80]))
    with pytest.raises(UpdateAltered):
        client.push("north", a_vector(8), update_id=header.update_id)
    assert committed(client, header) == 80
    header.offset = 80
    assert client.send(header, PAYLOAD).receipt.version == 1


@pytest.mark.parametrize("encoding", ["float16", "bfloat16", "int8"])
def test_a_delta_is_merged_as_it_was_decoded(tmp_path: Path, encoding: str) -> None:
    with a_coordinator(tmp_path, plan=a_plan(encoding=encoding)) as (coordinator, client):
        client.register("north")
        _, before = coordinator.core.live.snapshot()
        receipt = client.push("north", a_vector(7))
        delta = decode(encode(a_vector(7), encoding), encoding)
        _, after = coordinator.core.live.snapshot()
        assert np.array_equal(after, before + np.float32(receipt.coefficient) * delta)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_merged_is_what_was_decoded_and_the_ledger_replays_it(
    tmp_path: Path, encoding: str
) -> None:
    plan = a_plan(encoding=encoding, top_share=0.2)
    with a_coordinator(tmp_path, plan=plan) as (coordinator, client):
        client.register("north")
        _, before = coordinator.core.live.snapshot()
        receipt = client.push("north", a_vector(7))
        delta = decode(encode(a_vector(7), encoding), encoding)
        _, after = coordinator.core.live.snapshot()
        assert np.array_equal(after, before + np.float32(receipt.coefficient) * delta)
        verdict = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))[-1].verdict
        assert verdict.holds, verdict.reason


def test_a_site_may_choose_among_the_encodings_the_plan_accepts_and_no_other(
    tmp_path: Path,
) -> None:
    plan = a_plan(encoding="float32", also_accepts=["int8"])
    with a_coordinator(tmp_path, plan=plan) as (_, client):
        client.register("north")
        for encoding, accepted in (("int8", True), ("float32", True), ("float16", False)):
            payload = encode(a_vector(3), encoding)
            header = client.header("north", payload)
            for tensor in header.layout:
                tensor.dtype = encoding
            if accepted:
                assert client.send(header, payload).HasField("receipt")
                continue
            with pytest.raises(MalformedUpdate, match="float32 or int8") as refused:
                client.send(header, payload)
            assert refused.value.facts["rule"] == "dtype"


def test_a_payload_that_does_not_unpack_is_refused_with_its_rule(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, plan=a_plan(encoding="int8+zstd")) as (_, client):
        client.register("north")
        payload = b"this is no frame at all"
        with pytest.raises(MalformedUpdate) as refused:
            client.send(client.header("north", payload), payload)
        assert refused.value.facts["rule"] == "compression"


def test_a_stale_delta_weighs_less_and_its_receipt_says_so(running: Running) -> None:
    _, client = running
    fresh = client.push("north", a_vector(3))
    late = client.push("south", a_vector(4))
    assert (fresh.staleness, late.staleness) == (0, 1)
    assert late.coefficient < fresh.coefficient


def test_concurrent_pushes_are_all_merged_once(running: Running) -> None:
    coordinator, client = running
    futures = [
        client.training.PushDelta.future(
            messages(client.header("north", payload), payload), timeout=30.0
        )
        for payload in (encode(a_vector(seed), "float32") for seed in range(12))
    ]
    versions = sorted(future.result().receipt.version for future in futures)
    assert versions == list(range(1, 13))
    verdict = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))[-1].verdict
    assert verdict.holds, verdict.reason
    assert verdict.version == coordinator.core.live.position.version == 12


def test_one_transfer_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    limits = {"limits": {"transfers": 1, "transfer_retry_seconds": 7.0, "reserve_bytes": 0}}
    with a_coordinator(tmp_path, config=limits) as (coordinator, client):
        client.register("north")
        with coordinator.core.slots.take(), pytest.raises(TooManyTransfers) as caught:
            client.push("north", a_vector(7))
        assert caught.value.retry_after_s == 7.0
        assert client.push("north", a_vector(7)).version == 1


def test_a_site_has_so_many_transfers_and_holds_up_no_other(tmp_path: Path) -> None:
    limits = {"limits": {"transfers_per_site": 1, "reserve_bytes": 0}}
    with a_coordinator(tmp_path, config=limits) as (coordinator, client):
        client.register("north", "south")
        with coordinator.core.slots.take("north"):
            with pytest.raises(TooManyTransfers, match="sites/north"):
                client.push("north", a_vector(7))
            assert client.push("south", a_vector(8)).version == 1
        assert client.push("north", a_vector(7)).version == 2


def test_a_process_short_of_memory_takes_no_payload(tmp_path: Path) -> None:
    limits = {"limits": {"memory_bytes": 1, "reserve_bytes": 0}}
    with a_coordinator(tmp_path, config=limits) as (coordinator, client):
        client.register("north")
        with pytest.raises(MemoryShort) as caught:
            client.push("north", a_vector(7))
        assert caught.value.retry_after_s > 0
        assert coordinator.core.staging.all() == []


def test_without_room_on_the_disk_nothing_is_taken(tmp_path: Path) -> None:
    with a_coordinator(tmp_path, config={"limits": {"reserve_bytes": 1 << 62}}) as (_, client):
        client.register("north")
        with pytest.raises(DiskFull):
            client.push("north", a_vector(7))


def test_a_task_of_an_older_epoch_is_to_be_abandoned(running: Running) -> None:
    _, client = running
    task = client.training.NextTask(training_pb2.NextTaskRequest(site="sites/north")).train
    beat = training_pb2.HeartbeatRequest(site="sites/north", task=task.name)
    assert not client.training.Heartbeat(beat).abandon
    beat.task = "tasks/train-7-0-0"
    assert client.training.Heartbeat(beat).abandon
    beat.task = "tasks/withdrawn"
    assert client.training.Heartbeat(beat).abandon


def test_no_two_train_tasks_share_their_seed(running: Running) -> None:
    _, client = running
    ask = training_pb2.NextTaskRequest(site="sites/north")
    tasks = [client.training.NextTask(ask).train for _ in range(20)]
    assert len({task.seed for task in tasks}) == 20
    assert all(0 <= task.seed < 2**63 for task in tasks)


def test_an_abandoned_task_counts_once_as_superseded(running: Running) -> None:
    _, client = running
    ask = training_pb2.NextTaskRequest(site="sites/north", abandoned_task="tasks/train-0-0-1")
    client.training.NextTask(ask)
    client.training.NextTask(ask)
    assert counters(client) == {"superseded": 1}


def test_an_unregistered_site_gets_no_task(running: Running) -> None:
    _, client = running
    with pytest.raises(UnknownSite):
        client.training.NextTask(training_pb2.NextTaskRequest(site="sites/nowhere"))


def test_the_downloaded_head_is_the_head(running: Running, tmp_path: Path) -> None:
    coordinator, client = running
    client.push("north", a_vector(7))
    got = download(client.models.DownloadModel, tmp_path / "head", name="models/head")
    _, head = coordinator.core.live.snapshot()
    assert (got.version, got.epoch) == (1, 0)
    assert np.array_equal(np.fromfile(tmp_path / "head", "<f4"), head)
    assert head.size == LAYOUT.size
