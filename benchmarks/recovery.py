"""How long a coordinator takes to come back after kill -9: checkpoint, replay, serving.

Builds a data directory whose ledger has many retained rows of a large model, then starts the real
process, kills it with SIGKILL and starts it again and again, from checkpoints of different age.
Every row holds a delta as large as the model; the payloads repeat from a small pool, so that the
disk stays small. A replay reads, hashes and adds the payload of every row all the same, but mostly
from the page cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from coordinator.adapters.sql import SqlStore
from coordinator.config import CoordinatorConfig
from coordinator.core import Core
from coordinator.core_wiring import build_core
from coordinator.domain.ledger_rows import follow
from coordinator.domain.site import Site, SiteState
from coordinator.domain.upload import DeltaPurpose, Header, Receipt
from coordinator.services.replay_start import payload_reader
from coordinator.training_wiring import receive_upload
from letheon.federation.encoding import encode
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import Layout, TensorSpec, write_safetensors
from letheon.federation.plan import PlanDraft
from letheon.servicekit.clock import SystemClock

SITE = "north"
POOL = 16
RESULTS = Path(__file__).parent / "results" / "recovery.json"
START_DEADLINE_S = 900.0


@dataclass(frozen=True)
class Measured:
    encoding: str
    case: str
    entries_replayed: int
    seconds_to_serving: float  # from exec to health SERVING
    seconds_of_recovery: float  # of the head, in the process
    megabytes_replayed: float
    megabytes_per_second: float | None


def make_layout(elements: int) -> Layout:
    rows = elements // 4
    return Layout(tuple(TensorSpec(f"block{i}.weight", (rows // 1000, 1000)) for i in range(4)))


def make_config(directory: Path, upkeep: dict[str, int]) -> CoordinatorConfig:
    return CoordinatorConfig.model_validate(
        {
            "data_dir": directory / "data",
            "federation_dir": directory / "federation",
            "redis_url": "redis://127.0.0.1:1/0",
            "upkeep": upkeep,
        }
    )


def make_federation(directory: Path, elements: int, encoding: str) -> None:
    layout = make_layout(elements)
    plan = PlanDraft.model_validate(
        {
            "name": "recovery",
            "model": {"plugin": "small_cnn", "arguments": {}},
            "image": {"channels": 1, "height": 8, "width": 8},
            "classes": 3,
            "encoding": encoding,
        }
    ).with_layout(layout)
    directory.mkdir(parents=True)
    (directory / "plan.json").write_bytes(plan.canonical_json())
    weights = np.random.default_rng(0).standard_normal(layout.size, dtype=np.float32)
    write_safetensors(directory / "initial.safetensors", weights, layout)


def push(core: Core, payload: bytes) -> None:
    """One delta through the use case that serves PushDelta."""
    position = core.live.position
    header = Header(
        update_id=str(uuid.uuid4()),
        size_bytes=len(payload),
        sha256=hashlib.sha256(payload).hexdigest(),
        offset=0,
        layout=tuple((t.name, t.shape, core.plan.encoding) for t in core.plan.parameters.tensors),
        purpose=DeltaPurpose(SITE, "train-0-0-0", position.version, position.epoch, 0, 100, 0.5),
    )
    receipt = receive_upload(core).receive(header, lambda offset: iter([payload[offset:]]))
    if not isinstance(receipt, Receipt):
        raise TypeError("the delta was not taken whole")


def repeat(core: Core, count: int) -> None:
    """That many more delta rows that name the payloads of the pool again."""
    with core.store.read() as uow:
        pool = uow.entries.page(1, POOL)
    read = payload_reader(core.blobs)
    deltas = [read(row) for row in pool]
    for number in range(count):
        old = pool[number % len(pool)]
        with core.live.exclusive() as head, core.store.write() as uow:
            row = follow(
                head.newest,
                EntryKind.DELTA,
                at=core.clock.now(),
                site=SITE,
                update_id=str(uuid.uuid4()),
                base_version=head.newest.version,
                staleness=0,
                coefficient=old.coefficient,
                payload_sha256=old.payload_sha256,
                payload_bytes=old.payload_bytes,
                encoding=old.encoding,
                details=old.details,
            )
            uow.entries.add(row)
            head.commit(uow, [row], {row.entry: deltas[number % len(pool)]})


def enrol(core: Core) -> None:
    now = core.clock.now()
    with core.store.write() as uow:
        uow.sites.add(
            Site(
                id=SITE,
                state=SiteState.ACTIVE,
                display_name=SITE,
                record_count=100,
                registered_at=now,
                last_seen_at=now,
            )
        )
        uow.commit()


def fill(core: Core, rows: int) -> None:
    """Deltas of a pool through the whole use case, the rest as rows that name them again."""
    enrol(core)
    size = core.plan.parameters.size
    for seed in range(POOL):
        delta = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
        push(core, encode(np.multiply(delta, 0.01, dtype=np.float32), core.plan.encoding))
    repeat(core, rows - POOL)


def open_core(config: CoordinatorConfig) -> Core:
    config.data_dir.mkdir(parents=True, exist_ok=True)
    return build_core(config, SqlStore(config.database_url), SystemClock())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(directory: Path, encoding: str, case: str) -> Measured:
    """Starts the process, waits until it serves, and kills it."""
    log, port = directory / "log.jsonl", free_port()
    started = time.monotonic()
    process = launch(directory, log, port)
    try:
        wait_until_serving(process, port, log)
        to_serving = time.monotonic() - started
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    recovered = next(r for r in read_log(log) if r.get("event") == "head_recovered")
    entries, seconds = int(str(recovered["entries"])), float(str(recovered["seconds"]))
    megabytes = entries * payload_bytes(directory, encoding) / 1e6
    return Measured(
        encoding=encoding,
        case=case,
        entries_replayed=entries,
        seconds_to_serving=round(to_serving, 2),
        seconds_of_recovery=round(seconds, 2),
        megabytes_replayed=round(megabytes, 1),
        megabytes_per_second=round(megabytes / seconds, 1) if entries else None,
    )


def payload_bytes(directory: Path, encoding: str) -> int:
    model = (directory / "federation" / "initial.safetensors").stat().st_size
    return model // (2 if encoding == "float16" else 1)


def launch(directory: Path, log: Path, port: int) -> subprocess.Popen[bytes]:
    """No checkpoint is due while it is measured."""
    config = directory / "coordinator.toml"
    config.write_text(
        f'data_dir = "{directory / "data"}"\n'
        f'listen = "127.0.0.1:{port}"\n'
        'redis_url = "redis://127.0.0.1:1/0"\n'
        "[upkeep]\nevery_seconds = 3600\ncheckpoint_entries = 100000\n"
        "recovery_entries = 100000\nfold_entries = 100000\n"
        "[retention]\nkeep_entries = 100000\n"
    )
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "coordinator", "--config", str(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_until_serving(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    with grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 100)]
    ) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise SystemExit(f"the coordinator ended: {log.read_text()[-2000:]}")
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True)
            except grpc.RpcError:
                continue
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise SystemExit("the coordinator did not serve in time")


def read_log(log: Path) -> Iterator[dict[str, object]]:
    for line in log.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue


def run(encoding: str, elements: int, rows: int, behind: int) -> Iterator[Measured]:
    """The cases of one encoding, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="letheon-recovery-") as name:
        directory = Path(name)
        make_federation(directory / "federation", elements, encoding)
        config = make_config(directory, {"recovery_entries": 1_000_000})
        core = open_core(config)
        began = time.monotonic()
        fill(core, rows - behind)
        core.derived.checkpoint()
        say(f"{encoding}: rows written in {time.monotonic() - began:.0f} s")
        measure(directory, encoding, "the start that is killed first")
        yield measure(directory, encoding, "checkpoint just written")
        # The process is gone whenever this one writes.
        repeat(core, behind)
        yield measure(directory, encoding, "worst case of the default cadence")
        drop_checkpoints(core)
        yield measure(directory, encoding, "all retained entries")
        core.store.close()  # type: ignore[attr-defined]


def drop_checkpoints(core: Core) -> None:
    """All but that of the first row."""
    with core.store.write() as uow:
        for checkpoint in uow.checkpoints.all():
            if checkpoint.entry > 0:
                uow.checkpoints.remove(checkpoint.entry)
        uow.commit()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--elements", type=int, default=25_000_000, help="float32 of the model")
    parser.add_argument("--entries", type=int, default=1000, help="retained rows")
    parser.add_argument("--behind", type=int, default=49, help="rows after the checkpoint")
    parser.add_argument("--encodings", nargs="+", default=["float32", "float16"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    say(
        f"model of {options.elements * 4 / 1e6:.0f} MB, {options.entries} retained entries; their "
        f"payloads repeat from a pool of {POOL}: {POOL} are pushed through the real use case, the "
        "other rows name them again; the kill is SIGKILL, the files are mostly in the page cache"
    )
    results = []
    for encoding in options.encodings:
        for found in run(encoding, options.elements, options.entries, options.behind):
            rate = found.megabytes_per_second
            say(
                f"{found.encoding}, {found.case}: {found.entries_replayed} entries replayed, "
                f"{found.seconds_to_serving} s from exec to SERVING, {found.seconds_of_recovery} s "
                f"of head recovery{f', {rate} MB/s' if rate else ''}"
            )
            results.append(asdict(found))
    machine = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    document = {
        "model_bytes": options.elements * 4,
        "retained_entries": options.entries,
        "distinct_payloads": POOL,
        "machine": machine,
        "results": results,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
