import hashlib
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadConfig, BadSignature
from letheon.servicekit.signing import SigningKey, canonical_json, verify

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_canonical_bytes_have_sorted_keys_and_no_spaces() -> None:
    assert canonical_json({"b": [1, 2], "a": "ä"}) == '{"a":"ä","b":[1,2]}'.encode()


def test_a_value_that_is_no_json_number_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_a_key_survives_a_restart_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "signing.pem"
    first, again = SigningKey.load_or_create(path), SigningKey.load_or_create(path)
    assert first.public_pem == again.public_pem
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_the_public_key_is_published_beside_for_those_who_check(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "k.pem")
    key.publish(tmp_path / "k.pub.pem")
    key.publish(tmp_path / "k.pub.pem")
    verify((tmp_path / "k.pub.pem").read_bytes(), b"statement", key.sign(b"statement"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k.pem", "k.pub.pem"]
    with pytest.raises(BadConfig, match="cannot be written"):
        key.publish(tmp_path / "nowhere" / "k.pub.pem")


def test_a_signature_holds_for_its_bytes_and_for_no_others(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "k.pem")
    signature = key.sign(b"statement")
    verify(key.public_pem, b"statement", signature)
    with pytest.raises(BadSignature):
        verify(key.public_pem, b"statement!", signature)
    with pytest.raises(BadSignature):
        verify(SigningKey.load_or_create(tmp_path / "o.pem").public_pem, b"statement", signature)
    with pytest.raises(BadSignature):
        verify("no key", b"statement", signature)


def test_the_key_id_is_the_beginning_of_the_digest_of_the_raw_public_key(tmp_path: Path) -> None:
    key = SigningKey.load_or_create(tmp_path / "k.pem")
    public = load_pem_public_key(key.public_pem.encode())
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert key.key_id == hashlib.sha256(raw).hexdigest()[:16]


def test_processes_that_start_together_end_up_with_one_key(tmp_path: Path) -> None:
    path, start, found = tmp_path / "k.pem", threading.Barrier(8), []

    def race() -> None:
        start.wait()
        found.append(SigningKey.load_or_create(path).key_id)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_key_that_everybody_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    SigningKey.load_or_create(path)
    path.chmod(0o644)
    with pytest.raises(BadConfig, match="chmod 0600"):
        SigningKey.load_or_create(path)


@pytest.mark.parametrize("content", [b"", b"not a key"])
def test_a_file_that_is_no_key_is_a_bad_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadConfig, match="PEM"):
        SigningKey.load_or_create(path)


def test_a_key_of_another_kind_is_a_bad_config(tmp_path: Path) -> None:
    path = tmp_path / "k.pem"
    other = generate_private_key(SECP256R1())
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(BadConfig, match="not an Ed25519"):
        SigningKey.load_or_create(path)
