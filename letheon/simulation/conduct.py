"""Takes an erasure from its request to its method's end, in virtual time.

A conductor is a generator that yields what it waits for, so that several erasures run beside each
other and beside training.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import numpy as np

from letheon.errors import PatchVoid
from letheon.federation import arithmetic
from letheon.federation.replay import remove_contribution
from letheon.simulation.erasure import At, Conductor, Erasure, LaterRemoval, Wait
from letheon.simulation.federation import Federation
from letheon.simulation.history import parts_by_site
from letheon.simulation.steps import add_shares, carry_out
from letheon.simulation.virtual_time import derived_seed
from letheon.simulation.workbench import SERVER_STEP_S, Recombined
from letheon.unlearning.method import Case, Finished, GiveUp, Outcome, Preparing, Step

REMOVAL_S = 0.05  # from the request to the removal


def conduct(erasure: Erasure, federation: Federation, seed: int) -> Conductor:
    """From the request to the method's end. The gate is another's affair.

    A later removal makes the method start over from the head it left, as in the services: until
    `erasure.passed`, also after its end, because tests from before that removal are void as well.
    """
    case, prepared = yield from _begin(erasure, federation, seed)
    erasure.removed_at = erasure.landed_at = federation.now
    while True:
        try:
            yield from _run_method(erasure, federation, case, prepared=prepared)
        except PatchVoid:
            pass
        else:
            if erasure.overwrites or erasure.failed:
                return
            yield LaterRemoval(erasure.epoch)  # a readmission, or an exchange, may have begun one
            if erasure.passed:
                return
        case, prepared = _restarted(erasure, federation, case, seed), False


def later(seconds: float, conductor: Conductor, federation: Federation) -> Conductor:
    """The same erasure, requested so many virtual seconds from now."""
    yield At(federation.now + seconds)
    yield from conductor


def _begin(
    erasure: Erasure, federation: Federation, seed: int
) -> Generator[Wait, None, tuple[Case, bool]]:
    """The removal, or the exclusion; and whether what the method prepares came with it."""
    central = federation.central
    if erasure.reduced is not None:
        federation.exclude(erasure.site, erasure.reduced.trainer)
        return _case(erasure, federation, seed, version_before=central.version), False
    central.fence(erasure.site, federation.now)
    yield At(federation.now + REMOVAL_S)
    prepared = yield from _prepare(erasure, federation, seed)
    case = _case(erasure, federation, seed, version_before=central.version)
    if erasure.overwrites:
        return case, False
    contribution = central.contribution(erasure.site)
    central.remove(erasure.site, federation.now, subtract=erasure.method.offer.subtracts)
    if contribution is not None and erasure.subtracted_share < 1.0:
        kept = np.float32(1.0 - erasure.subtracted_share)
        central.patch(contribution * kept, federation.now)
    case = _moved(case, erasure, federation)
    if prepared is not None:
        _add_prepared(prepared, erasure, federation)
    federation.supersede()
    return _moved(case, erasure, federation), prepared is not None


def _case(erasure: Erasure, federation: Federation, seed: int, *, version_before: int) -> Case:
    central = federation.central
    contribution = central.contribution(erasure.site)
    erasure.epoch = central.epoch
    return Case(
        erasure=f"erasures/{erasure.name}",
        site=f"sites/{erasure.site}",
        level=min(erasure.method.offer.levels),
        epoch=central.epoch,
        version_before=version_before,
        version_after=central.version,
        contribution_norm=0.0 if contribution is None else arithmetic.norm(contribution),
        calibrate=erasure.calibrate,
        seed=derived_seed(seed, erasure.name),
        sites=len(federation.setting.sites),
        laboratory=True,
    )


def _moved(case: Case, erasure: Erasure, federation: Federation) -> Case:
    """The case with the head of now as its snapshot."""
    erasure.epoch = federation.central.epoch
    return replace(case, epoch=erasure.epoch, version_after=federation.central.version)


def _restarted(erasure: Erasure, federation: Federation, case: Case, seed: int) -> Case:
    erasure.restarts += 1
    erasure.finished_at = None
    erasure.uploads.clear()
    again = derived_seed(seed, erasure.name, erasure.restarts)
    return replace(_moved(case, erasure, federation), seed=again)


def _run_method(
    erasure: Erasure, federation: Federation, case: Case, *, prepared: bool
) -> Generator[Wait, None, None]:
    """Every step from the case's snapshot on. Raises PatchVoid after a later removal."""
    method = erasure.method
    if isinstance(method, Preparing) and not prepared:
        # Whatever came of it, the method goes on without.
        yield from _carry_out(method.preparation(), erasure, federation, case)
    state = method.begin(case)
    while True:
        step = method.next_step(state)
        match step:
            case Finished():
                break
            case GiveUp(reason):
                erasure.failed = reason
                break
        state = method.fold(state, (yield from _carry_out(step, erasure, federation, case)))
    erasure.finished_at = federation.now
    if federation.halted:  # a method that gave up half way lets the sites go on
        federation.resume()


def _carry_out(
    step: Step, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    erasure.check_epoch(federation.central)
    outcome = yield from carry_out(step, erasure, federation, case)
    erasure.facts.append({"step": type(step).__name__, "outcome": type(outcome).__name__})
    return outcome


def _prepare(
    erasure: Erasure, federation: Federation, seed: int
) -> Generator[Wait, None, Recombined | None]:
    """The patches of a method that prepares some, computed for the head without the subject.

    None if a site is fenced or removed meanwhile: the method then makes them after the removal.
    """
    method, central = erasure.method, federation.central
    if not isinstance(method, Preparing):
        return None
    step, fenced = method.preparation(), set(central.fenced)
    parts = parts_by_site(central.entries, central.payloads, fenced, step.segments)
    if not parts:
        return None
    without = np.array(central.head)
    remove_contribution(without, central.contribution(erasure.site))
    made = erasure.workbench.recombine(
        without, parts, step.parameters, seed=derived_seed(seed, "prepare")
    )
    epoch = central.epoch
    yield At(federation.now + made.steps * SERVER_STEP_S)
    return made if (central.fenced, central.epoch) == (fenced, epoch) else None


def _add_prepared(made: Recombined, erasure: Erasure, federation: Federation) -> None:
    """Adds the prepared patches to the head that the removal left, unless they harm it."""
    head = federation.central.head
    allowed = (
        erasure.method.preparation().allowed_drop if isinstance(erasure.method, Preparing) else 0.0
    )
    if erasure.workbench.largest_scale(head, made.change, (1.0,), allowed) is not None:
        add_shares(made, erasure, federation)
