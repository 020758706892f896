"""What can be claimed of an erasure, from the facts known when it is requested.

Each rule says a caveat, a sentence that ends in the certificate, and the highest level it leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from letheon.names import site_name

LEVELS = ("L0", "L1", "L2", "L3")  # weakest first
STOP_USE, VERIFIED = LEVELS[:2]

#: Training records of the subject in all: from this many tenths on too few are left.
TENTHS_TOO_MANY = 9
#: Control records below which no forgetting test is conclusive, and below which one of them is not.
CONTROLS_FOR_ANY_TEST = 20
CONTROLS_FOR_TPR = 100


@dataclass(frozen=True)
class SiteFacts:
    """A site as it describes itself; None: it did not say."""

    id: str
    records: int  # it trains on
    class_counts: Mapping[str, int] | None = None  # training records by class name
    control_records: int | None = None  # it never trains on


@dataclass(frozen=True)
class Facts:
    """The federation at the moment of a request."""

    subject: SiteFacts
    retained: Sequence[SiteFacts]  # active sites but the subject
    strategy: str  # its plug-in
    linear: bool  # whether what a site added is a sum
    silent_s: float  # since the subject's agent was last heard of
    offline_limit_s: float  # from then on it is taken to be away
    of_records: bool = False  # the subject is some records of a site that stays

    @property
    def subject_is_away(self) -> bool:
        """Whether the subject's agent is taken to be away."""
        return self.silent_s > self.offline_limit_s


@dataclass(frozen=True)
class Admission:
    """An erasure that may be done, and the most that may be claimed of it."""

    level: str  # the highest that can be granted
    caveats: tuple[str, ...] = ()
    uncertifiable: str = ""  # why no certificate can be given at all, a sentence

    def lowered(self, caveat: str, ceiling: str) -> Admission:
        """With one more caveat and at most that level. It never raises the level."""
        level = min(self.level, ceiling, key=LEVELS.index)
        return replace(self, level=level, caveats=(*self.caveats, caveat))


def appraise(level: str, facts: Facts) -> Admission:
    """The caveats of an erasure whatever its method. Refuses nothing."""
    if facts.of_records:
        return _of_records(level, facts)
    if not facts.retained:
        sentence = (
            f"no site but {site_name(facts.subject.id)} is active: after the removal nobody is "
            "left to repair or test the model, so that no certificate can be given; enrol other "
            "sites, then ask again"
        )
        return Admission(STOP_USE, (sentence,), uncertifiable=sentence)
    admission = Admission(level)
    for rule in _RULES:
        for caveat, ceiling in rule(facts):
            admission = admission.lowered(caveat, ceiling)
    return admission


def _of_records(level: str, facts: Facts) -> Admission:
    """The site stays, repairs and tests: only its control records bound what can be shown."""
    admission = Admission(level)
    for caveat, ceiling in _controls(facts):
        admission = admission.lowered(caveat, ceiling)
    return admission


_Caveats = Iterator[tuple[str, str]]  # a sentence, and the highest level it leaves


def _one_retained(facts: Facts) -> _Caveats:
    if len(facts.retained) == 1:
        only = site_name(facts.retained[0].id)
        yield (
            f"{only} is the only site that is retained: differences between later versions show "
            "what it trained, and the gate's utility rests on this one hospital",
            VERIFIED,
        )


def _share(facts: Facts) -> _Caveats:
    own = facts.subject.records
    total = own + sum(site.records for site in facts.retained)
    if total and 10 * own >= TENTHS_TOO_MANY * total:
        yield (
            f"{site_name(facts.subject.id)} holds {100 * own // total} % of all training records "
            f"({10 * TENTHS_TOO_MANY} % or more): too few are left to repair the model with, and "
            "the forgetting tests have little power, so that L1 cannot be given",
            STOP_USE,
        )


def _sole_classes(facts: Facts) -> _Caveats:
    counts = facts.subject.class_counts
    others = [site.class_counts for site in facts.retained]
    if counts is None or any(other is None for other in others):
        return
    known = {name for other in others if other for name, count in other.items() if count}
    sole = sorted(name for name, count in counts.items() if count and name not in known)
    if sole:
        what = ("class " if len(sole) == 1 else "classes ") + ", ".join(map(repr, sole))
        yield (
            f"no retained site has records of {what}: the model cannot learn that any more, and "
            "the utility margin cannot hold there",
            VERIFIED,
        )


def _controls(facts: Facts) -> _Caveats:
    controls = facts.subject.control_records
    if controls is None or controls >= CONTROLS_FOR_TPR:
        return
    who = f"{site_name(facts.subject.id)} holds {controls} control records"
    if controls < CONTROLS_FOR_ANY_TEST:
        yield (
            f"{who}, fewer than {CONTROLS_FOR_ANY_TEST}: no forgetting test can be conclusive, so "
            "that L1 cannot be given, and no more is claimed than that the influence was removed, "
            "not statistically verified",
            STOP_USE,
        )
    else:
        yield (
            f"{who}, fewer than {CONTROLS_FOR_TPR}: the true positive rate at 1 % false positives "
            "cannot be resolved, so that forget_tpr will be inconclusive",
            VERIFIED,
        )


def _away(facts: Facts) -> _Caveats:
    if facts.subject_is_away:
        yield (
            f"the agent of {site_name(facts.subject.id)} was last heard of {facts.silent_s:.0f} s "
            "before the request: without its audit every forgetting test is inconclusive",
            VERIFIED,
        )


_RULES: tuple[Callable[[Facts], _Caveats], ...] = (
    _share,
    _controls,
    _sole_classes,
    _one_retained,
    _away,
)
