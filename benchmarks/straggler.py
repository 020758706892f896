"""What a site ten times slower than the others costs, asynchronously and in synchronous rounds.

Starts federations of real processes on this machine, one after another: the strategy (FedAsync, or
FedAvg, whose rounds wait for every site) with and without a straggler, everything else the same.
Each trains until as many deltas were accepted; one site is erased by `removal`. Read from the
erasure and the ledger: seconds from the request to fenced, to the erased head, to the version that
passed the gate (repaired), and to the passed gate; accepted deltas per second of the retained
sites before and during it. The gate gives a site that is slow to answer some seconds of grace
(`gate.straggler_grace_seconds` of the plan): with a straggler they are between the last two.

A local training takes a fixed time at each site, whatever it needs of the processor. An agent that
waits for the others in a round asks again every half second, which is part of what it measures. In
rounds the request comes when one has just ended: their best case, for no work under way is lost.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from straggler_report import ASYNC_SLOW, CASES, Case, Measured, print_table, write

from letheon.cli.demo.data import find_images, resplit, trimmed
from letheon.cli.demo.ledger_reading import LedgerLog, Throughput, throughput
from letheon.cli.demo.memory import Usage
from letheon.cli.demo.runs import WINDOW_AT_LEAST_S, Lab
from letheon.cli.demo.settings import PACES, DemoSettings
from letheon.cli.demo.story import SUBJECT
from letheon.cli.documents import instant, seconds_between
from letheon.cli.following import TERMINAL
from letheon.cli.local.dataset import Dataset
from letheon.cli.local.running import LocalFederation, Pace
from letheon.cli.local.toml_text import TomlTable
from letheon.cli.remote import Remote, connect
from letheon.cli.screen import JsonValue, say
from letheon.errors import InternalFault
from letheon.v1 import erasures_pb2, federation_pb2

RESULTS = Path(__file__).parent / "results" / "straggler.json"
SLOW_SITE, SLOWER = "site-5", 10.0
# As `letheon up` writes them.
TRAINING: TomlTable = {
    "local_steps": 32,
    "batch_size": 32,
    "learning_rate": 0.04,
    "final_learning_rate": 0.01,
}
# The calibrator and the schedule of the rate count versions, and a version of FedAvg is a round.
GATE_DELTAS = 8  # of retained sites, between two attempts
DECAY_DELTAS = 80  # over which the rate falls
STRATEGIES: dict[str, TomlTable] = {
    "fedasync": {
        "plugin": "fedasync",
        "arguments": {"server_learning_rate": 0.3, "staleness": "polynomial"},
    },
    "fedavg": {"plugin": "fedavg", "arguments": {"server_learning_rate": 1.0}},
}
LOOK_AGAIN_S = 0.25
STANDSTILL_S = 120.0


@dataclass(frozen=True)
class Study:
    """What all cases share."""

    dataset: Dataset
    out: Path
    pace_s: float
    before: int  # accepted deltas until the request
    limit_s: float  # of an erasure

    def pace(self, case: Case) -> Pace:
        factors = {**PACES, SLOW_SITE: SLOWER if case.straggler else 1.0}
        return Pace(stragglers={site: f * self.pace_s for site, f in factors.items()})

    def settings(self, case: Case, seed: int) -> DemoSettings:
        """The demo's, with the strategy of the case."""
        settings = DemoSettings(seed=seed, out=self.out)
        deltas_a_version = 1 if case.strategy == "fedasync" else settings.sites
        retained_a_version = 1 if case.strategy == "fedasync" else settings.sites - 1
        plan: dict[str, TomlTable] = {
            "gate": {"every": GATE_DELTAS // retained_a_version},
            "training": {**TRAINING, "decay_versions": DECAY_DELTAS // deltas_a_version},
            "strategy": STRATEGIES[case.strategy],
        }
        return replace(settings, plan=plan)


def measure(study: Study, case: Case, seed: int) -> Measured:
    """One federation from its first delta to the passed gate."""
    lab = Lab(study.settings(case, seed), study.dataset, time.monotonic())
    shutil.rmtree(study.out / "federation", ignore_errors=True)
    folder, sites = lab.prepare("federation", frozenset())
    pace = study.pace(case)
    with (
        Usage() as usage,
        LocalFederation(folder, sites, pace=pace, say=lab.tell) as federation,
        connect(federation.address) as remote,
    ):
        ledger = LedgerLog(remote)
        wait(federation, ledger, lambda: len(ledger.deltas()) >= study.before)
        erasure = erase(remote, federation, ledger, limit_s=study.limit_s)
        until = _moment(erasure.removed_at) + WINDOW_AT_LEAST_S
        wait(federation, ledger, lambda: ledger.rows[-1].at >= until)
        status = remote.federation.GetFederation(federation_pb2.GetFederationRequest())
    superseded = status.updates.get("superseded", 0)
    return _read(case, seed, erasure, ledger, superseded=superseded, usage=usage)


def wait(federation: LocalFederation, ledger: LedgerLog, enough: Callable[[], bool]) -> None:
    """Lets the sites train. Raises InternalFault if nothing arrives any more."""
    known, since = -1, time.monotonic()
    while True:
        federation.tend()
        ledger.refresh()
        if enough():
            return
        if len(ledger.rows) != known:
            known, since = len(ledger.rows), time.monotonic()
        elif time.monotonic() - since > STANDSTILL_S:
            raise InternalFault(f"no delta arrived for {STANDSTILL_S:.0f} s")
        time.sleep(LOOK_AGAIN_S)


def erase(
    remote: Remote, federation: LocalFederation, ledger: LedgerLog, *, limit_s: float
) -> erasures_pb2.Erasure:
    """The erasure of one site, followed to its end or the limit."""
    filed = remote.erasures.RequestErasure(
        erasures_pb2.RequestErasureRequest(
            request_id=str(uuid.uuid4()),
            site=SUBJECT,
            legal_basis="GDPR-17-1-b",
            level=erasures_pb2.L1,
            method="removal",
            requester="benchmark",
        )
    )
    question, end = erasures_pb2.GetErasureRequest(name=filed.name), time.monotonic() + limit_s
    while True:
        federation.tend()
        ledger.refresh()
        erasure = remote.erasures.GetErasure(question)
        if erasure.state in TERMINAL or time.monotonic() > end:
            return erasure
        time.sleep(LOOK_AGAIN_S)


def _read(
    case: Case,
    seed: int,
    erasure: erasures_pb2.Erasure,
    ledger: LedgerLog,
    *,
    superseded: int,
    usage: Usage,
) -> Measured:
    passed = [a for a in erasure.attempts if a.verdict == erasures_pb2.Attempt.PASS]
    found = _throughput(erasure, ledger)
    numbers = _utility(passed[-1]) if passed else {}
    until = _moment(passed[-1].at) if passed else ledger.rows[-1].at
    removal = ledger.removal()
    after = ledger.deltas(since=removal.entry, without=SUBJECT) if removal else []
    return Measured(
        case=case.name,
        seed=seed,
        state=erasures_pb2.Erasure.State.Name(erasure.state),
        fenced_s=seconds_between(erasure.requested_at, erasure.fenced_at),
        erased_head_s=seconds_between(erasure.requested_at, erasure.removed_at),
        repaired_s=_repaired_s(erasure, passed[-1], ledger) if passed else None,
        gate_s=seconds_between(erasure.requested_at, passed[-1].at) if passed else None,
        attempts=len(erasure.attempts),
        retained_deltas_to_gate=sum(row.at <= until for row in after),
        accuracy_before=numbers.get("mean_before"),
        accuracy_at_gate=numbers.get("mean_candidate"),
        window_s=round(found.window_s, 2),
        per_second_before=round(found.before / found.window_s, 4),
        per_second_during=round(found.during / found.window_s, 4),
        during_to_before=round(found.ratio, 4),
        superseded=superseded,
        own_cores_busy=round(usage.own_busy, 3),
        all_cores_busy=round(usage.mean_busy, 3),
    )


def _repaired_s(
    erasure: erasures_pb2.Erasure, passed: erasures_pb2.Attempt, ledger: LedgerLog
) -> float:
    born = next(row.at for row in ledger.rows if row.version == passed.version)
    return round(born - _moment(erasure.requested_at), 3)


def _throughput(erasure: erasures_pb2.Erasure, ledger: LedgerLog) -> Throughput:
    """As the demo reads promise 3: to the last attempt, or a window that holds enough deltas."""
    begin = _moment(erasure.removed_at)
    gate = _moment(erasure.attempts[-1].at) if erasure.attempts else ledger.rows[-1].at
    return throughput(
        ledger.rows,
        SUBJECT,
        requested=_moment(erasure.requested_at),
        begin=begin,
        end=max(gate, begin + WINDOW_AT_LEAST_S),
    )


def _utility(attempt: erasures_pb2.Attempt) -> dict[str, float]:
    return next(json.loads(t.numbers_json) for t in attempt.tests if t.name == "utility")


def _moment(stamp: Timestamp) -> float:
    at = instant(stamp)
    if at is None:
        raise InternalFault("the erasure did not get that far within the limit")
    return at.timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("LETHEON_DATA"))
    parser.add_argument("--dataset", help="name of the file in the folder, or synthetic")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", type=int, nargs="+", default=list(range(len(CASES))))
    parser.add_argument("--before", type=int, default=60, help="accepted deltas until the request")
    parser.add_argument("--pace", type=float, default=1.5, help="seconds of a local training")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds of an erasure")
    parser.add_argument("--work", type=Path, default=Path("out/straggler"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    # Everything that was started is stopped, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load = os.getloadavg()[0]
    images = images_of(options.data, options.dataset, options.work)
    study = Study(images, options.work, options.pace, options.before, options.limit)
    setting: dict[str, JsonValue] = {
        "dataset": images.name,
        "training_images": len(images.training),
        "sites": DemoSettings().sites,
        "seconds_of_a_local_training": dict(study.pace(ASYNC_SLOW).stragglers),
        "accepted_deltas_before": options.before,
        "load_average_at_the_start": round(load, 2),
    }
    say(__doc__ or "")
    say(f"{images.name}, {len(images.training)} training images; load {load:.2f} at the start")
    results = []
    for seed in options.seeds:
        for case in (CASES[number] for number in options.cases):
            say(f"{case.name}, seed {seed}")
            results.append(measure(study, case, seed))
            write(options.out, results, setting)
    print_table(results)


def images_of(data: Path | None, dataset: str | None, work: Path) -> Dataset:
    """As the demo's: all images split anew, as many of them."""
    found = find_images(data, dataset, seed=0, download_to=work / "download")
    sizes = DemoSettings()
    return trimmed(
        resplit(found.dataset, seed=0),
        training=sizes.training_images,
        test=sizes.test_images,
        seed=0,
    )


if __name__ == "__main__":
    main()
