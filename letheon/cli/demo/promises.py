"""The promises the demo checks, each a sentence that holds or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from letheon.cli.demo.ledger_reading import AgentReceipt, Row, Throughput
from letheon.cli.demo.story import Told
from letheon.v1 import erasures_pb2


@dataclass(frozen=True)
class Promise:
    """One promise and whether it was kept."""

    name: str
    kept: bool
    detail: str


@dataclass(frozen=True)
class Counts:
    """What was counted after the processes had stopped."""

    receipts: int
    lost: Sequence[AgentReceipt]
    crossed: Sequence[Row]
    throughput: Throughput | None
    certificate_problem: str | None  # None: it was verified, or none is due


def check(told: Told, counts: Counts, *, throughput_at_least: float) -> list[Promise]:
    """Every promise of this run. A FAILED erasure by a suppressing method breaks none."""
    promises = [
        Promise(
            "no acknowledged update is lost",
            not counts.lost,
            f"{len(counts.lost)} of {counts.receipts} receipts of the agents are not in the ledger",
        ),
        Promise(
            "nothing of the site after the fence",
            not counts.crossed,
            f"{len(counts.crossed)} deltas of the site entered the ledger after it was fenced",
        ),
        Promise("the ledger holds", told.verdict.holds, told.verdict.reason or "bit for bit"),
        _ended(told),
        Promise(
            "the certificate holds",
            counts.certificate_problem is None,
            counts.certificate_problem
            or (
                "signature, key and subject checked offline"
                if told.erasure.certificate
                else "none is due: the erasure failed"
            ),
        ),
    ]
    if counts.throughput is not None:
        promises.append(_throughput(counts.throughput, throughput_at_least))
    return promises


def _ended(told: Told) -> Promise:
    erasure = told.erasure
    state = erasures_pb2.Erasure.State.Name(erasure.state)
    honest_failure = erasure.method != "removal" and erasure.state == erasures_pb2.Erasure.FAILED
    detail = f"{state}: {erasure.failure}" if erasure.failure else state
    kept = erasure.state == erasures_pb2.Erasure.CERTIFIED or honest_failure
    return Promise("the erasure ends", kept, detail)


def _throughput(measured: Throughput, at_least: float) -> Promise:
    return Promise(
        "the others go on",
        measured.ratio >= at_least,
        f"{measured.during:.1f} deltas accepted during the erasure, {measured.before:.1f} in the "
        f"{measured.window_s:.0f} s before: {measured.ratio:.2f} (at least {at_least})",
    )
