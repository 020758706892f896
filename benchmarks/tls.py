"""What mutual TLS costs an upload: the same deltas to a plain coordinator and to one with TLS.

Both are real processes on this machine, one after the other at every delta, so that whatever else
the machine does touches both alike. The client runs in this process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google_crc32c
import grpc
import numpy as np

from letheon.federation.encoding import encode
from letheon.federation.parameters import Layout, TensorSpec, write_safetensors
from letheon.federation.plan import Plan, PlanDraft
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import files_in, write_identity
from letheon.servicekit.route import Route
from letheon.v1 import sites_pb2, training_pb2
from letheon.v1.models_pb2 import Chunk
from letheon.v1.sites_pb2_grpc import SitesStub
from letheon.v1.training_pb2_grpc import TrainingStub

RESULTS = Path(__file__).parent / "results" / "tls.json"
SITE, FEDERATION = "north", "bench"
CHUNK = 1 << 20
_DAY = timedelta(days=1)
_START_S = 60.0


def make_plan(folder: Path, megabytes: int) -> Plan:
    """Plan and initial weights of a model of that size."""
    layout = Layout((TensorSpec("weights", (megabytes * 250, 1000)),))
    plan = PlanDraft.model_validate(
        {
            "name": "bench",
            "model": {"plugin": "small_cnn", "arguments": {}},
            "image": {"channels": 1, "height": 8, "width": 8},
            "classes": 2,
        }
    ).with_layout(layout)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_bytes(plan.canonical_json())
    weights = np.zeros(layout.size, dtype=np.float32)
    write_safetensors(folder / "initial.safetensors", weights, layout)
    return plan


@contextmanager
def a_coordinator(folder: Path, federation: Path, tables: str) -> Iterator[str]:
    """A process; its address."""
    folder.mkdir()
    address = folder / "address"
    (folder / "coordinator.toml").write_text(
        f'listen = "127.0.0.1:0"\ndata_dir = "{folder}/data"\nfederation_dir = "{federation}"\n'
        f'redis_url = "redis://127.0.0.1:1/0"\naddress_file = "{address}"\n{tables}'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "coordinator", "--config", folder / "coordinator.toml"],
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + _START_S
        while not address.exists():
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the coordinator did not start: {(folder / 'log').read_text()}")
            time.sleep(0.05)
        yield address.read_text()
    finally:
        process.terminate()
        process.wait()


def push(stub: TrainingStub, plan: Plan, payload: bytes, sha256: bytes) -> float:
    """Seconds from the first byte to the receipt."""
    (tensor,) = plan.parameters.tensors
    header = training_pb2.UploadHeader(
        update_id=str(uuid.uuid4()),
        size_bytes=len(payload),
        sha256=sha256,
        layout=[training_pb2.TensorSpec(name=tensor.name, shape=tensor.shape, dtype=plan.encoding)],
        delta=training_pb2.DeltaPurpose(
            site=f"sites/{SITE}", task="tasks/train-0-0-0", record_count=1
        ),
    )

    def messages() -> Iterator[training_pb2.PushDeltaRequest]:
        yield training_pb2.PushDeltaRequest(header=header)
        for offset in range(0, len(payload), CHUNK):
            data = payload[offset : offset + CHUNK]
            chunk = Chunk(offset=offset, data=data, crc32c=google_crc32c.value(data))
            yield training_pb2.PushDeltaRequest(chunk=chunk)

    begun = time.perf_counter()
    answer = stub.PushDelta(messages(), timeout=300.0)
    took = time.perf_counter() - begun
    if not answer.HasField("receipt"):
        raise SystemExit("the delta was not accepted whole")
    return took


def secure_tables(folder: Path) -> tuple[str, Route]:
    """The tables of a coordinator with TLS, and the site's way to it."""
    now = datetime.now(UTC)
    authority = FileAuthority.init(folder / "ca", FEDERATION, now)
    hosts = ["127.0.0.1"]
    write_identity(
        folder / "own", authority, lambda key: authority.issue_server(hosts, key, now, _DAY)
    )
    site = Identity(FEDERATION, Role.SITE, SITE)
    write_identity(folder / "site", authority, lambda key: authority.issue(site, key, now, _DAY))
    own = folder / "own"
    tables = (
        f'[tls]\ncertificate = "{own}/certificate.pem"\nkey = "{own}/key.pem"\n'
        f'client_ca = "{own}/ca.pem"\n'
    )
    return tables, Route(tls=files_in(folder / "site"))


def measure(megabytes: int, deltas: int) -> dict[str, list[float]]:
    """Seconds of each upload, by kind of connection."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="letheon-tls-")))
        plan = make_plan(folder / "federation", megabytes)
        delta = np.random.default_rng(0).standard_normal(plan.parameters.size) * 1e-4
        payload = encode(delta.astype(np.float32), plan.encoding)
        sha256 = hashlib.sha256(payload).digest()
        tables, route = secure_tables(folder)
        stubs = {}
        for name, extra, way in (("plain", "", None), ("mtls", tables, route)):
            address = stack.enter_context(
                a_coordinator(folder / name, folder / "federation", extra)
            )
            channel: grpc.Channel = open_channel(address, route=way)
            stack.callback(channel.close)
            SitesStub(channel).RegisterSite(
                sites_pb2.RegisterSiteRequest(name=f"sites/{SITE}", record_count=1)
            )
            stubs[name] = TrainingStub(channel)
        took: dict[str, list[float]] = {name: [] for name in stubs}
        for number in range(deltas + 1):
            for name, stub in stubs.items():
                seconds = push(stub, plan, payload, sha256)
                if number:  # the first one opens files and connections
                    took[name].append(seconds)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=32)
    parser.add_argument("--deltas", type=int, default=12)
    options = parser.parse_args()
    took = measure(options.megabytes, options.deltas)
    rates = {name: options.megabytes / statistics.median(seconds) for name, seconds in took.items()}
    ratios = [m / p for p, m in zip(took["plain"], took["mtls"], strict=True)]
    found = {
        "megabytes": options.megabytes,
        "deltas": options.deltas,
        "plain_megabytes_per_second": round(rates["plain"], 1),
        "mtls_megabytes_per_second": round(rates["mtls"], 1),
        "seconds_ratio_median": round(statistics.median(ratios), 3),
        "seconds_ratio_quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)],
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    sys.stdout.write(
        f"{options.deltas} deltas of {options.megabytes} MB, from the first byte to the receipt:\n"
        f"  plain  {rates['plain']:8.1f} MB/s\n  mTLS   {rates['mtls']:8.1f} MB/s\n"
        f"  an upload over mTLS takes {found['seconds_ratio_median']} times as long (median of "
        f"pairs, quartiles {found['seconds_ratio_quartiles']})\n"
    )


if __name__ == "__main__":
    main()
