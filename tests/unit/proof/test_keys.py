"""Lists of keys, their files, and rotation."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from letheon.errors import BadConfig, ProofInvalid
from letheon.proof.key_files import list_path, load_signer, public_path, rotate
from letheon.proof.key_list import CALIBRATOR, COORDINATOR, KeyList, read_key_list
from letheon.servicekit.signing import SigningKey

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def test_a_first_start_makes_a_key_a_public_key_and_a_list_of_one(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    signer = load_signer(path, COORDINATOR, START)
    assert signer.keys.current.key_id == signer.key.key_id
    assert public_path(path).read_text() == signer.key.public_pem
    again = load_signer(path, COORDINATOR, START + DAY)
    assert again.keys.content() == signer.keys.content()


def test_after_a_rotation_each_key_is_valid_for_its_own_time(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    old = load_signer(path, CALIBRATOR, START)
    new = rotate(path, CALIBRATOR, START + DAY)
    assert new.key.key_id != old.key.key_id
    assert new.keys.check_valid(old.key.key_id, START + DAY / 2).key_id == old.key.key_id
    assert new.keys.check_valid(new.key.key_id, START + DAY).key_id == new.key.key_id
    with pytest.raises(ProofInvalid, match="signed from") as caught:
        new.keys.check_valid(old.key.key_id, START + DAY)
    assert caught.value.facts["rule"] == "time"
    with pytest.raises(ProofInvalid):
        new.keys.check_valid(new.key.key_id, START)
    read = read_key_list(list_path(path).read_bytes(), CALIBRATOR)
    read.check_follows(old.key.public)
    assert public_path(path).read_text() == new.key.public_pem
    assert not list(tmp_path.glob("*.next"))


def test_a_rotation_that_was_killed_is_finished_or_never_happened(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    old = load_signer(path, COORDINATOR, START)
    coming = tmp_path / "key.pem.next"
    # Killed before the list was written: the old key signs on.
    SigningKey.load_or_create(coming)
    assert load_signer(path, COORDINATOR, START).key.key_id == old.key.key_id
    # Killed after it: the new one takes its place at the next start.
    new = SigningKey.load_or_create(coming)
    listed = old.keys.followed_by(new, by=old.key, since=START + DAY)
    list_path(path).write_bytes(listed.content())
    assert load_signer(path, COORDINATOR, START + DAY).key.key_id == new.key_id


def test_a_list_that_was_changed_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_signer(path, COORDINATOR, START)
    rotate(path, COORDINATOR, START + DAY)
    content = rotate(path, COORDINATOR, START + 2 * DAY).keys.content()
    read_key_list(content)
    missed = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        try:
            found = read_key_list(bytes(flipped), COORDINATOR)
            found.check_follows(read_key_list(content).current)
        except ProofInvalid:
            continue
        missed.append(place)
    assert missed == []


def test_a_key_that_nobody_handed_over_to_is_not_in_the_list(tmp_path: Path) -> None:
    mine = SigningKey.load_or_create(tmp_path / "mine.pem")
    thief = SigningKey.load_or_create(tmp_path / "thief.pem")
    listed = KeyList.of_one(COORDINATOR, mine, START)
    with pytest.raises(ProofInvalid, match="newest key of the list"):
        listed.followed_by(thief, by=thief, since=START + DAY)
    with pytest.raises(ProofInvalid, match="later than"):
        listed.followed_by(thief, by=mine, since=START)
    with pytest.raises(ProofInvalid, match="does not hold the key"):
        KeyList.of_one(COORDINATOR, thief, START).check_follows(mine.public)
    with pytest.raises(ProofInvalid, match="keys of the coordinator, not of the calibrator"):
        read_key_list(listed.content(), CALIBRATOR)


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    load_signer(path, COORDINATOR, START)
    path.unlink()
    with pytest.raises(BadConfig, match="put back the file that belongs to it"):
        load_signer(path, COORDINATOR, START)
    list_path(path).write_bytes(b"{}")
    with pytest.raises(BadConfig, match=r"keys\.json"):
        load_signer(path, COORDINATOR, START)


@pytest.mark.parametrize(
    "change",
    [
        (b'"since":"2026-03-01T00:00:00.000000Z"', b'"since":"0001-01-01T00:00:00+23:59"'),
        (b'"role":"coordinator"', b'"role":"\\ud800"'),
    ],
)
def test_a_time_or_a_role_that_nobody_has_makes_no_list(
    tmp_path: Path, change: tuple[bytes, bytes]
) -> None:
    content = load_signer(tmp_path / "key.pem", COORDINATOR, START).keys.content()
    assert change[0] in content
    with pytest.raises(ProofInvalid) as caught:
        read_key_list(content.replace(*change))
    assert caught.value.facts["rule"] == "form"
