"""How the settings of the methods were chosen: the study `tuning`, and one rule for all.

Of a method's settings those count whose disclosed backdoor is at most 2 points above retraining;
of these the most accurate is taken, and where there is none the one that leaves the least. The
undisclosed trigger plays no part: choosing by it would disclose it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from letheon.simulation.report.bars import gaps_of
from letheon.simulation.report.markdown import number, table
from letheon.simulation.report.unit_file import UnitFile, labels_of

STUDY = "tuning"
ALLOWED = 2.0  # points of disclosed backdoor success above retraining
_EXCEPTION = (
    "The core study runs `removal_recombined` with 4 segments and 250 steps (`recombined_4_250`): "
    "trials on one of these units had fixed that before the rule was written down.\n"
)
_SETTING = re.compile(r"^(?P<method>.+?)_(?P<first>\d+)_(?P<second>\d+)$")


@dataclass(frozen=True)
class Setting:
    """One setting of a method; gaps to retraining in points, means over units."""

    label: str
    method: str  # the label without its two numbers
    units: int
    accuracy: float
    disclosed: float
    undisclosed: float  # for the record


def settings_of(units: Sequence[UnitFile]) -> list[Setting]:
    """Every setting that all of these units have run, by label."""
    found = []
    for label in labels_of(units):
        told = [
            gaps_of(units, label, key) for key in ("accuracy_60", "disclosed_60", "undisclosed_60")
        ]
        if min(map(len, told)) < len(units):
            continue
        match = _SETTING.match(label)
        method = match["method"] if match else label
        found.append(Setting(label, method, len(units), *map(fmean, told)))
    return found


def chosen(settings: Sequence[Setting]) -> dict[str, Setting]:
    """The setting of each method by the rule."""
    return {
        method: _best([one for one in settings if one.method == method])
        for method in sorted({one.method for one in settings})
    }


def _best(settings: Sequence[Setting]) -> Setting:
    forgetting = [one for one in settings if one.disclosed <= ALLOWED]
    if forgetting:
        return max(forgetting, key=lambda one: (one.accuracy, one.label))
    return min(settings, key=lambda one: (one.disclosed, one.label))


def choice_section(units: Sequence[UnitFile]) -> str:
    """The section of the page."""
    settings = settings_of(units)
    taken = {one.label for one in chosen(settings).values()}
    seeds = ", ".join(str(seed) for seed in sorted({unit.seed for unit in units}))
    images = ", ".join(sorted({unit.images for unit in units}))
    rows = [
        [
            f"**{one.label}**" if one.label in taken else one.label,
            number(one.accuracy, signed=True),
            number(one.disclosed, signed=True),
            number(one.undisclosed, signed=True),
        ]
        for one in settings
    ]
    columns = ["setting", "accuracy at +60", "backdoor, disclosed", "backdoor, undisclosed"]
    return (
        "## How the settings were chosen\n\n"
        f"On {images}, seeds {seeds}, which no other table uses, measured on validation records. "
        "Every method had the same number of settings, removal has none of its own. One rule for "
        f"all: of the settings whose disclosed backdoor is at most {ALLOWED:.0f} points above "
        "retraining the most accurate, else the one that leaves the least. Gaps to retraining in "
        f"points, means of {len(units)} units; the rule's choice in bold.\n\n"
        f"{table(columns, rows)}\n{_EXCEPTION}"
    )
