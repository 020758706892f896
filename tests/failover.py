"""Two coordinators on one PostgreSQL, killed in turn under the load of several sites."""

from __future__ import annotations

import hashlib
import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from builders import Client, a_federation, a_vector, messages
from running_coordinator import Running, free_port, until
from sqlalchemy import create_engine, text

from letheon.errors import LetheonError, OffsetMismatch
from letheon.federation.encoding import encode
from letheon.servicekit.faults import DIRECTORY_VARIABLE, PROCESS_VARIABLE
from letheon.v1 import ledger_pb2, training_pb2

SITES = ("north", "south", "east")
_LATE_ANSWER_S = 0.1  # what the dead one had sent may still be read


@dataclass
class Load:
    """What the sites were promised."""

    receipts: dict[str, int] = field(default_factory=dict)  # update id -> ledger row
    times: list[float] = field(default_factory=list)  # monotonic, of each receipt
    failures: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def first_after(self, moment: float) -> float | None:
        """When the first receipt after that moment came."""
        return next((at for at in self.times if at > moment), None)


class Pair:
    """One leads, one stands by and passes connections on; `starts` of each may be repeated."""

    def __init__(
        self, directory: Path, database_url: str, lease_s: float, faults: Path | None = None
    ) -> None:
        self._directory, self._url, self._lease_s = directory, database_url, lease_s
        self._faults = faults
        self.plan = a_federation(directory / "federation")
        self.listens = {name: f"127.0.0.1:{free_port()}" for name in "ab"}
        self.running: dict[str, Running] = {}

    def start(self, name: str) -> Running:
        """Starts the coordinator of that name; it stands by if the other one leads."""
        old = self.running.get(name)
        if old is not None:
            old.end()
        storage = self._directory / "shared"
        storage.mkdir(exist_ok=True)
        listen = self.listens[name]
        self.running[name] = Running(
            self._directory / name,
            self._url,
            listen,
            self._lease_s,
            listen=listen,
            top={"federation_dir": str(self._directory / "federation")},
            tables=f'[storage]\nurl = "file://{storage}"\n[standby]\nrelay = true\n'
            f'[signing]\nkey = "{self._directory / "coordinator_key.pem"}"\n',
            env={DIRECTORY_VARIABLE: str(self._faults), PROCESS_VARIABLE: name}
            if self._faults
            else {},
        )
        return self.running[name]

    def client(self) -> Client:
        """Of both, as behind a load balancer: whichever answers is talked to."""
        return Client("ipv4:" + ",".join(self.listens.values()), self.plan)

    def end(self) -> None:
        """Both are gone."""
        for each in self.running.values():
            each.end()


@contextmanager
def a_pair(
    directory: Path, database_url: str, lease_s: float, faults: Path | None = None
) -> Iterator[Pair]:
    """A leads, B stands by and is ready; points of both may be armed in the folder `faults`."""
    pair = Pair(directory, database_url, lease_s, faults)
    try:
        pair.start("a").until_serving()
        pair.start("b").until_well("readiness")
        yield pair
    finally:
        pair.end()


def push_until_accepted(
    client: Client, site: str, payload: bytes, update_id: str, stop: threading.Event
) -> training_pb2.Receipt | None:
    """What an agent does: sends the same update until there is a receipt; None if stopped."""
    header = client.header(site, payload, update_id=update_id)
    while not stop.is_set():
        try:
            answer = client.training.PushDelta(messages(header, payload), timeout=10.0)
            if answer.HasField("receipt"):
                return answer.receipt
            header.offset = answer.committed_bytes
        except OffsetMismatch as error:
            header.offset = int(error.facts["committed_bytes"])
        except LetheonError:
            header.offset = 0
            stop.wait(0.05)
    return None


@contextmanager
def under_load(pair: Pair) -> Iterator[Load]:
    """Every site sends one update after the other, each from a connection of its own."""
    load = Load()
    client = pair.client()
    client.register(*SITES)
    client.close()
    threads = [threading.Thread(target=_send, args=(pair, site, load)) for site in SITES]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(30)


def _send(pair: Pair, site: str, load: Load) -> None:
    client = pair.client()
    seed = int(hashlib.sha256(site.encode()).hexdigest()[:6], 16)
    try:
        while not load.stop.wait(0.02):
            seed += 1
            update_id = str(uuid.uuid4())
            payload = encode(a_vector(seed, scale=1e-4), client.plan.encoding)
            receipt = push_until_accepted(client, site, payload, update_id, load.stop)
            if receipt is not None:
                load.receipts[update_id] = receipt.entry
                load.times.append(time.monotonic())
    except Exception as error:  # noqa: BLE001 - told at the end, by the thread of the test
        load.failures.append(f"{site}: {error!r}")
    finally:
        client.close()


def kill_the_leader(pair: Pair, load: Load, leader: str) -> float:
    """Seconds from kill -9 to the next accepted update; the killed one is started again after."""
    begun = time.monotonic()
    until(lambda: load.first_after(begun) is not None, lambda: f"no load: {load.failures}")
    killed = time.monotonic()
    pair.running[leader].kill()
    until(
        lambda: load.first_after(killed + _LATE_ANSWER_S) is not None,
        lambda: "nobody takes over: " + pair.running["b" if leader == "a" else "a"].log(),
    )
    accepted = load.first_after(killed + _LATE_ANSWER_S)
    assert accepted is not None
    pair.start(leader).until_well("readiness")
    return accepted - killed


def check_nothing_lost(pair: Pair, database_url: str, load: Load) -> int:
    """Every receipt is one row of the ledger, the replay holds; answers how many."""
    assert load.failures == []
    engine = create_engine(database_url)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT update_id, entry FROM entries WHERE update_id IS NOT NULL")
        ).all()
    engine.dispose()
    kept = {str(row[0]): int(row[1]) for row in rows}
    assert len(kept) == len(rows), "an update is in the ledger twice"
    missing = {update: at for update, at in load.receipts.items() if kept.get(update) != at}
    assert not missing, f"acknowledged and not in the ledger: {missing}"
    client = pair.client()
    *_, last = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest(), timeout=60)
    assert last.verdict.holds, last.verdict.reason
    client.close()
    return len(load.receipts)


def summary(seconds: list[float]) -> str:
    """Median and worst."""
    return f"median {statistics.median(seconds):.1f} s, worst {max(seconds):.1f} s"
