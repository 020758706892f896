"""The two federations of the demo: the one that forgets, and the one that never saw the site."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from letheon.cli.demo.data import Backdoor
from letheon.cli.demo.ledger_reading import (
    AgentReceipt,
    LedgerLog,
    Throughput,
    crossed_fence,
    lost_updates,
    read_receipts,
    throughput,
)
from letheon.cli.demo.observer import (
    Measurement,
    Observer,
    Watcher,
    WithdrawnRecords,
    read_withdrawn,
)
from letheon.cli.demo.promises import Counts, Promise, check
from letheon.cli.demo.settings import WITHDRAWN, DemoSettings
from letheon.cli.demo.story import SUBJECT, Story, Told, write_certificate
from letheon.cli.documents import instant
from letheon.cli.local.dataset import Dataset
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import Recipe, prepare
from letheon.cli.local.running import LocalFederation
from letheon.cli.remote import connect
from letheon.cli.screen import say
from letheon.errors import LetheonError
from letheon.imaging.backdoor import Trigger
from letheon.imaging.records import Records
from letheon.proof.certificate import trust, verify_file
from letheon.v1 import erasures_pb2

# Poisoned share of the withdrawn site's records of other classes, as in the study.
BACKDOOR_SHARE = 0.7
# In fewer seconds one delta more or less is more than the five per cent that is looked for.
WINDOW_AT_LEAST_S = 20.0
CERTIFICATE_FILE = "certificate.json"
KEY_FILE, LOG_KEY_FILE = "signing_key.pub.pem", "coordinator_key.pub.pem"


@dataclass(frozen=True)
class Lab:
    """What both runs share."""

    settings: DemoSettings
    dataset: Dataset
    began: float  # monotonic seconds

    @property
    def backdoor(self) -> Backdoor:
        """Planted before the control set is split off; class 0 is what it asks for."""
        return Backdoor(Trigger(), 0, BACKDOOR_SHARE, self.settings.seed)

    def tell(self, line: str) -> None:
        """A line with the seconds since the demo began."""
        say(f"{time.monotonic() - self.began:6.1f} s  {line}")

    def tell_measured(self, measured: Measurement) -> None:
        """Live progress."""
        self.tell(
            f"version {measured.version}: accuracy {100 * measured.accuracy:.1f} %, "
            f"backdoor {100 * measured.backdoor_success:.1f} %"
        )

    def prepare(self, name: str, left_out: frozenset[str]) -> tuple[FederationFolder, list[str]]:
        """A folder with everything but the sites left out."""
        folder = FederationFolder(self.settings.out / name)

        def alter(site: str, records: Records) -> Records:
            return self.backdoor.plant(records) if site == WITHDRAWN else records

        recipe = Recipe(
            sites=self.settings.sites,
            alpha=self.settings.alpha,
            seed=self.settings.seed,
            alter=alter,
            left_out=left_out,
        )
        made = prepare(folder, self.dataset, recipe, settings=self.settings.plan)
        return folder, list(made.sites)


@dataclass(frozen=True)
class Outcome:
    """The run that forgets."""

    told: Told
    counts: Counts
    promises: Sequence[Promise]
    series: Sequence[Measurement]
    records: WithdrawnRecords
    retained_deltas: int  # in all


def withdrawal_run(lab: Lab) -> Outcome:
    """Trains five sites, erases one, stops everything, then counts."""
    settings = lab.settings
    folder, sites = lab.prepare("federation", frozenset())
    lab.tell("starting Redis, coordinator, calibrator and the agents")
    with LocalFederation(
        folder, sites, pace=settings.pace, secure=settings.secure, say=lab.tell
    ) as federation:
        lab.tell(f"coordinator at {federation.address}")
        if federation.secure is not None:
            lab.tell(
                "every connection is mutual TLS; each site traded a one-time token; updates and "
                "models are signed; the coordinator's files are encrypted"
            )
        with connect(federation.address) as remote:
            observer = Observer(remote, lab.dataset.test, lab.backdoor, seed=settings.seed)
            story = Story(settings, federation, remote, observer, lab.tell)
            with Watcher(observer, remote, settings.observe_every, lab.tell_measured):
                told = story.run(lambda: read_withdrawn(folder, WITHDRAWN))
            federation.stop_agents()
            story.ledger.refresh()
    lab.tell("all processes are stopped")
    write_certificate(settings.out / CERTIFICATE_FILE, told.certificate)
    shutil.copyfile(folder.public_key, settings.out / KEY_FILE)
    shutil.copyfile(folder.coordinator_public_key, settings.out / LOG_KEY_FILE)
    counts = _count(folder, sites, story.ledger, told)
    return Outcome(
        told=told,
        counts=counts,
        promises=check(told, counts, throughput_at_least=settings.throughput_at_least),
        series=observer.series,
        records=read_withdrawn(folder, WITHDRAWN),
        retained_deltas=len(story.ledger.deltas(without=SUBJECT)),
    )


def _count(folder: FederationFolder, sites: Sequence[str], ledger: LedgerLog, told: Told) -> Counts:
    receipts: list[AgentReceipt] = []
    for site in sites:
        receipts += read_receipts(folder.site(site) / "state" / "agent.db", site)
    fenced = instant(told.erasure.fenced_at)
    return Counts(
        receipts=len(receipts),
        lost=lost_updates(receipts, ledger.rows),
        crossed=crossed_fence(ledger.rows, SUBJECT, fenced) if fenced else (),
        throughput=_throughput(ledger, told),
        certificate_problem=_certificate_problem(told, folder),
    )


def _throughput(ledger: LedgerLog, told: Told) -> Throughput | None:
    erasure = told.erasure
    asked, removed = instant(erasure.requested_at), instant(erasure.removed_at)
    gate = instant(erasure.attempts[-1].at) if erasure.attempts else None
    if asked is None or removed is None or gate is None:
        return None
    begin = removed.timestamp()
    return throughput(
        ledger.rows,
        SUBJECT,
        requested=asked.timestamp(),
        begin=begin,
        end=max(gate.timestamp(), min(begin + WINDOW_AT_LEAST_S, ledger.rows[-1].at)),
    )


def _certificate_problem(told: Told, folder: FederationFolder) -> str | None:
    """Why the certificate does not hold under the keys of this federation, or None."""
    if told.certificate is None:
        due = told.erasure.state == erasures_pb2.Erasure.CERTIFIED
        return "there is none" if due else None
    try:
        log_key = folder.coordinator_public_key.read_bytes()
        verify_file(told.certificate, trust(folder.public_key.read_bytes(), log_key))
    except LetheonError as error:
        return error.message
    return None


def reference_run(lab: Lab, outcome: Outcome) -> Measurement:
    """Trains the same sites without the withdrawn one, for as many of their deltas."""
    settings = lab.settings
    folder, sites = lab.prepare("retrained", frozenset({WITHDRAWN}))
    lab.tell(f"retraining without {WITHDRAWN}: {outcome.retained_deltas} deltas")
    with (
        LocalFederation(
            folder, sites, pace=settings.pace, secure=settings.secure, say=lab.tell
        ) as federation,
        connect(federation.address) as remote,
    ):
        observer = Observer(remote, lab.dataset.test, lab.backdoor, seed=settings.seed)
        story = Story(settings, federation, remote, observer, lab.tell)
        story.train_until(lambda: len(story.ledger.deltas()) >= outcome.retained_deltas)
        measured = observer.measure(observer.fetch(None), outcome.records)
    lab.tell_measured(measured)
    return measured
