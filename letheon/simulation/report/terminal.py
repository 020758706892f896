"""A study at a glance, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from letheon.simulation.report.bars import Outcome
from letheon.simulation.report.markdown import NOTHING, compared, number, spread
from letheon.simulation.report.quantities import QUANTITIES
from letheon.simulation.report.summary import Group, MethodSummary, Summary

_BACKDOORED = {
    "accuracy_60": "accuracy +60",
    "accuracy_150": "accuracy +150",
    "disclosed_60": "backdoor +60",
    "undisclosed_max": "undisclosed, highest",
}
_HONEST = {
    "accuracy_60": "accuracy +60",
    "accuracy_150": "accuracy +150",
    "forget_60": "forget set +60",
    "reference_auc_60": "membership AUC",
}


def print_summary(summary: Summary, out: Console) -> None:
    """One table a group: `mean (gap to retraining ± sd)`, bars met, time to bar; then notes."""
    for group in summary.groups:
        if group.seeds:
            out.print(_table(group))
    for note in summary.notes:
        out.print(f"note: {note}", markup=False)
    if summary.groups:
        out.print("Cells: mean (gap to retraining ± sd over seeds); points, AUC, virtual seconds.")


def _table(group: Group) -> Table:
    columns = _BACKDOORED if group.kind == "backdoored" else _HONEST
    title = f"{group.images}, {group.kind} target, n = {len(group.seeds)}"
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in ("method", *columns.values(), "bars met", "bar after", "gate"):
        table.add_column(name, overflow="fold")
    for name, found in (("retrained", group.retrained), ("floor", group.floor)):
        signed = name == "floor"
        cells = [spread(found[k], QUANTITIES[k].decimals, signed=signed) for k in columns]
        table.add_row(f"[italic]{name}[/italic]", *cells, NOTHING, NOTHING, NOTHING)
    for method in group.methods:
        cells = [compared(method.figures[key], QUANTITIES[key].decimals) for key in columns]
        table.add_row(method.label, *cells, *_ends(method))
    return table


def _ends(method: MethodSummary) -> tuple[str, str, str]:
    missed = [bar.title for bar in method.bars if bar.verdict is Outcome.MISSED]
    met = f"{method.met} of {method.measured}"
    if missed:
        met += f"; missed: {'; '.join(missed)}"
    ratio = number(method.time.ratio, 2)
    seconds = [moment.seconds for moment in method.time.method]
    after = f"{number(sum(seconds) / len(seconds))} s ({ratio})" if seconds else NOTHING
    if method.time.censored:
        after += f", never in {method.time.censored}"
    return met, after, f"{method.gate.passed} of {method.seeds}"
