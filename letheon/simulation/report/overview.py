"""The first table of a study: bars met by each method on each set of images."""

from __future__ import annotations

from letheon.simulation.report.bars import Outcome
from letheon.simulation.report.markdown import NOTHING, bullets, number, table
from letheon.simulation.report.summary import Group, MethodSummary, Summary


def overview(summary: Summary) -> str:
    """Bars met of those judged, the time to bar, and every bar missed; "" without methods."""
    groups = [group for group in summary.groups if group.methods]
    if not groups:
        return ""
    labels = list(dict.fromkeys(m.label for group in groups for m in group.methods))
    timed = [group for group in groups if group.kind == "backdoored"]
    columns = [
        "method",
        *(f"{group.images}, {group.kind}, n = {len(group.seeds)}" for group in groups),
        *(f"{group.images}: time to bar / retraining's" for group in timed),
    ]
    rows = [
        [
            label,
            *(_met(_of(group, label)) for group in groups),
            *(_ratio(_of(group, label)) for group in timed),
        ]
        for label in labels
    ]
    return (
        "### Overview\n\nBars met of those that could be judged, means over the seeds. One seed is "
        "an anecdote; what the seeds show stands in each section.\n\n"
        f"{table(columns, rows)}\n**Bars missed**\n\n{bullets(_missed(groups, labels)) or 'None.'}"
    )


def _of(group: Group, label: str) -> MethodSummary | None:
    return next((method for method in group.methods if method.label == label), None)


def _met(method: MethodSummary | None) -> str:
    return NOTHING if method is None else f"{method.met} of {method.measured}"


def _ratio(method: MethodSummary | None) -> str:
    if method is None or method.time.ratio is None:
        return NOTHING
    never = f", never in {method.time.censored}" if method.time.censored else ""
    return f"{number(method.time.ratio, 2)}{never}"


def _missed(groups: list[Group], labels: list[str]) -> list[str]:
    told = []
    for label in labels:
        places = []
        for group in groups:
            method = _of(group, label)
            titles = [
                bar.title
                for bar in (() if method is None else method.bars)
                if bar.verdict is Outcome.MISSED
            ]
            if titles:
                places.append(f"{group.images}, {group.kind}: {'; '.join(titles)}")
        if places:
            told.append(f"**{label}**: {' / '.join(places)}")
    return told
