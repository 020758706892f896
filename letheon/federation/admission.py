"""Which erasures are admitted: what is refused, and what is done with less to be claimed.

Pure: facts of the federation in, a refusal or an `Admission` out. A rule either refuses with one
sentence, before anything is fenced, or admits with a caveat that ends in the certificate and may
lower the level: a weak erasure is never silent. Not refused is what a hospital has a right to, its
removal; where nobody is left to repair and test the model it is removed and never certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from letheon.errors import ContributionNotSubtractable, LevelRefused, MethodRefused
from letheon.federation.caveats import LEVELS, STOP_USE, Admission, Facts, SiteFacts, appraise
from letheon.names import site_name

__all__ = [
    "LEVELS",
    "NEEDS_TARGET",
    "STOP_USE",
    "Admission",
    "Facts",
    "MethodOffer",
    "SiteFacts",
    "admit",
    "appraise",
    "check_subtractable",
]

NEEDS_TARGET = "target"  # as in `letheon.unlearning.method.TARGET`
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
    def exchanges(self) -> bool:
        """Whether it is of records at a site that stays, and of nothing else."""

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


def admit(
    level: str, method: MethodOffer, facts: Facts, offers: Sequence[MethodOffer]
) -> Admission:
    """What may be claimed of an erasure at that level by that method. `offers`: all there are.

    Raises LevelRefused, MethodRefused or ContributionNotSubtractable, each with one sentence that
    says what can be had instead.
    """
    usable = [offer for offer in offers if offer.services]
    _check_level(level, method, usable)
    _check_subject(method, facts, usable)
    check_subtractable(facts.subject.id, method, strategy=facts.strategy, linear=facts.linear)
    fitting = [offer for offer in usable if level in offer.levels]
    _check_target(method, facts, fitting)
    admission = appraise(level, facts)
    _check_verifiable(level, method, admission, fitting)
    return admission


def check_subtractable(site: str, method: MethodOffer, *, strategy: str, linear: bool) -> None:
    """Raises ContributionNotSubtractable for a method that subtracts what is no sum."""
    if (method.subtracts or method.exchanges) and not linear:
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


def _check_subject(method: MethodOffer, facts: Facts, usable: Sequence[MethodOffer]) -> None:
    if method.exchanges == facts.of_records:
        return
    others = ", ".join(o.name for o in usable if o.exchanges == facts.of_records) or "there is none"
    what = "records at a site that stays" if facts.of_records else "a whole site"
    raise MethodRefused(
        f"{method.name} does not take {what}; ask for a method that does: {others}",
        method=method.name,
    )


def _what_can_be_had(level: str, usable: Sequence[MethodOffer]) -> str:
    giving = [offer.name for offer in usable if level in offer.levels]
    if giving:
        return f"{level} is given by: {', '.join(giving)}"
    levels = sorted(set().union(*(offer.levels for offer in usable)))
    return f"no method gives it; levels to be had: {', '.join(levels)}"


def _check_target(method: MethodOffer, facts: Facts, fitting: Sequence[MethodOffer]) -> None:
    # Records leave without their site's agent too: by removing and readmitting the site.
    if NEEDS_TARGET not in method.needs or not facts.subject_is_away or facts.of_records:
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
