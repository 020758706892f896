"""The coordinator as a process: what it says when it cannot start, and kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import Client, a_federation, a_vector

from letheon.errors import LetheonError
from letheon.federation.plan import Plan
from letheon.v1 import federation_pb2, ledger_pb2, training_pb2

pytestmark = pytest.mark.system


def write_config(directory: Path, **values: str | int) -> Path:
    """A configuration file; an empty value leaves the key out."""
    keys: dict[str, str | int] = {
        "data_dir": str(directory / "data"),
        "federation_dir": str(directory / "federation"),
        "listen": "127.0.0.1:0",
        "address_file": str(directory / "address"),
        "redis_url": "redis://127.0.0.1:1/0",
        **values,
    }
    path = directory / "coordinator.toml"
    lines = (
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {value}"
        for key, value in keys.items()
        if value != ""
    )
    path.write_text("\n".join(lines))
    return path


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "coordinator", "--config", str(config)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(path: Path, process: subprocess.Popen[str]) -> str:
    pause = threading.Event()
    for _ in range(1200):
        if path.exists():
            return path.read_text()
        assert process.poll() is None, process.communicate()[1]
        pause.wait(0.05)
    process.kill()  # whoever started it has nothing to stop it by yet
    raise AssertionError("the coordinator does not get ready")


@contextmanager
def serving(directory: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    (directory / "address").unlink(missing_ok=True)
    process = start(write_config(directory))
    try:
        address = wait_for(directory / "address", process)
        plan = Plan.from_canonical((directory / "federation" / "plan.json").read_bytes())
        client = Client(address, plan)
        yield process, client
        client.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def refused(config: Path, code: int = 78) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_missing_payload_ends_the_start_with_a_sentence_and_exit_code_65(
    tmp_path: Path,
) -> None:
    plan = a_federation(tmp_path / "federation")
    config = write_config(tmp_path)
    process = start(config)
    try:
        client = Client(wait_for(tmp_path / "address", process), plan)
        client.register("north")
        client.push("north", a_vector(1))
        client.close()
    finally:
        process.kill()
        process.wait(30)
    for payload in (tmp_path / "data" / "payloads").iterdir():
        payload.unlink()
    refused = start(config)
    _, errors = refused.communicate(timeout=60)
    assert refused.returncode == 65
    assert "row 0 needs the file payloads/" in errors
    assert "Traceback" not in errors


def test_without_redis_it_says_so(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    assert "redis_url is not set" in refused(write_config(tmp_path, redis_url=""))


def test_an_unknown_key_is_named_with_the_valid_ones(tmp_path: Path) -> None:
    sentence = refused(write_config(tmp_path, lisen="x"))
    assert "lisen" in sentence
    assert "listen" in sentence


def test_a_missing_plan_is_named(tmp_path: Path) -> None:
    assert "plan.json" in refused(write_config(tmp_path))


def test_a_damaged_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coordinator.sqlite").write_bytes(b"not a database" * 1000)
    assert "newest backup" in refused(write_config(tmp_path), code=65)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert str(port) in refused(write_config(tmp_path, listen=f"127.0.0.1:{port}"))


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("listen = ")
    assert "not valid TOML" in refused(path)


def test_it_stops_on_sigterm_with_code_zero(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    with serving(tmp_path) as (process, client):
        client.register("north")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors


def test_every_acknowledged_delta_survives_kill_9_and_takes_effect_once(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    receipts: dict[str, training_pb2.Receipt] = {}
    pushed = 0
    for _ in range(3):
        with serving(tmp_path) as (process, client):
            client.register("north", "south")
            killer = threading.Thread(target=process.kill)
            for number in range(40):
                update_id, delta = f"u-{pushed}", a_vector(pushed)
                if number == 25:
                    killer.start()
                try:
                    receipts[update_id] = client.push("north", delta, update_id=update_id)
                except LetheonError:
                    break
                pushed += 1
            killer.join()
    with serving(tmp_path) as (_, client):
        for update_id, receipt in receipts.items():
            seed = int(update_id.removeprefix("u-"))
            assert client.push("north", a_vector(seed), update_id=update_id) == receipt
        status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
        # The push that the kill cut may have been accepted without an answer; it was resent
        # under its id in the next round, so it too counts once.
        assert status.head_version in {len(receipts), len(receipts) + 1}
        assert status.updates["accepted"] == status.head_version
        verdict = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))[-1].verdict
        assert verdict.holds, verdict.reason


def test_a_start_that_is_refused_leaves_the_head_as_it_was(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    with serving(tmp_path) as (process, client):
        client.register("north")
        last = [client.push("north", a_vector(seed), base_version=seed) for seed in range(3)][-1]
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            process.kill()
            process.wait(60)
            for key in ("listen", "metrics_listen"):
                config = write_config(tmp_path, **{key: f"127.0.0.1:{port}"})
                assert str(port) in refused(config)
    config = write_config(tmp_path)
    config.write_text(config.read_text() + "\n[limits")
    assert "not valid TOML" in refused(config)
    with serving(tmp_path) as (_, client):
        status = client.federation.GetFederation(federation_pb2.GetFederationRequest())
        assert (status.head_version, status.ledger_hash) == (last.version, last.ledger_hash)
        verdict = list(client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest()))[-1].verdict
        assert verdict.holds, verdict.reason
        assert client.push("north", a_vector(9), base_version=3).version == 4


def test_the_coordinator_never_imports_torch() -> None:
    code = "import coordinator.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
