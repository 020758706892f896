"""A backup from before an erasure, database and files, opens nothing of the subject any more."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Client, a_config, a_coordinator, a_federation
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from erasure_bench import Bench

from coordinator.adapters.blob_places import local_place
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.sealing import STORED_BYTES
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.bootstrap import Coordinator
from coordinator.erasure_wiring import erasure_context
from coordinator.seal_store import seal_store
from coordinator.services.key_ring import KeyRing
from coordinator.training_wiring import receive_upload
from letheon.errors import BadConfig, KeyGone, PayloadMissing
from letheon.servicekit.clock import FakeClock

AREAS = ("payloads", "models", "checkpoints", "contributions")
SEALED = {f"sealed-{area}" for area in AREAS}


def settings(tmp_path: Path) -> dict[str, Any]:
    return {"encryption": {"key_dir": tmp_path / "keys"}, "upkeep": {"checkpoint_entries": 1}}


def running(tmp_path: Path, **more: Any) -> Any:
    return a_coordinator(tmp_path, config={**settings(tmp_path), **more})


def bench_of(coordinator: Coordinator, client: Client, tmp_path: Path) -> Bench:
    context = erasure_context(coordinator.core, a_config(tmp_path, **settings(tmp_path)))
    return Bench(coordinator, context, receive_upload(coordinator.core), client.plan)


def back_up(tmp_path: Path, into: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(data, into, ignore=shutil.ignore_patterns("*.sqlite*", "lock"))
    with (
        closing(sqlite3.connect(data / "coordinator.sqlite")) as source,
        closing(sqlite3.connect(into / "coordinator.sqlite")) as target,
    ):
        source.backup(target)


def rows(database: Path, query: str, *values: str) -> set[str]:
    with closing(sqlite3.connect(database)) as opened:
        return {row[0] for row in opened.execute(query, values)}


def opens(sealed: Path, keys: list[bytes]) -> bool:
    """Whether any of the keys opens the first segment of a sealed file."""
    stored = sealed.read_bytes()[:STORED_BYTES]
    for key in keys:
        try:
            AESGCM(key).decrypt(stored[:12], stored[12:], (0).to_bytes(8, "big"))
        except InvalidTag:
            continue
        return True
    return False


def all_keys(ring: KeyRing) -> list[bytes]:
    found = (ring.find(area, name) for area in AREAS for name in ring.all(area))
    return [key.key for key in found if key is not None]


def test_a_full_backup_from_before_the_erasure_holds_nothing_of_the_subject(
    tmp_path: Path,
) -> None:
    backup = tmp_path / "backup"
    with running(tmp_path) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        bench.register("north", "south", "west")
        bench.train("north", "south", "west", "south")
        coordinator.core.derived.checkpoint_if_behind()
        back_up(tmp_path, backup)
        ring = coordinator.core.ring
        before = all_keys(ring)
        # The control: with the keys of before the erasure, everything in the backup opens.
        sealed = [p for area in AREAS for p in (backup / f"sealed-{area}").iterdir()]
        assert sealed
        assert all(opens(path, before) for path in sealed)
        own = {
            ring.record("payloads", sha256).blob
            for sha256 in rows(
                backup / "coordinator.sqlite",
                "SELECT payload_sha256 FROM entries WHERE site = ?",
                "south",
            )
        }
        later = {
            ring.record("checkpoints", sha256).blob
            for sha256 in rows(
                backup / "coordinator.sqlite", "SELECT sha256 FROM checkpoints WHERE version >= 2"
            )
        }
        assert len(own) == 2
        assert later
        erasure, token = bench.removed("south")
        bench.train("north", "west", seed=50)
        bench.passes(erasure, token)
        after = all_keys(ring)
        assert ring.generation == 1
    with KeyStore(tmp_path / "keys") as ring:
        left = all_keys(ring)
    assert set(left) & set(before) <= set(after)
    for blob in own:
        assert not opens(backup / "sealed-payloads" / blob, left)
    for blob in later:
        assert not opens(backup / "sealed-checkpoints" / blob, left)
    # And the coordinator itself, with database and files of the backup and the keys of today.
    shutil.rmtree(tmp_path / "data")
    shutil.copytree(backup, tmp_path / "data")
    with pytest.raises(PayloadMissing, match="only a newer backup can be used"), running(tmp_path):
        pass


def test_a_start_that_is_refused_destroys_nothing_of_today(tmp_path: Path) -> None:
    """An old backup is tried with today's keys, as somebody in a hurry does."""
    with running(tmp_path) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        bench.register("north", "south", "west")
        bench.train("north", "south", "west")
        back_up(tmp_path, tmp_path / "backup")
        erasure, token = bench.removed("south")
        bench.train("north", "west", seed=50)
        bench.passes(erasure, token)
        version = coordinator.core.live.position.version
        kept = {area: coordinator.core.ring.all(area) for area in AREAS}
    today = (tmp_path / "data").rename(tmp_path / "today")
    shutil.copytree(tmp_path / "backup", tmp_path / "data")
    files = sum(1 for path in (tmp_path / "data").rglob("*") if path.parent.name in SEALED)
    with pytest.raises(PayloadMissing), running(tmp_path):
        pass
    left = sum(1 for path in (tmp_path / "data").rglob("*") if path.parent.name in SEALED)
    assert left == files, "files of the backup were removed by a start that was refused"
    shutil.rmtree(tmp_path / "data")
    today.rename(tmp_path / "data")
    with running(tmp_path) as (coordinator, _):
        assert coordinator.core.live.position.version == version
        for area in ("payloads", "contributions"):
            assert coordinator.core.ring.all(area) == kept[area]
        *_, verdict = coordinator.core.verify_ledger()
        assert verdict.holds


def test_a_folder_that_is_not_mounted_does_not_cost_the_keys(tmp_path: Path) -> None:
    with running(tmp_path) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        bench.register("north")
        bench.train("north")
    today = (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(BadConfig, match=r"holds \d+ keys.*is the disk mounted"), running(tmp_path):
        pass
    shutil.rmtree(tmp_path / "data")
    today.rename(tmp_path / "data")
    with running(tmp_path) as (coordinator, _):
        *_, verdict = coordinator.core.verify_ledger()
        assert verdict.holds


class KeyStore:
    """The key store of a stopped coordinator."""

    def __init__(self, path: Path) -> None:
        self._ring = KeyRing(FileWrappingKeys(path), SqliteKeyRecords(path))

    def __enter__(self) -> KeyRing:
        return self._ring

    def __exit__(self, *error: object) -> None:
        self._ring.close()


def test_who_copied_the_key_store_before_the_erasure_defeats_it(tmp_path: Path) -> None:
    """The limit that the certificate states."""
    backup, copied = tmp_path / "backup", tmp_path / "copied"
    with running(tmp_path) as (coordinator, client):
        bench = bench_of(coordinator, client, tmp_path)
        bench.register("north", "south")
        bench.train("north", "south", "north")
        back_up(tmp_path, backup)
        shutil.copytree(tmp_path / "keys", copied)
        erasure, token = bench.removed("south")
        bench.train("north", seed=50)
        bench.passes(erasure, token)
    (sha256,) = rows(
        backup / "coordinator.sqlite", "SELECT payload_sha256 FROM entries WHERE site = 'south'"
    )
    with KeyStore(copied) as ring:
        assert len(local_place(backup, FakeClock(), ring).blobs.payloads.get(sha256)) > 0
    with KeyStore(tmp_path / "keys") as ring, pytest.raises(KeyGone):
        local_place(tmp_path / "data", FakeClock(), ring).blobs.payloads.get(sha256)


def test_an_encrypted_federation_trains_recovers_and_erases_as_a_plain_one(
    tmp_path: Path,
) -> None:
    heads = {}
    for kind in ("plain", "sealed"):
        root = tmp_path / kind
        root.mkdir()
        config = settings(root) if kind == "sealed" else {"upkeep": {"checkpoint_entries": 1}}
        with a_coordinator(root, config=config) as (coordinator, client):
            context = erasure_context(coordinator.core, a_config(root, **config))
            bench = Bench(coordinator, context, receive_upload(coordinator.core), client.plan)
            bench.register("north", "south")
            bench.train("north", "south", "north")
            bench.removed("south")
            bench.train("north", seed=9)
        with (
            a_coordinator(root, config=config) as (coordinator, _),
            coordinator.core.live.exclusive() as head,
        ):
            heads[kind] = np.array(head.weights)
    assert heads["plain"].tobytes() == heads["sealed"].tobytes()


def test_a_plain_store_is_sealed_once_and_goes_on(tmp_path: Path) -> None:
    plain = {"upkeep": {"checkpoint_entries": 1}}
    with a_coordinator(tmp_path, config=plain) as (coordinator, client):
        client.register("north")
        context = erasure_context(coordinator.core, a_config(tmp_path, **plain))
        bench = Bench(coordinator, context, receive_upload(coordinator.core), client.plan)
        bench.train("north")
        version = coordinator.core.live.position.version
    with pytest.raises(BadConfig, match=r"coordinator\.seal_store"), running(tmp_path):
        pass
    told: list[str] = []
    assert seal_store(a_config(tmp_path, **settings(tmp_path)), told.append) >= 2
    assert seal_store(a_config(tmp_path, **settings(tmp_path)), told.append) == 0
    assert [line.split(":")[0] for line in told[:4]] == list(AREAS)
    assert not [p for area in AREAS for p in (tmp_path / "data" / area).iterdir()]
    with running(tmp_path) as (coordinator, _):
        assert coordinator.core.live.position.version == version
        assert list(coordinator.core.verify_ledger())[-1]
    with pytest.raises(BadConfig, match="encrypted files"), a_coordinator(tmp_path, config=plain):
        pass


def test_a_key_store_inside_of_the_data_is_refused(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    with pytest.raises(ValueError, match="would hold their keys too"):
        a_config(tmp_path, encryption={"key_dir": tmp_path / "data" / "keys"})


def test_a_key_that_is_gone_is_said_to_be_gone(tmp_path: Path) -> None:
    with KeyStore(tmp_path / "keys") as ring:
        blobs = local_place(tmp_path / "data", FakeClock(), ring).blobs.payloads
        sha256 = blobs.put(b"something")
        ring.forget("payloads", sha256)
        with pytest.raises(KeyGone, match="has no data key: it was destroyed"):
            blobs.get(sha256)
