"""A thousand sites and more under a virtual clock: staleness, fairness, storms of erasures.

The simulator's coordinator is the real one's rules; a site's local training is one step towards
an optimum of its own, so that thousands of them cost nothing. Sites differ tenfold in pace.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.ingestion.figures import percentile
from letheon.federation.aggregation.strategy import Strategy
from letheon.federation.arithmetic import relative_error
from letheon.federation.ledger import EntryKind
from letheon.federation.parameters import Layout, TensorSpec, Vector
from letheon.federation.plan import PlanDraft
from letheon.simulation.central import Central, Rules
from letheon.simulation.federation import Federation, Setting
from letheon.simulation.virtual_time import TrainingTimes, derived_seed

VALUES = 16
SLOW_TIMES = 10.0  # the pace of the slowest sites, in those of the fastest
LARGEST_ERROR = 1e-5  # of head minus contribution, against the replay (the promise)


@dataclass(frozen=True)
class Case:
    """One simulated federation."""

    sites: int
    deltas_each: int  # accepted, on average
    erasures: int  # at once, half way
    seed: int = 0


@dataclass(frozen=True)
class Behaviour:
    """What it did."""

    sites: int
    erasures: int
    accepted: int
    staleness_p50: float
    staleness_p90: float
    staleness_p99: float
    fast_to_slow_deltas: float  # accepted of the fastest tenth, for each of the slowest tenth
    fast_to_slow_weight: float  # the same of the sums of their coefficients
    superseded_an_erasure: float  # tasks in flight that were thrown away
    storm_to_calm_throughput: float  # accepted a virtual second, after the storm began to before
    largest_error: float  # of a removal in the storm, relative L2 against the replay without it

    def document(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Quadratic:
    """Local training of sites whose loss is the distance from an optimum of their own."""

    def __init__(self, sites: tuple[str, ...], seed: int) -> None:
        self._optima = {
            site: np.random.default_rng(derived_seed(seed, "optimum", site))
            .standard_normal(VALUES)
            .astype(np.float32)
            for site in sites
        }

    def records(self, site: str) -> int:  # noqa: ARG002 - the same for all
        return 100

    def delta(
        self,
        site: str,
        base: Vector,
        *,
        learning_rate: float,
        seed: int,
        steps: int | None = None,  # noqa: ARG002 - one step
    ) -> Vector:
        noise = np.random.default_rng(seed).standard_normal(VALUES).astype(np.float32)
        step: Vector = np.float32(learning_rate) * (self._optima[site] - base + noise)
        return step.astype(np.float32)


def run(case: Case) -> Behaviour:
    """Trains, erases `erasures` sites one right after the other, trains on."""
    names = tuple(f"site-{number:05}" for number in range(case.sites))
    paces = np.geomspace(1.0, SLOW_TIMES, case.sites)
    times = TrainingTimes(dict(zip(names, paces.tolist(), strict=True)), case.seed)
    layout = Layout((TensorSpec("w", (VALUES,)),))
    plan = PlanDraft.model_validate(
        {
            "name": "scale",
            "model": {"plugin": "small_cnn", "arguments": {}},
            "image": {"channels": 1, "height": 8, "width": 8},
            "classes": 3,
        }
    )
    strategy: Strategy = plan.build_strategy()
    central = Central.begin(Rules(plan, layout, strategy), np.zeros(VALUES, dtype=np.float32))
    setting = Setting(names, Quadratic(names, case.seed), times, case.seed)
    federation = Federation.begin(setting, central)
    half = case.sites * case.deltas_each // 2
    train(federation, half)
    calm = half / federation.now
    began, before = federation.now, federation.accepted()
    gone = names[:: max(1, case.sites // case.erasures)][: case.erasures]
    error = 0.0
    for site in gone:
        # Distances between erasures of a storm: a tenth of the fastest site's local training.
        until(federation, federation.now + 0.1)
        central.remove(site, federation.now, subtract=True)
        federation.supersede()
        error = max(error, error_without(central, gone[: gone.index(site) + 1]))
    train(federation, half)
    seconds = federation.now - began
    return _behaviour(federation, names, calm, (federation.accepted() - before) / seconds, error)


def train(federation: Federation, deltas: int) -> None:
    """Until so many more are accepted."""
    goal = federation.accepted() + deltas
    while federation.accepted() < goal:
        federation.step()


def until(federation: Federation, at: float) -> None:
    """Whatever happens up to that virtual second."""
    while (due := federation.next_event()) is not None and due <= at:
        federation.step()


def error_without(central: Central, gone: tuple[str, ...]) -> float:
    """Relative L2 between the head and the same deltas added in order without those sites'."""
    total = np.array(central.payloads[0])
    for row in central.entries[1:]:
        if row.kind is EntryKind.DELTA and row.site not in gone:
            total += np.float32(row.coefficient or 0.0) * central.payloads[row.entry]
    return relative_error(central.head, total)


def _behaviour(
    federation: Federation, names: tuple[str, ...], calm: float, storm: float, error: float
) -> Behaviour:
    rows = [row for row in federation.central.entries if row.kind is EntryKind.DELTA]
    staleness = [float(row.staleness or 0) for row in rows]
    left = [name for name in names if name not in federation.central.fenced]
    tenth = max(1, len(left) // 10)
    fast, slow = frozenset(left[:tenth]), frozenset(left[-tenth:])
    weight = {
        group: sum(row.coefficient or 0.0 for row in rows if row.site in group)
        for group in (fast, slow)
    }
    merged = federation.counts.merged
    count = {group: sum(merged.get(site, 0) for site in group) for group in (fast, slow)}
    return Behaviour(
        sites=len(names),
        erasures=len(federation.central.fenced),
        accepted=len(rows),
        staleness_p50=percentile(staleness, 0.5),
        staleness_p90=percentile(staleness, 0.9),
        staleness_p99=percentile(staleness, 0.99),
        fast_to_slow_deltas=round(count[fast] / max(1, count[slow]), 3),
        fast_to_slow_weight=round(weight[fast] / weight[slow], 3) if weight[slow] else 0.0,
        superseded_an_erasure=round(
            federation.counts.superseded / max(1, len(federation.central.fenced)), 1
        ),
        storm_to_calm_throughput=round(storm / calm, 3),
        largest_error=error,
    )
