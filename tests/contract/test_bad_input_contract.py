"""Bad input that other suites leave open: a clear error, nothing lost, the head as it was."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import Client, a_vector, messages
from erasure_builders import Federation, a_running_federation

from letheon.cli.local.toml_text import toml_text
from letheon.errors import LetheonError, MalformedUpdate, StaleEpoch, UnknownSite, UpdateAltered
from letheon.federation.encoding import encode
from letheon.federation.parameters import digest
from letheon.v1 import erasures_pb2, sites_pb2, training_pb2
from letheon.v1.models_pb2 import Chunk

GOOD = a_vector(7)
PAYLOAD = encode(GOOD, "float32")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    """With one accepted delta, so that there is something to lose."""
    with a_running_federation(tmp_path) as running:
        running.client.push("north", a_vector(1), update_id="first")
        yield running


def with_value(value: float) -> bytes:
    vector = a_vector(7)
    vector[40] = value  # the ninth element of out, behind 32 + 8 others
    return encode(vector, "float32")


def push_infinity(client: Client, value: float) -> None:
    payload = with_value(value)
    client.send(client.header("north", payload), payload)


def push_more_than_promised(client: Client) -> None:
    client.training.PushDelta(messages(client.header("north", PAYLOAD), PAYLOAD + b"1234"))


def push_as_if_smaller(client: Client) -> None:
    header = client.header("north", PAYLOAD)
    header.size_bytes -= 4
    client.send(header, PAYLOAD)


def push_an_oversized_chunk(client: Client) -> None:
    def stream() -> Iterator[training_pb2.PushDeltaRequest]:
        yield training_pb2.PushDeltaRequest(header=client.header("north", PAYLOAD))
        yield training_pb2.PushDeltaRequest(chunk=Chunk(data=bytes((1 << 20) + 1)))

    client.training.PushDelta(stream())


def alter_the_first(client: Client) -> None:
    client.push("north", GOOD, update_id="first")


CASES: list[tuple[str, Callable[[Federation], object], type[LetheonError], dict[str, str]]] = [
    ("infinity", lambda f: push_infinity(f.client, np.inf), MalformedUpdate,
     {"rule": "finite", "tensor": "out"}),
    ("minus infinity", lambda f: push_infinity(f.client, -np.inf), MalformedUpdate,
     {"rule": "finite", "tensor": "out"}),
    ("more bytes than promised", lambda f: push_more_than_promised(f.client), MalformedUpdate,
     {"rule": "size"}),
    ("fewer bytes promised", lambda f: push_as_if_smaller(f.client), MalformedUpdate,
     {"rule": "size"}),
    ("oversized chunk", lambda f: push_an_oversized_chunk(f.client), MalformedUpdate,
     {"rule": "chunk"}),
    ("altered update id", lambda f: alter_the_first(f.client), UpdateAltered, {}),
    ("erasure of an unknown site", lambda f: f.request("nowhere"), UnknownSite,
     {"site": "nowhere"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "error", "facts"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_it_is_refused_by_name_and_costs_nothing(
    federation: Federation,
    spoil: Callable[[Federation], object],
    error: type[LetheonError],
    facts: dict[str, str],
) -> None:
    rows, head = federation.rows(), digest(federation.head)
    with pytest.raises(error) as caught:
        spoil(federation)
    assert facts.items() <= caught.value.facts.items()
    assert federation.rows() == rows
    assert digest(federation.head) == head
    # Nobody is fenced, nothing waits for a calibrator, and the next delta is merged.
    asked = federation.client.sites.ListSites(sites_pb2.ListSitesRequest()).sites
    assert {site.state for site in asked} == {sites_pb2.Site.ACTIVE}
    everything = federation.erasures.ListErasures(erasures_pb2.ListErasuresRequest())
    assert list(everything.erasures) == []
    assert federation.client.push("north", GOOD, base_version=1).version == 2
    assert federation.client.push("north", a_vector(1), update_id="first").version == 1
    assert federation.verify_ledger().holds


def test_a_delta_of_an_ended_epoch_is_refused_and_the_head_stays(federation: Federation) -> None:
    federation.job(federation.request("south").name).remove()
    rows, head = federation.rows(), digest(federation.head)
    with pytest.raises(StaleEpoch) as caught:
        federation.client.push("north", GOOD, base_version=1, epoch=0)
    assert caught.value.facts["epoch"] == "1"
    assert federation.rows() == rows
    assert digest(federation.head) == head
    again = federation.client.push("north", GOOD, base_version=federation.version, epoch=1)
    assert again.outcome == training_pb2.Receipt.MERGED


NPZ = {"plugin": "npz", "arguments": {"path": "/nonexistent/images.npz"}}
SYNTHETIC = {
    "plugin": "synthetic",
    "arguments": {"records": 40, "classes": 2, "channels": 1, "height": 8, "width": 8, "seed": 1},
}


def agent(state: Path, **more: Any) -> dict[str, Any]:
    return {"coordinator": "127.0.0.1:1", "site": "north", "state_dir": state, "data": SYNTHETIC,
            **more}  # fmt: skip


def calibrator(state: Path, **more: Any) -> dict[str, Any]:
    return {"coordinator": "127.0.0.1:1", "redis_url": "redis://127.0.0.1:1/0", "name": "c1",
            "state_dir": state, **more}  # fmt: skip


@pytest.mark.parametrize(
    ("module", "config"), [("client_agent", agent), ("calibrator", calibrator)]
)
class TestAServiceThatCannotStart:
    """It ends with code 78 and a sentence; what it had kept is as before."""

    def refused(self, module: str, text: str, folder: Path) -> str:
        state = folder / "state"
        state.mkdir()
        (state / "kept").write_bytes(b"as it was")
        path = folder / "config.toml"
        path.write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", module, "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 78, done.stderr
        assert "Traceback" not in done.stderr
        assert (state / "kept").read_bytes() == b"as it was"
        # Earlier lines may show the configuration, which has the same words.
        return done.stderr.strip().splitlines()[-1]

    def test_a_corrupt_config_is_named(self, module: str, config: Any, tmp_path: Path) -> None:
        text = toml_text(config(tmp_path / "state"))
        assert "not valid TOML" in self.refused(module, text + "\n[data", tmp_path)

    def test_a_port_in_use_is_named(self, module: str, config: Any, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            table = config(tmp_path / "state", metrics_listen=f"127.0.0.1:{port}")
            assert str(port) in self.refused(module, toml_text(table), tmp_path)

    def test_a_missing_data_file_is_named(self, module: str, config: Any, tmp_path: Path) -> None:
        key = "data" if module == "client_agent" else "audit"
        table = config(tmp_path / "state", **{key: NPZ})
        assert "/nonexistent/images.npz" in self.refused(module, toml_text(table), tmp_path)
