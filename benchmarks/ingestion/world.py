"""A real coordinator and the reference server, as processes of their own on one disk."""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmarks.ingestion.identities import SERVER, make_identities, server_table
from benchmarks.ingestion.payloads import Payload, Payloads, layout_of, noise
from benchmarks.ingestion.senders import Delta, Raw
from letheon.cli.local.running import free_ports
from letheon.cli.local.toml_text import TomlTable, toml_text
from letheon.federation.parameters import Layout, write_safetensors
from letheon.federation.plan import PlanDraft
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity_folder import files_in
from letheon.servicekit.processes import Child
from letheon.servicekit.route import Route
from letheon.v1 import sites_pb2, sites_pb2_grpc

START_S = 60.0
PLAINTEXT, MUTUAL_TLS = "plaintext", "mTLS"
LOOK_AGAIN_S = 0.01


@dataclass
class Bench:
    """One coordinator of one layout, and what to compare it with."""

    directory: Path
    layout: Layout
    sites: tuple[str, ...]
    coordinator: Child
    address: str
    metrics_address: str
    reference_address: str
    identities: Path | None = None  # folders of certificates, by site: mutual TLS

    @cached_property
    def payloads(self) -> Payloads:
        """What is pushed."""
        return Payloads(self.directory / "deltas", self.layout.size)

    def delta(self, payload: Payload, site: str) -> Delta:
        """The payload on its way to the coordinator."""
        tensors = tuple((t.name, t.shape) for t in self.layout.tensors)
        return Delta(self.address, site, payload, tensors, self.identity(site))

    def raw(self, payload: Payload, method: str) -> Raw:
        """The payload on its way to the reference server, over the same kind of connection."""
        return Raw(self.reference_address, method, payload, self.identity(self.sites[0]))

    def identity(self, site: str) -> Path | None:
        """The folder of the site's certificate; None without TLS."""
        return None if self.identities is None else self.identities / site

    def metrics(self) -> dict[str, float]:
        """Every sample of the coordinator, by its name with labels."""
        url = f"http://{self.metrics_address}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def memory(self) -> dict[str, int]:
        """Bytes now and at most (`VmRSS`, `VmHWM`) of the coordinator."""
        lines = Path(f"/proc/{self.coordinator.pid}/status").read_text().splitlines()
        wanted = (line.split() for line in lines if line.startswith(("VmRSS", "VmHWM")))
        return {words[0].rstrip(":"): int(words[1]) * 1024 for words in wanted}

    def forget_peak(self) -> None:
        """`VmHWM` begins anew."""
        Path(f"/proc/{self.coordinator.pid}/clear_refs").write_text("5")


@contextmanager
def a_bench(
    directory: Path, *, megabytes: int, tensors: int, sites: int, transport: str = PLAINTEXT
) -> Iterator[Bench]:
    """Both servers, started; every site enrolled. Both are reached by the same transport."""
    layout = layout_of(megabytes, tensors)
    make_federation(directory / "federation", layout)
    names = tuple(f"site-{number}" for number in range(1, sites + 1))
    identities: Path | None = None
    settings: TomlTable = {}
    if transport == MUTUAL_TLS:
        identities = directory / "identities"
        make_identities(identities, names)
        settings = {"tls": server_table(identities)}
    with ExitStack() as opened:
        port, metrics_port = free_ports(2)
        coordinator = start_coordinator(directory, port, metrics_port, settings)
        opened.callback(coordinator.stop)
        address = await_file(directory / "address", coordinator)
        reference = start_reference(directory, identities)
        opened.callback(reference.stop)
        reference_address = await_file(directory / "reference-address", reference)
        enrol(address, names, identities)
        yield Bench(
            directory,
            layout,
            names,
            coordinator,
            address,
            f"127.0.0.1:{metrics_port}",
            reference_address,
            identities,
        )


def make_federation(directory: Path, layout: Layout) -> None:
    """A plan of that layout and its first weights."""
    plan = PlanDraft.model_validate(
        {
            "name": "bench",
            "model": {"plugin": "small_cnn", "arguments": {}},
            "image": {"channels": 1, "height": 8, "width": 8},
            "classes": 3,
        }
    ).with_layout(layout)
    directory.mkdir(parents=True)
    (directory / "plan.json").write_bytes(plan.canonical_json())
    write_safetensors(directory / "initial.safetensors", noise(layout.size, 1001), layout)


def start_coordinator(directory: Path, port: int, metrics_port: int, settings: TomlTable) -> Child:
    """The process as it is shipped. Nothing listens at its Redis: erasures wait in the outbox."""
    table: TomlTable = {
        "listen": f"127.0.0.1:{port}",
        "metrics_listen": f"127.0.0.1:{metrics_port}",
        "data_dir": directory / "data",
        "federation_dir": directory / "federation",
        "redis_url": "redis://127.0.0.1:1/0",
        "address_file": directory / "address",
        "limits": {"transfers": 24, "transfers_per_site": 16},
        **settings,
    }
    (directory / "coordinator.toml").write_text(toml_text(table))
    (directory / "address").unlink(missing_ok=True)
    command = [sys.executable, "-m", "coordinator", "--config", directory / "coordinator.toml"]
    return Child(command, name="coordinator", log_path=directory / "coordinator.log").start()


def start_reference(directory: Path, identities: Path | None) -> Child:
    """The reference server, writing to the same disk."""
    (directory / "reference").mkdir()
    command = [sys.executable, "-m", "benchmarks.ingestion.reference"]
    command += ["--directory", str(directory / "reference")]
    command += ["--address-file", str(directory / "reference-address")]
    if identities is not None:
        command += ["--identity", str(identities / SERVER)]
    return Child(
        command, name="reference", log_path=directory / "reference.log", env=dict(os.environ)
    ).start()


def await_file(path: Path, child: Child) -> str:
    """What the child wrote once it served. Raises SystemExit with its last words."""
    deadline, pause = time.monotonic() + START_S, threading.Event()
    while time.monotonic() < deadline and child.poll() is None:
        if path.exists():
            return path.read_text().strip()
        pause.wait(LOOK_AGAIN_S)
    raise SystemExit(f"{child.name} does not serve: {child.log_tail()}")


def enrol(address: str, sites: tuple[str, ...], identities: Path | None) -> None:
    """Registers the sites, each by itself if it has a certificate."""
    for site in sites:
        route = None if identities is None else Route(tls=files_in(identities / site))
        with open_channel(address, route=route) as channel:
            sites_pb2_grpc.SitesStub(channel).RegisterSite(
                sites_pb2.RegisterSiteRequest(
                    name=f"sites/{site}", display_name=site, record_count=100
                )
            )
