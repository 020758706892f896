"""The simulator and the real services give the same head from the same ledger."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_builders import Federation, Job, a_running_federation
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.errors import MalformedUpdate, SiteFenced, StaleEpoch, UnknownModelVersion
from letheon.federation.encoding import encode
from letheon.federation.ledger import Entry, EntryKind, canonical_bytes, parse, read_merges
from letheon.federation.ledger_file import line_of, verify_lines
from letheon.federation.parameters import Vector
from letheon.federation.replay import ReplayState, replay
from letheon.simulation.central import Central, Fate, Rules
from letheon.v1 import training_pb2

SITES = ("north", "south", "west")
STRATEGIES = {
    "fedasync": {"plugin": "fedasync", "arguments": {"staleness": "polynomial"}},
    "clipped": {"plugin": "fedasync", "arguments": {"clip_norm": 0.5, "site_weights": {"west": 2}}},
    "fedbuff": {"plugin": "fedbuff", "arguments": {"buffer_size": 3}},
}
REFERENCE = hashlib.sha256(b"opaque").hexdigest()
OF_SITES = (EntryKind.DELTA, EntryKind.BUFFERED)
REFUSALS = {SiteFenced: Fate.FENCED, StaleEpoch: Fate.SUPERSEDED}


@dataclass
class Pair:
    """A real coordinator and the simulator's, told the same."""

    real: Federation
    central: Central
    jobs: dict[str, Job] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)  # exclusion counters

    def push(
        self, site: str, seed: int, *, back: int = 0, epochs_back: int = 0, records: int = 100
    ) -> Fate:
        """A delta of both; the same fate, or the same error."""
        base, epoch = self.central.version - back, self.central.epoch - epochs_back
        fates = [
            self._real(site, a_vector(seed), base, epoch, records),
            self._simulated(site, a_vector(seed), base, epoch, records),
        ]
        assert fates[0] == fates[1]
        assert isinstance(fates[0], Fate)
        return fates[0]

    def fence(self, site: str) -> None:
        self.jobs[site] = self.real.job(self.real.request(site, f"r-{site}").name)
        self.central.fence(site, 0.0)

    def remove(self, site: str) -> None:
        self.jobs[site].remove()
        self.central.remove(site, 0.0, subtract=True)

    def patch(self, site: str, seed: int, *, calibration: bool = False) -> None:
        """A patch small enough for the cap."""
        patch, kinds = a_vector(seed, scale=1e-3), training_pb2.PatchPurpose
        self._send(site, patch, kind=kinds.CALIBRATION if calibration else kinds.PATCH)
        kind = EntryKind.CALIBRATION if calibration else EntryKind.PATCH
        self.central.patch(patch, 0.0, kind=kind)

    def exclude(self, site: str) -> None:
        """Records of the site are to go, and the site stays."""
        filed = self.real.request(site, f"r-{site}", records=REFERENCE)
        self.jobs[site] = self.real.job(filed.name)
        self.counters[site] = filed.exclusion_counter
        self.central.void(site, 0.0)

    def exchange(self, site: str, patch: Vector) -> bool:
        """Whether both add it; both refuse it with the same sentence."""
        erase = training_pb2.EraseTask(method="patient_swap", version=self.real.version)
        self.jobs[site].ask("swap", erase=erase)
        refused: list[str] = []
        for add in (
            lambda: self._send(
                site, patch, kind=training_pb2.PatchPurpose.PATCH, site=f"sites/{site}"
            ),
            lambda: self.central.exchange(patch, 0.0, site=site),
        ):
            try:
                add()
            except MalformedUpdate as error:
                refused.append(error.message)
        assert len(refused) in (0, 2)
        assert len(set(refused)) <= 1
        return not refused

    def readmit(self, site: str) -> None:
        self.jobs[site].remove()
        self.central.remove(site, 0.0, subtract=True)
        self.central.fenced.discard(site)

    def _send(self, subject: str, patch: Vector, **more: Any) -> None:
        job = self.jobs[subject]
        payload = encode(patch, self.real.client.plan.encoding)
        header = self.real.client.header("x", payload)
        header.patch.CopyFrom(
            training_pb2.PatchPurpose(
                erasure=job.name,
                fencing_token=job.token,
                epoch=self.real.epoch,
                base_version=self.real.version,
                **more,
            )
        )
        self.real.client.send(header, payload)

    def rows(self) -> list[Entry]:
        return [parse(row.canonical_json.encode()) for row in self.real.rows()]

    def check(self) -> None:
        """Rows, versions, contributions and heads agree, bit for bit."""
        rows, central = self.rows(), self.central
        assert list(map(told, rows)) == list(map(told, central.entries))
        if central.rules.plan.encoding == "float32":
            assert [r.payload_sha256 for r in rows] == [r.payload_sha256 for r in central.entries]
        assert (self.real.version, self.real.epoch) == (central.version, central.epoch)
        assert np.array_equal(self.real.head, central.head)
        again = replayed(rows, central)
        assert np.array_equal(again.head, self.real.head)
        assert again.contributions.keys() == central.state.contributions.keys()
        for site, total in again.contributions.items():
            assert np.array_equal(total, central.state.contributions[site])

    def _real(self, site: str, delta: Vector, base: int, epoch: int, records: int) -> object:
        try:
            receipt = self.real.client.push(
                site,
                delta,
                base_version=base,
                epoch=epoch,
                record_count=records,
                exclusion_counter=self.counters.get(site, 0),
            )
        except (SiteFenced, StaleEpoch) as refused:
            return REFUSALS[type(refused)]
        except (UnknownModelVersion, MalformedUpdate) as error:
            return type(error)
        buffered = receipt.outcome == training_pb2.Receipt.BUFFERED
        return Fate.BUFFERED if buffered else Fate.MERGED

    def _simulated(self, site: str, delta: Vector, base: int, epoch: int, records: int) -> object:
        try:
            return self.central.accept(
                site, delta, base_version=base, epoch=epoch, records=records, now=0.0
            )
        except (UnknownModelVersion, MalformedUpdate) as error:
            return type(error)


def told(row: Entry) -> tuple[Any, ...]:
    """What decides the weights; times, update ids and details for readers differ."""
    details = row.details
    return (
        row.entry,
        row.kind,
        row.version,
        row.epoch,
        row.site,
        *((row.base_version, row.staleness) if row.kind in OF_SITES else ()),
        row.coefficient if row.kind is EntryKind.DELTA else None,
        read_merges(row),
        details.get("entries"),
        details.get("subtracted"),
        details.get("contribution_sha256") if row.kind is EntryKind.REMOVAL else None,
    )


def replayed(rows: list[Entry], central: Central) -> ReplayState:
    """The rows through the replay, with the simulator's payloads."""
    start = ReplayState.before_first(central.rules.layout.size)
    return replay(start, rows, lambda row: central.payloads[row.entry])


@contextmanager
def a_pair(directory: Path, strategy: str = "fedasync", **more: Any) -> Iterator[Pair]:
    plan = a_plan(strategy=STRATEGIES[strategy], **more)
    with a_running_federation(directory, sites=SITES, plan=plan) as real:
        rules = Rules(plan, plan.parameters, plan.build_strategy())
        yield Pair(real, Central.begin(rules, real.head))


def a_story(pair: Pair) -> None:
    """Every kind of row that changes weights, and refusals in between."""
    for number, site in enumerate(["north", "south", "west", "south", "north"]):
        pair.push(site, number, back=min(number, 2) if pair.central.version >= 2 else 0)
    pair.fence("south")
    assert pair.push("south", 20) is Fate.FENCED
    pair.push("west", 21, records=7)
    pair.remove("south")
    assert pair.push("west", 22, epochs_back=1) is Fate.SUPERSEDED
    pair.patch("south", 23)
    for number, site in enumerate(["north", "west", "west", "north"], start=30):
        pair.push(site, number, back=number % 2, records=50 + number)
    pair.patch("south", 24, calibration=True)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_the_same_sequence_gives_the_same_rows_and_the_same_bits(
    tmp_path: Path, strategy: str
) -> None:
    with a_pair(tmp_path, strategy) as pair:
        a_story(pair)
        pair.check()
        assert pair.real.verify_ledger().holds


@pytest.mark.parametrize("encoding", ["float16", "bfloat16", "int8"])
def test_a_delta_is_merged_as_it_travelled(tmp_path: Path, encoding: str) -> None:
    with a_pair(tmp_path, encoding=encoding) as pair:
        for number, site in enumerate(["north", "south", "west"]):
            pair.push(site, number)
        pair.check()


def test_what_waits_of_a_site_is_voided_when_the_site_is_fenced(tmp_path: Path) -> None:
    with a_pair(tmp_path, "fedbuff") as pair:
        for number, site in enumerate(["south", "north"]):
            assert pair.push(site, number) is Fate.BUFFERED
        pair.fence("south")
        for number, site in enumerate(["west", "north"], start=5):
            pair.push(site, number)
        pair.check()
        assert pair.central.contribution("south") is None
        pair.remove("south")
        pair.check()


@pytest.mark.parametrize("strategy", ["fedasync", "fedbuff"])
@pytest.mark.parametrize(
    ("length", "epochs"), [(1e-4, 0), (0.2, 1), (0.5, None)], ids=["small", "large", "too large"]
)
def test_records_leave_by_an_exchange_or_a_readmission_by_the_same_rules(
    tmp_path: Path, strategy: str, length: float, epochs: int | None
) -> None:
    with a_pair(tmp_path, strategy) as pair:
        for number, site in enumerate(["south", "north", "south", "west", "south", "north"]):
            pair.push(site, number)
        pair.exclude("south")
        pair.push("north", 20)
        total = pair.central.contribution("south")
        assert total is not None
        added = pair.exchange("south", np.float32(length) * total)
        assert added == (epochs is not None)
        if not added:
            pair.readmit("south")
        assert pair.central.epoch == (1 if epochs is None else epochs)
        for number, site in enumerate(["south", "west", "north", "south"], start=30):
            assert pair.push(site, number) in (Fate.MERGED, Fate.BUFFERED)
        pair.check()
        assert pair.real.verify_ledger().holds


@pytest.mark.parametrize("back", [-1, 3])
def test_a_base_outside_the_epoch_is_refused_by_both(tmp_path: Path, back: int) -> None:
    with a_pair(tmp_path) as pair:
        pair.push("north", 1)
        pair.push("south", 2)
        pair.fence("south")
        pair.remove("south")
        base, epoch = pair.central.version - back, pair.central.epoch
        assert pair._real("north", a_vector(3), base, epoch, 100) is UnknownModelVersion
        assert pair._simulated("north", a_vector(3), base, epoch, 100) is UnknownModelVersion
        pair.check()


def test_a_delta_that_is_too_long_or_not_finite_is_refused_by_both(tmp_path: Path) -> None:
    with a_pair(tmp_path, max_delta_norm=0.5) as pair:
        broken = a_vector(1)
        broken[3] = np.nan
        for delta in (a_vector(1, scale=5.0), broken):
            assert pair._real("north", delta, 0, 0, 100) is MalformedUpdate
            assert pair._simulated("north", delta, 0, 0, 100) is MalformedUpdate
        pair.check()


@pytest.mark.parametrize("strategy", ["fedasync", "fedbuff"])
def test_the_simulators_ledger_as_a_file_holds_for_the_auditors_command(
    tmp_path: Path, strategy: str
) -> None:
    with a_pair(tmp_path / "f", strategy) as pair:
        a_story(pair)
        entries = pair.central.entries
        lines = [line_of(canonical_bytes(row), row.hash) for row in entries]
        assert verify_lines(lines, tip=entries[-1].hash).entry == entries[-1].entry
        file = tmp_path / "ledger.jsonl"
        file.write_bytes(b"".join(lines))
        result = CliRunner().invoke(app, ["ledger", "verify", "--file", str(file)])
        assert result.exit_code == 0, result.output
        # The other way: the real rows, through the simulator's replay.
        assert np.array_equal(replayed(pair.rows(), pair.central).head, pair.central.head)


MOVES = st.tuples(st.sampled_from(SITES), st.integers(0, 4), st.integers(0, 500))


@settings(
    max_examples=5,
    deadline=timedelta(seconds=20),
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # every example starts a coordinator
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    strategy=st.sampled_from(sorted(STRATEGIES)),
    before=st.lists(MOVES, min_size=2, max_size=6),
    between=st.lists(MOVES, max_size=3),
    after=st.lists(MOVES, max_size=4),
)
def test_any_sequence_gives_the_same_bits(
    strategy: str,
    before: list[tuple[str, int, int]],
    between: list[tuple[str, int, int]],
    after: list[tuple[str, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, a_pair(Path(folder), strategy) as pair:
        seeds = iter(range(1000))

        def push(moves: list[tuple[str, int, int]]) -> None:
            for site, back, records in moves:
                oldest = pair.central.version - pair.central.first_base
                pair.push(site, next(seeds), back=min(back, oldest), records=records)

        push(before)
        pair.fence("south")
        push(between)
        pair.remove("south")
        push(after)
        pair.check()
