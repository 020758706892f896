"""The tables of one group: some images, one kind of target."""

from __future__ import annotations

from collections.abc import Sequence

from letheon.simulation.report.ablations import effect, paired_differences
from letheon.simulation.report.bars import Bar, Outcome
from letheon.simulation.report.gate_tally import GateCase
from letheon.simulation.report.markdown import NOTHING, compared, number, spread, table
from letheon.simulation.report.quantities import (
    BACKDOOR,
    EARLY,
    LATE,
    QUANTITIES,
    RESIDUE,
    UTILITY,
    Quantity,
)
from letheon.simulation.report.summary import Group, MethodSummary, Spread
from letheon.simulation.report.unit_file import UnitFile

_ABLATED = (
    "accuracy_60",
    "accuracy_150",
    "disclosed_60",
    "undisclosed_max",
    "forget_60",
    "reference_auc_60",
)


def figures(group: Group) -> str:
    """Tables of what was measured, each with retraining and its floor on top."""
    parts = [_figures(group, "Utility, points", UTILITY)]
    if group.kind == "backdoored":
        parts.append(_figures(group, "Backdoor success, points", BACKDOOR))
    for moment in (EARLY, LATE):
        parts.append(_figures(group, f"What is left at +{moment}", RESIDUE[moment]))
    return "\n".join(parts)


def _figures(group: Group, title: str, quantities: Sequence[Quantity]) -> str:
    shown = [q for q in quantities if group.retrained[q.key] or _anyone_has(group, q.key)]
    if not shown:
        return f"**{title}**: not measured.\n"
    retrained = ["*retrained (both)*", str(len(group.seeds))]
    floor = ["*floor: retrained again*", str(len(group.seeds))]
    for quantity in shown:
        retrained.append(spread(group.retrained[quantity.key], quantity.decimals))
        own = group.floor[quantity.key]
        beside = quantity.key.startswith(("agreement", "kl"))
        floor.append(spread(own, quantity.decimals, signed=not beside))
    rows = [
        [m.label, str(m.seeds), *(compared(m.figures[q.key], q.decimals) for q in shown)]
        for m in group.methods
    ]
    columns = ["method", "n", *(q.title for q in shown)]
    return f"**{title}**\n\n{table(columns, [retrained, floor, *rows])}"


def _anyone_has(group: Group, key: str) -> bool:
    return any(method.figures[key].value is not None for method in group.methods)


def bars(group: Group) -> str:
    """One row a method, one column a bar: met or missed, and what the seeds show."""
    shown = [
        place
        for place in range(len(group.methods[0].bars) if group.methods else 0)
        if any(m.bars[place].verdict is not Outcome.NOT_MEASURABLE for m in group.methods)
    ]
    if not shown:
        return "No bar could be measured.\n"
    columns = [_limits(group.methods[0].bars[place]) for place in shown]
    rows = [
        [m.label, str(m.seeds), *(verdict_text(m.bars[place]) for place in shown)]
        for m in group.methods
    ]
    return table(["method", "n", *columns], rows)


def _limits(bar: Bar) -> str:
    decimals = 1 if bar.unit in ("points", "deltas") else 2
    low = number(bar.low, decimals, signed=True) if bar.low > float("-inf") else ""
    high = number(bar.high, decimals, signed=True) if bar.high < float("inf") else ""
    if low and high:
        return f"{bar.title}: {low} to {high}"
    return f"{bar.title}: {'>= ' + low if low else '<= ' + high}"


def verdict_text(bar: Bar) -> str:
    """`met, equivalent`."""
    words = [str(bar.verdict)]
    if bar.shown is not None:
        words.append(str(bar.shown))
    return ", ".join(words)


def times(group: Group) -> str:
    """Virtual seconds from the request, beside retraining from its start."""
    columns = [
        "method", "n", "removed, s", "landed, s", "method ended, s", "gate passed, s (n)",
        "bar met, s (never)", "retraining's bar, s", "ratio", "<= 40 %", "superseded tasks",
        "stalled tasks", "updates lost",
    ]  # fmt: skip
    return table(columns, [_time_row(method) for method in group.methods])


def _time_row(method: MethodSummary) -> list[str]:
    moments, counts, bar = method.moments, method.counts, method.bars[-1]
    own = Spread.of([moment.seconds for moment in method.time.method])
    whole = Spread.of([moment.seconds for moment in method.time.retraining])
    gate = moments["gate"]
    never = f" ({method.time.censored} of {len(method.time.method)})" if own else ""
    note = f" ({bar.note})" if bar.note else ""
    return [
        method.label,
        str(method.seeds),
        spread(moments["removed"], 2),
        spread(moments["landed"]),
        spread(moments["finished"]),
        f"{spread(gate)} ({gate.seeds})" if gate else NOTHING,
        f"{spread(own)}{never}",
        spread(whole),
        number(method.time.ratio, 2),
        f"{bar.verdict}{note}",
        spread(counts["superseded"]),
        spread(counts["stalled"]),
        spread(counts["overwritten"]),
    ]


def gate(group: Group) -> str:
    """Whether the gate passed, and whether it should have."""
    columns = ["method", "n", "passed", "forgetting verified", "never asked", "wrong passes",
               "wrong failures"]  # fmt: skip
    rows = []
    for method in group.methods:
        tally = method.gate
        rows.append(
            [
                method.label,
                str(method.seeds),
                str(tally.passed),
                str(sum(case.verified and case.passed for case in tally.cases)),
                str(tally.never_asked),
                _cases(tally.wrong_passes),
                _cases(tally.wrong_failures),
            ]
        )
    missed, known = group.floor_missed
    return (
        table(columns, rows)
        + f"\nThe second retraining itself misses these bars at +{EARLY} against the first in "
        f"{missed} of {known} seeds.\n"
    )


def _cases(cases: Sequence[GateCase]) -> str:
    told = [
        f"seed {case.seed} at +{case.accepted}"
        + (f" ({'; '.join(case.missed)})" if case.missed else "")
        for case in cases
    ]
    return f"{len(told)}: {', '.join(told)}" if told else "0"


def ablations(group: Group, units: Sequence[UnitFile]) -> str:
    """Each variant minus its base, paired by seed. Empty without variants."""
    pairs = [(method.label, method.variant_of) for method in group.methods if method.variant_of]
    rows = [_ablation_row(units, label, base) for label, base in pairs]
    titles = [QUANTITIES[key].title for key in _ABLATED]
    return table(["variant", "against", *titles], rows) if rows else ""


def _ablation_row(units: Sequence[UnitFile], label: str, base: str) -> list[str]:
    cells = []
    for key in _ABLATED:
        found = paired_differences(units, label, base, key)
        told = spread(Spread.of(found), QUANTITIES[key].decimals, signed=True)
        cells.append(f"{told}, n {len(found)}, {effect(found)}" if found else NOTHING)
    return [label, base, *cells]


def failures(group: Group) -> str:
    """Each seed of each method that went wrong. Empty if none did."""
    rows = [
        [
            failure.label,
            str(failure.seed),
            "; ".join(
                f"{QUANTITIES[key].title} {number(gap, signed=True)}"
                for key, gap in failure.gaps.items()
            )
            or NOTHING,
            failure.reason or NOTHING,
        ]
        for failure in group.failures
    ]
    return table(["method", "seed", "gap to retraining, points", "gave up"], rows) if rows else ""


def not_shown(group: Group) -> list[str]:
    """Sentences on what could not be measured or shown here."""
    where = f"{group.images}, {group.kind}"
    told = []
    if group.kind == "honest" and not group.leak_seen:
        told.append(
            f"{where}: the membership attack does not see the target before the erasure, so it "
            "says nothing after it (inconclusive)."
        )
    if group.kind == "backdoored":
        told += _weak_probes(group, where)
    missing = sorted(
        {
            bar.title
            for method in group.methods
            for bar in method.bars
            if bar.verdict is Outcome.NOT_MEASURABLE and _expected(bar, group)
        }
    )
    if missing:
        told.append(f"{where}: not measurable for some method: {'; '.join(missing)}.")
    return told


def _weak_probes(group: Group, where: str) -> list[str]:
    told = []
    for trigger in ("disclosed", "undisclosed"):
        before, after = group.before[trigger], group.retrained[f"{trigger}_{EARLY}"]
        if before and after and before.mean < after.mean + 20:
            told.append(
                f"{where}: the {trigger} trigger succeeded in only {number(before.mean)} % before "
                f"the erasure, {number(after.mean)} % after retraining: it can show little."
            )
    return told


def _expected(bar: Bar, group: Group) -> bool:
    only_backdoored = bar.key.startswith(("disclosed", "undisclosed", "relearn", "time"))
    if only_backdoored:
        return group.kind == "backdoored"
    return group.kind == "honest" or not bar.key.startswith("reference_auc")
