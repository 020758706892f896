"""Which erasures are admitted: what is refused, and what is done with less to be claimed.

Pure: facts of the federation in, a refusal or an `Admission` out. A rule either refuses with one
sentence, before anything is fenced, or admits with a caveat that ends in the certificate and may
lower the level: a weak erasure is never silent. Not refused is what a hospital has a right to, its
removal; where nobody is left to repair and test the model it is removed and never certified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from letheon.errors import ContributionNotSubtractable, LevelRefused, MethodRefused
from letheon.names import site_name

LEVELS = ("L0", "L1", "L2", "L3")  # weakest first
STOP_USE, VERIFIED = LEVELS[:2]
NEEDS_TARGET = "target"  # as in `letheon.unlearning.method.TARGET`

#: Training records of the subject in all: from this many tenths on too few are left.
TENTHS_TOO_MANY = 9
#: Control records below which no forgetting test is conclusive, and below which one of them is not.
CONTROLS_FOR_ANY_TEST = 20
CONTROLS_FOR_TPR = 100

_NOT_OFFERED_YET = {
    "L2": "an (epsilon, delta) certificate is not offered yet",
    "L3": "exact retraining is not offered yet",
}


class MethodOffer(Protocol):
    """What an unlearning method says of itself; read without importing the method's library."""

    @property
    def name(self) -> str:
        """Its entry point."""

    @property
    def levels(self) -> frozenset[str]:
        """Assurance levels it can give."""

    @property
    def subtracts(self) -> bool:
        """Whether the subject's contribution leaves the head at the removal."""

    @property
    def suppresses(self) -> bool:
        """Whether it is certified only if a forgetting test passed."""

    @property
    def needs(self) -> frozenset[str]:
        """What it needs, such as NEEDS_TARGET."""

    @property
    def services(self) -> bool:
        """Whether the services accept it."""

    @property
    def why_not_services(self) -> str:
        """A sentence, when they do not."""


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


def admit(
    level: str, method: MethodOffer, facts: Facts, offers: Sequence[MethodOffer]
) -> Admission:
    """What may be claimed of an erasure at that level by that method. `offers`: all there are.

    Raises LevelRefused, MethodRefused or ContributionNotSubtractable, each with one sentence that
    says what can be had instead.
    """
    usable = [offer for offer in offers if offer.services]
    _check_level(level, method, usable)
    check_subtractable(facts.subject.id, method, strategy=facts.strategy, linear=facts.linear)
    fitting = [offer for offer in usable if level in offer.levels]
    _check_target(method, facts, fitting)
    admission = appraise(level, facts)
    _check_verifiable(level, method, admission, fitting)
    return admission


def appraise(level: str, facts: Facts) -> Admission:
    """The caveats of an erasure whatever its method. Refuses nothing."""
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


def check_subtractable(site: str, method: MethodOffer, *, strategy: str, linear: bool) -> None:
    """Raises ContributionNotSubtractable for a method that subtracts what is no sum."""
    if method.subtracts and not linear:
        raise ContributionNotSubtractable(
            f"strategy {strategy} is not linear: what {site_name(site)} added to the head is no "
            "sum that could be subtracted",
            strategy=strategy,
        )


def _check_level(level: str, method: MethodOffer, usable: Sequence[MethodOffer]) -> None:
    if level in _NOT_OFFERED_YET:
        raise LevelRefused(f"{level}: {_NOT_OFFERED_YET[level]}; ask for L1", level=level)
    if not method.services:
        raise MethodRefused(method.why_not_services, method=method.name)
    if level not in method.levels:
        raise LevelRefused(
            f"{method.name} cannot give {level}; {_what_can_be_had(level, usable)}",
            level=level,
            method=method.name,
        )


def _what_can_be_had(level: str, usable: Sequence[MethodOffer]) -> str:
    giving = [offer.name for offer in usable if level in offer.levels]
    if giving:
        return f"{level} is given by: {', '.join(giving)}"
    levels = sorted(set().union(*(offer.levels for offer in usable)))
    return f"no method gives it; levels to be had: {', '.join(levels)}"


def _check_target(method: MethodOffer, facts: Facts, fitting: Sequence[MethodOffer]) -> None:
    if NEEDS_TARGET not in method.needs or not _is_away(facts):
        return
    others = [
        offer.name
        for offer in fitting
        if NEEDS_TARGET not in offer.needs and (facts.linear or not offer.subtracts)
    ]
    raise MethodRefused(
        f"{method.name} needs the agent of {site_name(facts.subject.id)}, which was last heard of "
        f"{facts.silent_s:.0f} s ago (limit {facts.offline_limit_s:.0f} s): start it, or ask for "
        f"a method that does not need it: {', '.join(others) or 'there is none'}",
        method=method.name,
    )


def _check_verifiable(
    level: str, method: MethodOffer, admission: Admission, fitting: Sequence[MethodOffer]
) -> None:
    """A method that only suppresses is worth nothing without a test that can see it work."""
    if not method.suppresses or admission.level == level:
        return
    others = [offer.name for offer in fitting if not offer.suppresses]
    raise MethodRefused(
        f"{method.name} only suppresses influence and needs a forgetting test that passed, which "
        f"cannot be had here: {admission.caveats[0]}; ask for a method that removes: "
        f"{', '.join(others) or 'there is none'}",
        method=method.name,
    )


def _is_away(facts: Facts) -> bool:
    return facts.silent_s > facts.offline_limit_s


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
    if _is_away(facts):
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
