"""Signed notes and checkpoints."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import ProofInvalid
from letheon.proof.note import (
    Checkpoint,
    key_hash,
    read_note,
    sign_checkpoint,
    verifier_key,
    verify_checkpoint,
)
from letheon.servicekit.signing import SigningKey

ORIGIN = "letheon/abc"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.load_or_create(tmp_path_factory.mktemp("key") / "key.pem")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.load_or_create(tmp_path_factory.mktemp("other") / "key.pem")


def a_checkpoint(size: int = 3) -> Checkpoint:
    return Checkpoint(ORIGIN, size, hashlib.sha256(b"root").digest())


def test_a_checkpoint_is_three_lines_an_empty_one_and_a_signature(key: SigningKey) -> None:
    note = sign_checkpoint(a_checkpoint(), key)
    origin, size, root, gap, line, end = note.split("\n")
    assert (origin, size, gap, end) == (ORIGIN, "3", "", "")
    assert base64.b64decode(root) == a_checkpoint().root
    dash, name, encoded = line.split(" ")
    assert (dash, name) == ("—", ORIGIN)
    raw = base64.b64decode(encoded)
    mark = hashlib.sha256(f"{ORIGIN}\n".encode() + b"\x01" + key.public.raw).digest()[:4]
    assert raw[:4] == mark
    key.public.verify(f"{origin}\n{size}\n{root}\n".encode(), raw[4:])
    assert verifier_key(ORIGIN, key.public).startswith(f"{ORIGIN}+{mark.hex()}+A")


@given(st.integers(0, 10**14), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_what_is_read(key: SigningKey, size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    note = sign_checkpoint(checkpoint, key)
    assert verify_checkpoint(note, key.public, origin=ORIGIN) == checkpoint


def test_a_flip_of_any_character_is_noticed(key: SigningKey) -> None:
    note = sign_checkpoint(a_checkpoint(), key)
    for place, letter in enumerate(note):
        flipped = note[:place] + chr(ord(letter) ^ 1) + note[place + 1 :]
        with pytest.raises(ProofInvalid):
            verify_checkpoint(flipped, key.public, origin=ORIGIN)


def test_a_cut_note_says_so(key: SigningKey) -> None:
    note = sign_checkpoint(a_checkpoint(), key)
    for length in range(len(note)):
        with pytest.raises(ProofInvalid) as caught:
            verify_checkpoint(note[:length], key.public)
        assert caught.value.facts["rule"] in ("note", "signature")
    with pytest.raises(ProofInvalid, match="cut off"):
        read_note(note.rpartition("\n\n")[0])


def test_another_key_and_another_log_are_told_apart(key: SigningKey, other: SigningKey) -> None:
    note = sign_checkpoint(a_checkpoint(), key)
    with pytest.raises(ProofInvalid, match=f"not signed with key {other.key_id}"):
        verify_checkpoint(note, other.public)
    with pytest.raises(ProofInvalid, match="of the log letheon/abc, not of letheon/other"):
        verify_checkpoint(note, key.public, origin="letheon/other")


def test_lines_of_witnesses_and_extensions_are_passed_over(
    key: SigningKey, other: SigningKey
) -> None:
    note = sign_checkpoint(a_checkpoint(), key)
    text = a_checkpoint().text
    mark = key_hash("witness.example", other.public)
    line = base64.b64encode(mark + other.sign(text.encode())).decode()
    assert verify_checkpoint(f"{note}— witness.example {line}\n", key.public) == a_checkpoint()
    extended = f"{text}extension\n"
    ours = base64.b64encode(key_hash(ORIGIN, key.public) + key.sign(extended.encode())).decode()
    assert verify_checkpoint(f"{extended}\n— {ORIGIN} {ours}\n", key.public) == a_checkpoint()


@pytest.mark.parametrize(
    "text",
    [
        "letheon/abc\n03\nAAAA\n",
        "letheon/abc\n-1\nAAAA\n",
        "letheon/abc\n3\n",
        "letheon/abc\n3\nnot base64!\n",
        "\n3\nAAAA\n",
        f"letheon/abc\n3\n{base64.b64encode(bytes(31)).decode()}\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(key: SigningKey, text: str) -> None:
    line = base64.b64encode(key_hash(ORIGIN, key.public) + key.sign(text.encode())).decode()
    with pytest.raises(ProofInvalid) as caught:
        verify_checkpoint(f"{text}\n— {ORIGIN} {line}\n", key.public)
    assert caught.value.facts["rule"] == "note"


def test_a_note_that_is_no_text_is_refused(key: SigningKey) -> None:
    note = sign_checkpoint(a_checkpoint(), key).replace(ORIGIN, "\udcff")
    with pytest.raises(ProofInvalid) as caught:
        verify_checkpoint(note, key.public)
    assert caught.value.facts["rule"] == "note"
