"""Pseudonyms, the site key, and what the agent remembers of whom it erased."""

from __future__ import annotations

import sqlite3
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.site_key import FILE, load_site_key
from client_agent.adapters.sqlite_outbox import SqliteOutbox
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.domain.subjects import (
    IndexedRecord,
    SiteKey,
    SubjectState,
    is_excluded,
    reference_of,
)
from letheon.errors import BadConfig
from letheon.servicekit.clock import FakeClock

KEY = SiteKey(b"k" * 32)
PATIENT = "SCHMIDT-1957-03-12"
TEXTS = st.text(min_size=1, max_size=20)


class Memory:
    """The tables of one state directory."""

    def __init__(self, folder: Path) -> None:
        (folder / "outbox").mkdir(exist_ok=True)
        self.clock = FakeClock()
        self.outbox = SqliteOutbox(folder / "agent.db", folder / "outbox", self.clock)
        self.tables = LocalTables(folder / "agent.db")
        self.index = RecordIndex(self.tables)
        self.subjects = SqliteSubjects(self.tables, self.index, self.clock)

    def close(self) -> None:
        self.tables.close()
        self.outbox.close_database()


@pytest.fixture
def memory(tmp_path: Path):
    made = Memory(tmp_path)
    yield made
    made.close()


@given(TEXTS, TEXTS)
@settings(max_examples=50)
def test_pseudonyms_differ_by_identifier_by_kind_and_by_key(one: str, other: str) -> None:
    token = KEY.of_patient(one)
    assert (token == KEY.of_patient(other)) == (one == other)
    assert token != KEY.of_record(one)
    assert token != SiteKey(b"l" * 32).of_patient(one)
    assert len(token) == 64


@given(st.sets(st.binary(min_size=32, max_size=32), min_size=1, max_size=4), st.binary(min_size=32))
@settings(max_examples=50)
def test_a_reference_commits_to_the_set_whatever_its_order(tokens: set[bytes], salt: bytes) -> None:
    texts = [token.hex() for token in tokens]
    reference = reference_of(texts, salt)
    assert reference == reference_of(reversed(texts), salt)
    assert reference != reference_of(texts, salt + b"x")
    assert reference != reference_of([*texts, "ff" * 32], salt) or b"\xff" * 32 in tokens


def test_a_single_patients_reference_is_salted_sha256_of_the_pseudonym() -> None:
    import hashlib

    token = KEY.of_patient(PATIENT)
    assert reference_of([token], b"s") == hashlib.sha256(b"s" + bytes.fromhex(token)).hexdigest()


def test_the_key_is_in_no_repr() -> None:
    assert "kkkk" not in repr(KEY)


def test_the_site_key_is_made_once_and_is_its_owners_only(tmp_path: Path) -> None:
    key = load_site_key(tmp_path, may_make=True)
    assert len(key.secret) == 32
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert load_site_key(tmp_path, may_make=False) == key
    assert load_site_key(tmp_path / "..", may_make=True) != key or tmp_path.parent == tmp_path


def test_a_lost_key_is_said_in_a_sentence_and_never_replaced(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="Put it back"):
        load_site_key(tmp_path, may_make=False)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"k" * 32, 0o644)])
def test_a_key_cut_short_or_open_to_others_is_refused(
    tmp_path: Path, content: bytes, mode: int
) -> None:
    (tmp_path / FILE).write_bytes(content)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(BadConfig, match=r"site\.key"):
        load_site_key(tmp_path, may_make=True)


def test_a_patient_is_excluded_with_every_record_and_a_record_alone(memory: Memory) -> None:
    patient = KEY.of_patient(PATIENT)
    rows = [IndexedRecord("a", patient), IndexedRecord("b", patient), IndexedRecord("c", None)]
    by_patient = frozenset({patient})
    assert [is_excluded(one, KEY, by_patient) for one in rows] == [True, True, False]
    by_record = frozenset({KEY.of_record("b")})
    assert [is_excluded(one, KEY, by_record) for one in rows] == [False, True, False]


def test_asking_twice_gives_the_same_subject_excluded_from_the_first_moment(memory: Memory) -> None:
    tokens = [KEY.of_patient(PATIENT)]
    assert memory.subjects.generation() == 0
    first = memory.subjects.add(tokens, "GDPR-17-1-b")
    assert first.state is SubjectState.DUE
    assert memory.subjects.excluded() == frozenset(tokens)
    assert memory.subjects.generation() == 1
    assert memory.subjects.add(tokens, "GDPR-17-1-b") == first
    assert memory.subjects.generation() == 1
    memory.subjects.filed(first, "erasures/e1")
    assert memory.subjects.add(tokens, "GDPR-17-1-b").erasure == "erasures/e1"


def test_requests_of_a_window_become_one_subject_with_one_reference(memory: Memory) -> None:
    day = timedelta(days=1)
    one = memory.subjects.add([KEY.of_patient("a")], "B", window=day)
    memory.clock.advance(3600)
    two = memory.subjects.add([KEY.of_patient("b")], "B", window=day)
    assert (one.number, one.reference, two.state) == (two.number, "", SubjectState.COLLECTING)
    assert len(memory.subjects.excluded()) == 2
    memory.subjects.seal_collected(day)
    assert memory.subjects.in_state(SubjectState.DUE) == []
    memory.clock.advance(23 * 3600)
    memory.subjects.seal_collected(day)
    (due,) = memory.subjects.in_state(SubjectState.DUE)
    assert len(due.tokens) == 2
    assert len(due.reference) == 64
    assert memory.subjects.add([KEY.of_patient("c")], "B", window=day).number != due.number


def test_a_reference_that_stands_for_nothing_excludes_nothing(memory: Memory) -> None:
    assert not memory.subjects.exclude("f" * 64, "erasures/e1")
    assert memory.subjects.excluded() == frozenset()


def test_a_referred_patient_stays_in_use_until_the_centre_asks(memory: Memory) -> None:
    token = KEY.of_patient(PATIENT)
    memory.subjects.refer([token], "consent-2026-000017")
    assert memory.subjects.excluded() == frozenset()
    assert memory.subjects.refer([token], "consent-2026-000017").tokens == (token,)
    with pytest.raises(BadConfig, match="stands for other records"):
        memory.subjects.refer([KEY.of_patient("other")], "consent-2026-000017")
    assert memory.subjects.exclude("consent-2026-000017", "erasures/e9")
    assert memory.subjects.excluded() == frozenset({token})
    (filed,) = memory.subjects.in_state(SubjectState.FILED)
    assert filed.erasure == "erasures/e9"


def test_a_certified_subject_is_forgotten_but_stays_excluded(memory: Memory) -> None:
    patient = KEY.of_patient(PATIENT)
    memory.index.replace([IndexedRecord("a", patient), IndexedRecord("b", KEY.of_patient("x"))])
    memory.outbox.remember_records("set-1", ["a", "b"])
    subject = memory.subjects.add([patient], "B")
    memory.subjects.filed(subject, "erasures/e1")
    memory.subjects.conclude(subject, SubjectState.CERTIFIED, KEY)
    assert memory.index.record_set("set-1") == [None, "b"]
    assert not memory.index.has_record("a")
    assert memory.index.has_record("b")
    assert memory.subjects.excluded() == frozenset({patient})
    assert memory.subjects.erased() == frozenset({patient})


def test_exclusions_are_known_as_they_were(memory: Memory) -> None:
    first, second = KEY.of_patient("a"), KEY.of_patient("b")
    memory.subjects.add([first], "B")
    then = memory.subjects.generation()
    memory.subjects.add([second], "B")
    assert memory.subjects.excluded(then) == frozenset({first})
    assert memory.subjects.excluded() == frozenset({first, second})


def test_the_state_of_an_earlier_release_goes_on(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.close()
    old = sqlite3.connect(tmp_path / "agent.db")
    old.execute("ALTER TABLE uploads DROP COLUMN exclusions")
    for table in ("subject_tokens", "subjects", "excluded", "exchanges", "record_index"):
        old.execute(f"DROP TABLE {table}")
    old.execute(
        "INSERT INTO uploads (update_id, task, state, size_bytes, sha256, encoding, made_at,"
        " base_version, epoch, seed, learning_rate, exclusion_counter, record_count, train_loss)"
        " VALUES ('u1', 'tasks/t', 'accepted', 4, 'x', 'float32', '2026-01-01', 3, 0, 7, 0.1, 0,"
        " 9, 0.5)"
    )
    old.commit()
    old.close()
    again = Memory(tmp_path)
    facts = again.outbox.facts_of("u1")
    assert facts is not None
    assert (facts.base_version, facts.seed, facts.exclusions) == (3, 7, 0)
    assert again.outbox.facts_of("u2") is None
    assert again.subjects.is_empty()
    again.close()
