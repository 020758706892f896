"""An exported ledger and its signatures are checked with keys that the sites gave themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import a_vector
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner, Result

from client_agent.adapters import convert
from letheon.cli.main import app
from letheon.federation.encoding import encode
from letheon.proof.update_signature import sign_update
from letheon.servicekit.signing import SigningKey
from letheon.v1 import sites_pb2


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "north.pem")


@pytest.fixture
def exported(tmp_path: Path, key: SigningKey) -> Iterator[Path]:
    """North sends a delta without a key, then two signed ones; south signs nothing."""
    with a_running_federation(tmp_path / "federation") as federation:
        federation.train("north", "south")
        federation.client.sites.RegisterSite(
            sites_pb2.RegisterSiteRequest(
                name="sites/north", record_count=100, update_key_pem=key.public_pem
            )
        )
        for seed in (1, 2):
            push(federation, key, seed)
        out = tmp_path / "out"
        words = ["--out", str(out / "ledger.jsonl"), "--signatures", str(out / "signatures.jsonl")]
        address = ["--coordinator", federation.coordinator.address]
        done = CliRunner().invoke(app, [*address, "ledger", "export", *words])
        assert done.exit_code == 0, done.output
        yield out


def push(federation: Federation, key: SigningKey, seed: int) -> None:
    client = federation.client
    payload = encode(a_vector(seed), client.plan.encoding)
    header = client.header("north", payload, base_version=federation.version)
    signed = sign_update(convert.signed_update(header), key)
    header.signature, header.signature_key = signed.signature, signed.key_id
    client.send(header, payload)


def verify(out: Path, *keys: str, ledger: str = "ledger.jsonl") -> Result:
    words = ["--file", str(out / ledger), "--signatures", str(out / "signatures.jsonl")]
    for told in keys:
        words += ["--site-key", told]
    return CliRunner().invoke(app, ["ledger", "verify", *words, "--format", "json"])


def north(tmp_path: Path, key: SigningKey) -> str:
    key.publish(tmp_path / "north.pub.pem")
    return f"north={tmp_path / 'north.pub.pem'}"


def test_rows_that_a_site_signed_hold_and_the_others_are_counted(
    tmp_path: Path, exported: Path, key: SigningKey
) -> None:
    done = verify(exported, north(tmp_path, key))
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["signatures"] == {
        "checked": 2,
        "from_before_the_key": 1,
        "of_sites_without_a_key_given": 1,
    }


def test_a_signature_that_was_taken_out_or_exchanged_is_named(
    tmp_path: Path, exported: Path, key: SigningKey
) -> None:
    file = exported / "signatures.jsonl"
    first, second = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(first)
    gone = verify(exported, north(tmp_path, key))
    assert gone.exit_code == 1
    last = json.loads(second)["entry"]
    assert json.loads(gone.stdout)["first_bad_entry"] == last
    exchanged = {**json.loads(first), "entry": last}
    file.write_bytes(first + json.dumps(exchanged).encode() + b"\n")
    assert "is not that of sites/north" in verify(exported, north(tmp_path, key)).stdout


def test_a_coordinator_that_signs_in_the_name_of_a_site_is_found_out(
    tmp_path: Path, exported: Path
) -> None:
    """The chain is right and the signatures are, but with a key the site does not know."""
    real = SigningKey.load_or_create(tmp_path / "real.pem")
    done = verify(exported, north(tmp_path, real))
    assert done.exit_code == 1
    assert "none of those given for sites/north" in done.stdout


def test_what_is_no_signature_or_no_key_is_said(tmp_path: Path, exported: Path) -> None:
    assert verify(exported, "north").exit_code == 2
    assert verify(exported, f"north={tmp_path / 'missing'}").exit_code == 78
    (tmp_path / "bad.pem").write_text("no key")
    assert verify(exported, f"north={tmp_path / 'bad.pem'}").exit_code == 78
    (exported / "signatures.jsonl").write_bytes(b"[]\n")
    key = SigningKey.load_or_create(tmp_path / "real.pem")
    done = verify(exported, north(tmp_path, key))
    assert done.exit_code == 1
    assert "line 1 is no signature" in done.output
    alone = CliRunner().invoke(app, ["ledger", "verify", "--signatures", "x"])
    assert alone.exit_code == 2
