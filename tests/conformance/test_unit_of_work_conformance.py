"""One suite for every transactional store."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from builders import NOON, a_site, an_erasure
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from coordinator.adapters.sql import SqlStore
from coordinator.domain.claim import Claim
from coordinator.domain.erasure import Attempt, Certificate, Removal, Verdict, with_removal
from coordinator.domain.evidence import (
    Download,
    EntrySignature,
    Leaf,
    LeafKind,
    SignedCheckpoint,
    SiteKey,
)
from coordinator.domain.ledger_rows import follow
from coordinator.domain.model import (
    BufferedDelta,
    Checkpoint,
    Contribution,
    Destroyed,
    Export,
    FederationRow,
    ModelFile,
)
from coordinator.domain.task import AnswerKind, Task, TaskKind
from coordinator.domain.upload import Outcome, Receipt, Upload
from coordinator.ports import Store, UnitOfWork
from coordinator.services import audit
from coordinator.services.site_signatures import key_due
from letheon.errors import (
    BadConfig,
    LedgerBroken,
    StorageUnavailable,
    UnknownCertificate,
    UnknownErasure,
    UnknownSite,
    UnknownTask,
)
from letheon.federation.ledger import Entry, EntryKind, merges, seal, verify_chain
from letheon.proof.audit_chain import verify_rows

SHA = "a" * 64


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    opened = SqlStore(database_url)
    yield opened
    opened.close()


def first_entry() -> Entry:
    return seal(None, kind=EntryKind.INITIAL, version=0, epoch=0, at=NOON)


def a_delta_row(previous: Entry, site: str, kind: EntryKind = EntryKind.DELTA) -> Entry:
    return follow(
        previous,
        kind,
        at=NOON,
        site=site,
        staleness=0,
        coefficient=None if kind is EntryKind.BUFFERED else 0.1,
        payload_sha256=f"{previous.entry + 1:064x}",
        payload_bytes=4,
        encoding="float32",
        details={"norm": 0.1, "record_count": 3},
    )


def with_sites(uow: UnitOfWork, *names: str) -> None:
    for name in names:
        uow.sites.add(a_site(name))


def test_what_is_not_committed_never_happened(store: Store) -> None:
    with store.write() as uow:
        uow.sites.add(a_site())
    with store.read() as uow:
        assert uow.sites.all() == []


def test_what_a_site_told_and_an_admission_come_back_as_they_went_in(store: Store) -> None:
    told = a_site(control_records=7, class_counts={"naevus": 90, "melanoma": 0})
    admitted = an_erasure(level_admitted="L0", caveats=["few", "far"], uncertifiable="nobody left")
    with store.write() as uow:
        uow.sites.add(told)
        uow.erasures.add(admitted)
        uow.commit()
    with store.read() as uow:
        assert uow.sites.get("north") == told
        assert uow.erasures.get("e1") == admitted


def test_a_site_is_found_as_this_transaction_left_it_and_after_it_as_others_did(
    store: Store,
) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        before = uow.sites.get("north")
        uow.sites.save(replace(before, record_count=before.record_count + 1))
        assert uow.sites.get("north").record_count == before.record_count + 1
        uow.commit()
    with store.read() as reader:
        seen = reader.sites.get("north")
        with store.write() as uow:
            uow.sites.save(replace(seen, record_count=999))
            assert reader.sites.get("north") == seen
            uow.commit()
            assert uow.sites.get("north").record_count == 999
        assert reader.sites.get("north") == seen
    with store.read() as uow:
        assert uow.sites.get("north").record_count == 999


def test_an_error_inside_rolls_back(store: Store) -> None:
    def add_then_fail() -> None:
        with store.write() as uow:
            uow.sites.add(a_site())
            uow.sites.get("south")

    with pytest.raises(UnknownSite):
        add_then_fail()
    with store.read() as uow:
        assert uow.sites.find("north") is None


def test_records_come_back_as_they_went_in(store: Store) -> None:
    removal = Removal(1, 3, 4, SHA, SHA, 0.1 + 0.2, 7.0, 3, 0, True, 5)
    erasure = with_removal(replace(an_erasure(), state="claimed"), removal, NOON)  # type: ignore[arg-type]
    claim = Claim("e1", "cal-1", 3, NOON, '{"step":1}')
    attempt = Attempt("e1", 1, 9, Verdict.PASS, [{"name": "utility", "n": 0.1}], NOON, 8)
    certificate = Certificate("e1", b"\x00signed\xff", NOON)
    upload = Upload("u1", SHA, 12, "north", NOON)
    receipt = Receipt(
        "u1", Outcome.STORED, 1, 0.25, 2, 3, SHA, SHA, "north", "t1", 12, "float32", NOON
    )
    task = Task("t1", "r1", "north", "e1", TaskKind.AUDIT, {"versions": [1, 2], "seed": 5}, NOON)
    row = FederationRow("f1", SHA, "{}", 0, None, False, None, None, 0)
    file = ModelFile(3, 1, SHA, 12, NOON)
    checkpoint = Checkpoint(5, 3, 1, SHA, NOON, is_anchor=True)
    contribution = Contribution("north", 5, None, 0)
    export = Export("x1", 3, "clinic", "trial", NOON)
    with store.write() as uow:
        with_sites(uow, "north")
        uow.erasures.add(erasure)
        uow.claims.save(claim)
        uow.attempts.save(attempt)
        uow.certificates.add(certificate)
        uow.uploads.add(upload)
        uow.receipts.add(receipt)
        uow.tasks.add(task)
        uow.federation.add(row)
        uow.models.add(file)
        uow.checkpoints.add(checkpoint)
        uow.contributions.save(contribution)
        uow.exports.add(export)
        uow.commit()
    with store.read() as uow:
        assert uow.sites.get("north") == a_site("north")
        assert uow.erasures.get("e1") == erasure
        assert uow.claims.find("e1") == claim
        assert uow.attempts.of("e1") == [attempt]
        assert uow.certificates.get("e1") == certificate
        assert uow.uploads.find("u1") == upload
        assert uow.receipts.find("u1") == receipt
        assert uow.receipts.stored_digests() == {SHA}
        assert uow.tasks.get("t1") == task
        assert uow.federation.get() == row
        assert uow.models.find(3) == file
        assert uow.checkpoints.all() == [checkpoint]
        assert uow.contributions.find("north") == contribution
        assert uow.exports.find("x1") == export


def test_saving_again_replaces(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        uow.erasures.add(an_erasure())
        for token in (1, 2):
            uow.claims.save(Claim("e1", "cal", token, NOON))
        uow.commit()
    with store.read() as uow:
        found = uow.claims.find("e1")
        assert found is not None
        assert found.token == 2


def test_what_is_unknown_says_so(store: Store) -> None:
    with store.read() as uow:
        with pytest.raises(UnknownSite):
            uow.sites.get("x")
        with pytest.raises(UnknownErasure):
            uow.erasures.get("x")
        with pytest.raises(UnknownTask):
            uow.tasks.get("x")
        with pytest.raises(UnknownCertificate):
            uow.certificates.get("x")
        with pytest.raises(LedgerBroken):
            uow.entries.get(0)
        with pytest.raises(StorageUnavailable):
            uow.federation.get()
        assert uow.entries.newest() is None


def test_the_chain_holds_after_a_round_trip(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        rows = [first_entry()]
        for _ in range(3):
            rows.append(a_delta_row(rows[-1], "north"))
        for row in rows:
            uow.entries.add(row)
        uow.commit()
    with store.read() as uow:
        found = uow.entries.page(0, 10)
        assert found == rows
        verify_chain(found, tip=rows[-1].hash)
        assert uow.entries.newest() == rows[-1]
        assert uow.entries.newest(EntryKind.INITIAL) == rows[0]
        assert [row.entry for row in uow.entries.page(1, 2)] == [1, 2]
        assert uow.entries.accepted_between(1, 3) == 3
        assert uow.entries.accepted_between(1, 3, without="north") == 0


def test_terms_of_a_site_come_in_replay_order(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north", "south")
        first = first_entry()
        direct = a_delta_row(first, "north")
        waits = [a_delta_row(direct, "north", EntryKind.BUFFERED)]
        waits.append(a_delta_row(waits[-1], "south", EntryKind.BUFFERED))
        pairs = [(waits[0].entry, 0.5), (waits[1].entry, 0.25)]
        flush = follow(waits[-1], EntryKind.FLUSH, at=NOON, details={"merged": merges(pairs)})
        for row in (first, direct, *waits, flush):
            uow.entries.add(row)
        for row, (_, coefficient) in zip(waits, pairs, strict=True):
            sha = row.payload_sha256 or ""
            delta = BufferedDelta(row.entry, row.site or "", 0, 3, 0.1, sha, "float32")
            uow.buffered.add(delta)
            assert delta in uow.buffered.waiting()
            uow.buffered.save(replace(delta, flushed_by=flush.entry, coefficient=coefficient))
        uow.commit()
    with store.read() as uow:
        terms = uow.entries.terms("north", after=-1)
        assert [(t.entry, t.of_entry, t.coefficient) for t in terms] == [(1, 1, 0.1), (4, 2, 0.5)]
        assert [t.of_entry for t in uow.entries.terms("north", after=1)] == [2]
        assert [t.of_entry for t in uow.entries.terms("south", after=-1)] == [3]
        assert len(uow.entries.terms("north", after=-1, limit=1)) == 1
        assert uow.buffered.waiting() == []
        assert [d.entry for d in uow.buffered.waiting(at_entry=3)] == [2, 3]
        assert set(uow.entries.payloads(through=2, site="north")) == {f"{n:064x}" for n in (1, 2)}


def test_an_entry_number_is_taken_once(store: Store) -> None:
    with store.write() as uow:
        uow.entries.add(first_entry())
        uow.commit()
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"), store.write() as uow:
        uow.entries.add(first_entry())


def test_tasks_wait_until_answered_or_withdrawn(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        for name in ("t1", "t2", "t3"):
            uow.tasks.add(
                Task(name, "r1", "north", None, TaskKind.EVALUATE, {"versions": [1]}, NOON)
            )
        done = replace(
            uow.tasks.get("t1"),
            answer_kind=AnswerKind.EVALUATE,
            answer={"utilities": []},
            answered_at=NOON,
        )
        uow.tasks.save(done)
        uow.tasks.save(replace(uow.tasks.get("t2"), withdrawn_at=NOON))
        uow.commit()
    with store.read() as uow:
        assert [t.id for t in uow.tasks.waiting("north")] == ["t3"]
        assert [t.id for t in uow.tasks.of_request("r1", None)] == ["t1", "t2", "t3"]
        assert uow.tasks.of_request("r1", "e1") == []
        assert uow.tasks.get("t1") == done


def test_the_outbox_gives_each_erasure_until_it_is_announced(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north", "south")
        uow.erasures.add(an_erasure("e1", "north"))
        uow.erasures.add(an_erasure("e2", "south", requested_at=NOON + timedelta(seconds=1)))
        uow.outbox.add("e1", NOON)
        uow.outbox.add("e2", NOON)
        first, second = uow.outbox.due()
        assert (first.erasure, second.erasure) == ("e1", "e2")
        uow.outbox.mark_announced(first.id, NOON)
        uow.commit()
    with store.read() as uow:
        assert [row.erasure for row in uow.outbox.due()] == ["e2"]
        assert [e.id for e in uow.erasures.all()] == ["e2", "e1"]
        assert [e.id for e in uow.erasures.open()] == ["e2", "e1"]
        assert uow.erasures.by_request("request-e1") == an_erasure("e1", "north")


def test_pins_and_destruction_are_remembered(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        uow.erasures.add(an_erasure())
        uow.models.pin(1, "serving")
        uow.models.pin(1, "serving")
        uow.models.pin(1, "erasure:e1")
        uow.models.pin(2, "serving")
        uow.models.unpin("serving", 1)
        uow.destroyed.add_versions(Destroyed(0, 7, "e1", NOON))
        uow.destroyed.add_payload(SHA, "e1", NOON)
        uow.destroyed.add_payload(SHA, "e1", NOON)
        uow.commit()
    with store.read() as uow:
        assert uow.models.pins() == {1: {"erasure:e1"}, 2: {"serving"}}
        assert uow.destroyed.versions() == [Destroyed(0, 7, "e1", NOON)]
        assert uow.destroyed.destroyer_of(SHA) == "e1"
        assert uow.destroyed.destroyer_of("b" * 64) is None


def test_no_concurrent_increment_is_lost(store: Store) -> None:
    def add() -> None:
        for _ in range(10):
            with store.write() as uow:
                uow.federation.count("accepted")
                uow.commit()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as uow:
        assert uow.federation.counters() == {"accepted": 40}


def test_a_reader_is_not_held_up_by_a_writer_and_sees_the_state_before(store: Store) -> None:
    with store.write() as uow:
        uow.federation.count("accepted")
        with store.read() as reader:
            assert reader.federation.counters() == {}
        uow.commit()


def test_opening_again_keeps_what_was_there(database_url: str) -> None:
    first = SqlStore(database_url)
    with first.write() as uow:
        uow.federation.count("accepted", by=3)
        uow.commit()
    first.close()
    second = SqlStore(database_url)
    with second.read() as uow:
        assert uow.federation.counters() == {"accepted": 3}
    second.close()


@pytest.mark.parametrize(
    "url", ["nonsense", "nosuch://x/y", "mysql+pymysql://letheon@localhost/letheon", ""]
)
def test_a_bad_url_is_a_bad_configuration(url: str) -> None:
    with pytest.raises(BadConfig):
        SqlStore(url)


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable):
        SqlStore(f"sqlite:///{tmp_path / 'missing' / 'x.sqlite'}")


def an_audit_row(store: Store) -> None:
    with store.write() as uow:
        audit.record(uow, NOON, "site.registered", "sites/north", records=3)
        uow.commit()


def test_the_audit_log_is_chained_and_read_in_pages(store: Store) -> None:
    for _ in range(3):
        an_audit_row(store)
    with store.read() as uow:
        rows = uow.audit.page(0, 10)
        assert verify_rows(rows) == uow.audit.newest()
        assert [row.number for row in uow.audit.page(1, 1)] == [1]


def test_a_row_of_evidence_can_neither_be_changed_nor_deleted(
    store: Store, database_url: str
) -> None:
    an_audit_row(store)
    with store.write() as uow:
        uow.entries.add(first_entry())
        uow.signatures.add(EntrySignature(0, "k" * 16, "c2ln"))
        uow.log.add(Leaf(0, LeafKind.AUDIT_HEAD, None, b"x", "0" * 64, NOON))
        uow.log.add_checkpoint(SignedCheckpoint(1, "note", NOON))
        uow.commit()
    engine = create_engine(database_url)
    acts = ["UPDATE {} SET at = 'x'", "DELETE FROM {}"]
    for table in ("audit_log", "log_leaves", "log_checkpoints", "entry_signatures"):
        for act in acts[1:] if table == "entry_signatures" else acts:
            with engine.connect() as connection, pytest.raises(DBAPIError) as caught:
                connection.execute(text(act.format(table)))
            told = str(caught.value)
            assert "are never changed" in told or "permission denied" in told
    engine.dispose()
    with store.read() as uow:
        assert uow.audit.newest() is not None
        assert uow.log.size() == 1


def test_the_log_answers_by_number_hash_kind_and_size(store: Store) -> None:
    with store.write() as uow:
        for number in range(3):
            kind = LeafKind.AUDIT_HEAD if number == 1 else LeafKind.CERTIFICATE
            uow.log.add(Leaf(number, kind, None, bytes([number]), f"{number:064x}", NOON))
        uow.log.add_checkpoint(SignedCheckpoint(3, "three", NOON))
        uow.commit()
    with store.read() as uow:
        assert uow.log.hashes(2) == [bytes(32), (1).to_bytes(32)]
        newest = uow.log.newest(LeafKind.CERTIFICATE)
        assert newest is not None
        assert (newest.number, newest.content) == (2, b"\x02")
        found = uow.log.by_hash(f"{1:064x}")
        assert found is not None
        assert found.kind is LeafKind.AUDIT_HEAD
        assert uow.log.by_hash("f" * 64) is None
        assert uow.log.checkpoint() == uow.log.checkpoint(3)
        assert uow.log.checkpoint(2) is None


def test_what_a_site_read_is_found_by_versions(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north", "south")
        uow.downloads.save(Download("north", 0, 1, 4, NOON, NOON))
        uow.downloads.save(Download("north", 1, 5, 9, NOON, NOON))
        uow.downloads.save(Download("south", 0, 2, 2, NOON, NOON))
        uow.commit()
    with store.read() as uow:
        found = [(one.site, one.epoch) for one in uow.downloads.overlapping(3, 5)]
        assert found == [("north", 0), ("north", 1)]
        assert uow.downloads.find("south", 1) is None


def test_a_key_of_a_site_ends_and_another_begins(store: Store) -> None:
    with store.write() as uow:
        with_sites(uow, "north")
        uow.site_keys.add(SiteKey("north", "a" * 16, "pem", -1, NOON))
        uow.site_keys.save(SiteKey("north", "a" * 16, "pem", -1, NOON, until_entry=4))
        uow.site_keys.add(SiteKey("north", "b" * 16, "pem", 4, NOON))
        uow.commit()
    with store.read() as uow:
        keys = uow.site_keys.of("north")
    assert [key.until_entry for key in keys] == [4, None]
    due = [key_due(keys, entry) for entry in (0, 4, 5)]
    assert [key.key_id[0] if key else None for key in due] == ["a", "a", "b"]
