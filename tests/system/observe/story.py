"""A federation that trains, refuses an upload, erases a site and is verified, all for real."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from builders import Client
from observing_receiver import Receiver

from letheon.cli.following import TERMINAL
from letheon.cli.local.dataset import make_synthetic
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import Recipe, prepare
from letheon.cli.local.running import LocalFederation, Pace
from letheon.cli.remote import Remote, connect
from letheon.errors import LetheonError, MalformedUpdate, SiteFenced
from letheon.federation.plan import Plan
from letheon.v1 import erasures_pb2, federation_pb2, ledger_pb2

from .prometheus import Prometheus

LEAVES = "site-2"
_SETTINGS = {
    "training": {
        "local_steps": 8,
        "batch_size": 16,
        "learning_rate": 0.04,
        "final_learning_rate": 0.04,
        "decay_versions": 80,
    },
    # The story is about what can be seen, not about how well the model does in a minute.
    "gate": {"every": 4, "utility_margin": 0.9, "worst_site_margin": 0.9, "bootstrap": 50},
}


@dataclass(frozen=True)
class Watched:
    """A running federation, who watches it, and who gets its traces."""

    federation: LocalFederation
    remote: Remote
    prometheus: Prometheus
    receiver: Receiver
    client: Client
    say: Callable[[str], None]

    def until(self, what: str, holds: Callable[[], bool], within_s: float) -> None:
        """Waits. Raises TimeoutError naming what did not come."""
        end = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > end:
                raise TimeoutError(f"{what}: not within {within_s:.0f} s")
            self.federation.tend()
            time.sleep(0.2)

    def version(self) -> int:
        """Of the head."""
        asked = federation_pb2.GetFederationRequest()
        return int(self.remote.federation.GetFederation(asked).head_version)


@contextmanager
def watched(out: Path, *, sites: int, say: Callable[[str], None]) -> Iterator[Watched]:
    """Starts everything; stops everything."""
    folder = FederationFolder(out / "federation")
    made = prepare(folder, make_synthetic(0), Recipe(sites, 1.0, 0), settings=_SETTINGS)
    with (
        Receiver() as receiver,
        LocalFederation(
            folder, made.sites, pace=Pace(1.0), say=say, tracing=receiver.endpoint
        ) as federation,
        Prometheus(out / "prometheus", _jobs(federation)) as prometheus,
        connect(federation.address) as remote,
    ):
        plan = Plan.from_canonical(
            remote.federation.GetPlan(federation_pb2.GetPlanRequest()).canonical_json
        )
        client = Client(federation.address, plan)
        try:
            yield Watched(federation, remote, prometheus, receiver, client, say)
        finally:
            client.close()


def _jobs(federation: LocalFederation) -> dict[str, str]:
    return {
        name if name.startswith("site-") else f"letheon-{name}": address
        for name, address in federation.metrics.items()
    }


def tell(world: Watched, *, before: int, after: int, verdict_s: float = 180.0) -> str:
    """Trains to a version, erases a site, trains on; the state in which the erasure ended."""
    world.client.register("visitor")
    world.until("the first versions", lambda: world.version() >= before, 120.0)
    _refused(world)
    verify(world)
    world.say(f"version {world.version()}: {LEAVES} withdraws")
    name = world.remote.erasures.RequestErasure(
        erasures_pb2.RequestErasureRequest(
            request_id=str(uuid.uuid4()),
            site=f"sites/{LEAVES}",
            legal_basis="GDPR-17-1-b",
            level=erasures_pb2.L1,
            method="removal",
            requester="observe",
        )
    ).name

    def erasure() -> erasures_pb2.Erasure:
        return world.remote.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=name))

    world.until("the end of the erasure", lambda: erasure().state in TERMINAL, verdict_s)
    state = erasures_pb2.Erasure.State.Name(erasure().state)
    world.say(f"{name} ended {state}")
    goal = world.version() + after
    world.until("versions after the erasure", lambda: world.version() >= goal, 120.0)
    verify(world)
    return state


def verify(world: Watched) -> None:
    """A verification of the ledger; raises AssertionError if it does not hold."""
    parts = list(world.client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest(), timeout=60))
    assert parts[-1].verdict.holds, parts[-1].verdict.reason


def _refused(world: Watched) -> None:
    """A site that sends what is no number, and is told so."""
    delta = np.full(world.client.plan.parameters.size, np.nan, dtype=np.float32)
    for _ in range(3):
        try:
            world.client.push("visitor", delta, base_version=world.version())
        except MalformedUpdate as error:
            world.say(f"visitor is refused: {error.message}")
            continue
        except (SiteFenced, LetheonError) as error:
            raise AssertionError(f"refused for another reason: {error}") from error
        raise AssertionError("a delta of NaN was accepted")
