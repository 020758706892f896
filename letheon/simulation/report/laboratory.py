"""The short experiments beside the studies: LiRA, and what BatchNorm's statistics keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from letheon.errors import BadData
from letheon.simulation.report.markdown import spread, table
from letheon.simulation.report.summary import Spread

LIRA_FILE, STATISTICS_FILE = "lira.json", "statistics-leak.json"
Interval = tuple[float, float, float]  # value, lower and upper 95 % bound


class _Parsed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Attacked(_Parsed):
    """One head under attack. Shares of 1."""

    auc: Interval
    tpr_at_1pct: Interval


class LiraUnit(_Parsed):
    """One seed."""

    seed: int
    members: int
    others: int
    models: dict[str, Attacked]


class Lira(_Parsed):
    """The whole attack."""

    format: Literal["letheon-study-lira/1"]
    study: str
    images: str
    moment: int
    shadows: int
    steps: int
    units: tuple[LiraUnit, ...]


class Measured(_Parsed):
    """A head with some statistics. Shares of 1."""

    accuracy: float
    disclosed: float | None
    undisclosed: float | None
    membership_auc: float


class StatisticsUnit(_Parsed):
    """One kind of target and one seed."""

    kind: Literal["backdoored", "honest"]
    seed: int
    heads: dict[str, dict[str, Measured]]  # by head, then by the statistics it carries


class StatisticsLeak(_Parsed):
    """The whole experiment."""

    format: Literal["letheon-study-statistics/1"]
    images: str
    units: tuple[StatisticsUnit, ...]


_Result = TypeVar("_Result", bound=_Parsed)


def laboratory_sections(folder: Path) -> list[str]:
    """A section for each result that is there. Raises BadData for a file that is none."""
    parts = []
    if (lira := _read(folder / LIRA_FILE, Lira)) is not None:
        parts.append(lira_section(lira))
    if (leak := _read(folder / STATISTICS_FILE, StatisticsLeak)) is not None:
        parts.append(statistics_section(leak))
    return parts


def laboratory_not_run(folder: Path) -> list[str]:
    """A sentence for each result that is missing."""
    wanted = {
        LIRA_FILE: "**lira** (the strongest membership attack on heads of the core study)",
        STATISTICS_FILE: "**statistics-leak** (what BatchNorm's running statistics keep)",
    }
    return [f"{what}: not run." for name, what in wanted.items() if not (folder / name).is_file()]


def lira_section(told: Lira) -> str:
    """Mean over seeds, and each seed with its own interval."""
    labels = list(dict.fromkeys(label for unit in told.units for label in unit.models))
    rows = []
    for label in labels:
        seen = [(unit.seed, unit.models[label]) for unit in told.units if label in unit.models]
        rows.append(
            [
                label,
                str(len(seen)),
                spread(Spread.of([one.auc[0] for _, one in seen]), 3),
                "; ".join(_bounds(seed, one.auc, 1) for seed, one in seen),
                spread(Spread.of([100 * one.tpr_at_1pct[0] for _, one in seen]), 1),
                "; ".join(_bounds(seed, one.tpr_at_1pct, 100) for seed, one in seen),
            ]
        )
    columns = ["head", "n", "AUC", "AUC by seed", "found at 1 % false, %", "found by seed, %"]
    return (
        "## LiRA on heads of the core study\n\n"
        f"On {told.images}, honest targets, +{told.moment} except for the head before. "
        f"{told.shadows} shadow models of {told.steps} steps each, trained centrally on random "
        "halves of the retained sites' records: none saw the target. Members are the target's "
        "training records, the others those it set aside. 95 % intervals: bootstrap by patient, "
        "exact for the rate. 0.5 and 1 % are what chance finds.\n\n"
        f"{table(columns, rows)}"
    )


def _bounds(seed: int, interval: Interval, times: int) -> str:
    decimals = 2 if times == 1 else 1
    value, low, high = (f"{times * part:.{decimals}f}" for part in interval)
    return f"{seed}: {value} [{low}, {high}]"


def statistics_section(told: StatisticsLeak) -> str:
    """One table a kind of target: the same weights with each of the statistics carried."""
    kinds = sorted({unit.kind for unit in told.units})
    tables = [_statistics([unit for unit in told.units if unit.kind == kind]) for kind in kinds]
    named = zip(kinds, tables, strict=True)
    shown = "\n".join(f"**{kind} target**\n\n{rows}" for kind, rows in named)
    return (
        "## What BatchNorm's statistics keep\n\n"
        f"On {told.images}, a small network with BatchNorm, which the services refuse. The weights "
        "of a head are the same bits in each of its rows; only the running statistics differ. "
        "*subject*: copied from the target's last upload; *averaged*: every upload moves them by a "
        "fifth; *re_estimated*: from nothing on the retained sites' records, the cure. Losses of "
        "the membership attack are calibrated by the retrained model's with the cure: its own AUC "
        "is 0.5 by that.\n\n"
        f"{shown}"
    )


def _statistics(units: Sequence[StatisticsUnit]) -> str:
    keys = list(dict.fromkeys((h, s) for unit in units for h in unit.heads for s in unit.heads[h]))
    rows = []
    for head, statistics in keys:
        found = [
            unit.heads[head][statistics] for unit in units if statistics in unit.heads.get(head, {})
        ]
        rows.append(
            [
                head,
                statistics,
                str(len(found)),
                spread(Spread.of([100 * one.accuracy for one in found])),
                spread(_points([one.disclosed for one in found])),
                spread(_points([one.undisclosed for one in found])),
                spread(Spread.of([one.membership_auc for one in found]), 3),
            ]
        )
    columns = ["head", "statistics", "n", "accuracy, %", "backdoor, disclosed, %",
               "backdoor, undisclosed, %", "membership AUC"]  # fmt: skip
    return table(columns, rows)


def _points(values: Sequence[float | None]) -> Spread | None:
    return Spread.of([100 * value for value in values if value is not None])


def _read(path: Path, kind: type[_Result]) -> _Result | None:
    if not path.is_file():
        return None
    try:
        return kind.model_validate_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise BadData(f"the result {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise BadData(f"the result {path}: {key}: {first['msg']}") from error
