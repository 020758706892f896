"""Carries out an unlearning method's steps in virtual time: what the calibrator does for real.

A conductor is a generator that yields what it waits for, so that several erasures run beside each
other and beside training.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from letheon.federation import arithmetic
from letheon.federation.ledger import EntryKind, read_merges
from letheon.federation.parameters import Vector
from letheon.federation.replay import remove_contribution
from letheon.simulation.federation import Federation
from letheon.simulation.history import retained_parts
from letheon.simulation.virtual_time import derived_seed
from letheon.simulation.workbench import SERVER_STEP_S, TARGET_STEP_S, Made, Workbench, capped
from letheon.unlearning.method import (
    AskTarget,
    Calibrate,
    Case,
    ComputePatch,
    DeltasArrived,
    Finished,
    GiveUp,
    LabStepDone,
    Method,
    Outcome,
    Overwrite,
    PatchAdded,
    PatchRefused,
    Preparing,
    PushPatch,
    Recombine,
    Replay,
    Retrain,
    Step,
    Synchronise,
    TargetAnswered,
    TargetSilent,
    WaitForDeltas,
)

REMOVAL_S = 0.05  # from the request to the removal


@dataclass(frozen=True)
class At:
    """Until that virtual second."""

    seconds: float


@dataclass(frozen=True)
class Accepted:
    """Until so many versions exist."""

    version: int


Wait: TypeAlias = At | Accepted
Conductor: TypeAlias = Generator[Wait, None, None]


@dataclass
class Erasure:
    """One erasure in a simulation, and what became of it."""

    name: str
    site: str
    method: Method
    workbench: Workbench
    reachable: bool = True  # the target's agent still answers
    calibrate: bool = False
    overwrites: bool = False  # as published: no epoch, the target is only fenced
    subtracted_share: float = 1.0  # below 1: the rest is added back, which no service does
    removed_at: float | None = None
    before: Vector | None = None  # the head before the removal [d]
    landed_at: float | None = None  # of the newest change the method made
    finished_at: float | None = None
    failed: str = ""
    uploads: dict[str, tuple[Vector, Vector, int]] = field(default_factory=dict)
    facts: list[dict[str, object]] = field(default_factory=list)


def conduct(erasure: Erasure, federation: Federation, seed: int) -> Conductor:
    """From the request to the method's end. The gate is another's affair."""
    central = federation.central
    central.fence(erasure.site, federation.now)
    yield At(federation.now + REMOVAL_S)
    prepared = yield from _prepare(erasure, federation, seed)
    erasure.before = np.array(central.head)
    contribution = central.contribution(erasure.site)
    length = 0.0 if contribution is None else arithmetic.norm(contribution)
    version_before = central.version
    if not erasure.overwrites:
        central.remove(erasure.site, federation.now, subtract=erasure.method.offer.subtracts)
        if contribution is not None and erasure.subtracted_share < 1.0:
            kept = np.float32(1.0 - erasure.subtracted_share)
            central.patch(contribution * kept, federation.now)
        if prepared is not None:
            _add_prepared(prepared, erasure, federation)
        federation.supersede()
    erasure.removed_at = erasure.landed_at = federation.now
    case = Case(
        erasure=f"erasures/{erasure.name}",
        site=f"sites/{erasure.site}",
        level=min(erasure.method.offer.levels),
        epoch=central.epoch,
        version_before=version_before,
        version_after=central.version,
        contribution_norm=length,
        calibrate=erasure.calibrate,
        seed=derived_seed(seed, erasure.name),
        sites=len(federation.setting.sites),
        laboratory=True,
    )
    state = erasure.method.begin(case)
    while True:
        step = erasure.method.next_step(state)
        match step:
            case Finished():
                break
            case GiveUp(reason):
                erasure.failed = reason
                break
        outcome = yield from _carry_out(step, erasure, federation, case)
        erasure.facts.append({"step": type(step).__name__, "outcome": type(outcome).__name__})
        state = erasure.method.fold(state, outcome)
    erasure.finished_at = federation.now
    if federation.halted:  # a method that gave up half way lets the sites go on
        federation.resume()


def _carry_out(
    step: Step, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    match step:
        case AskTarget():
            return (yield from _ask_target(step, erasure, federation, case))
        case PushPatch():
            return _push_patch(step, erasure, federation, case)
        case Calibrate():
            return (yield from _calibrate(step, erasure, federation, case))
        case ComputePatch():
            return (yield from _compute(step, erasure, federation, case))
        case Recombine():
            return (yield from _recombine(step, erasure, federation, case))
        case WaitForDeltas(count):
            yield Accepted(federation.central.version + count)
            return DeltasArrived(federation.central.version)
        case Overwrite(source):
            return _overwrite(source, erasure, federation)
        case Synchronise():
            federation.synchronise()
            return LabStepDone(federation.central.version)
        case Retrain():
            return _retrain(step, erasure, federation, case)
        case Replay():
            from letheon.simulation.replay_history import replay_history

            return (yield from replay_history(step, erasure, federation))
        case _:
            raise TypeError(f"no such step of a method: {type(step).__name__}")


def _ask_target(
    step: AskTarget, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    if not erasure.reachable:
        return TargetSilent("the site's agent is gone")
    base, version = np.array(federation.central.head), federation.central.version
    rows = [delta for site, delta in federation.last_deltas if site != erasure.site][-8:]
    made = erasure.workbench.at_target(
        step.rule,
        step.parameters,
        base,
        last_local=federation.last_local.get(erasure.site),
        rows=rows,
        seed=case.seed,
    )
    yield At(federation.now + made.steps * TARGET_STEP_S)
    erasure.uploads[step.request_id] = (base, made.change, version)
    return TargetAnswered(
        update_id=step.request_id,
        norm=arithmetic.norm(made.change),
        steps=made.steps,
        loss_before=made.numbers["loss_before"],
        loss_after=made.numbers["loss_after"],
    )


def _push_patch(step: PushPatch, erasure: Erasure, federation: Federation, case: Case) -> Outcome:
    central = federation.central
    _, change, _ = erasure.uploads[step.source]
    limit = central.rules.plan.erasure.patch_cap_ratio * case.contribution_norm
    patch = capped(change, limit)
    scale = erasure.workbench.largest_scale(central.head, patch, step.scales, step.allowed_drop)
    if scale is None:
        return PatchRefused("no scale of the patch keeps accuracy on the audit images")
    return _add(patch * np.float32(scale), scale, erasure, federation, {})


def _calibrate(
    step: Calibrate, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    seed = derived_seed(case.seed, "calibrate", step.round)
    made = erasure.workbench.calibrate(federation.central.head, step.parameters, seed=seed)
    return (yield from _land(made, step.allowed_drop, erasure, federation, EntryKind.CALIBRATION))


def _compute(
    step: ComputePatch, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    seed = derived_seed(case.seed, step.rule)
    head = federation.central.head
    made = erasure.workbench.compute(step.rule, step.parameters, head, seed=seed)
    return (yield from _land(made, step.allowed_drop, erasure, federation, EntryKind.PATCH))


def _prepare(
    erasure: Erasure, federation: Federation, seed: int
) -> Generator[Wait, None, Made | None]:
    """The patch of a method that prepares one, computed for the head without the subject."""
    method, central = erasure.method, federation.central
    if not isinstance(method, Preparing):
        return None
    step = method.preparation()
    parts = retained_parts(central.entries, central.payloads, erasure.site, step.segments)
    if not parts:
        return None
    without = np.array(central.head)
    remove_contribution(without, central.contribution(erasure.site))
    made = erasure.workbench.recombine(
        without, parts, step.parameters, seed=derived_seed(seed, "prepare")
    )
    yield At(federation.now + made.steps * SERVER_STEP_S)
    return made


def _add_prepared(made: Made, erasure: Erasure, federation: Federation) -> None:
    """Adds the prepared patch to the head that the removal left a moment ago, unless it harms."""
    head = federation.central.head
    allowed = (
        erasure.method.preparation().allowed_drop if isinstance(erasure.method, Preparing) else 0.0
    )
    if erasure.workbench.largest_scale(head, made.change, (1.0,), allowed) is not None:
        _add(made.change, 1.0, erasure, federation, dict(made.numbers))


def _recombine(
    step: Recombine, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    central = federation.central
    parts = retained_parts(central.entries, central.payloads, erasure.site, step.segments)
    if not parts:
        return PatchRefused("no retained site has contributed yet", final=False)
    seed = derived_seed(case.seed, "recombine", step.round)
    made = erasure.workbench.recombine(central.head, parts, step.parameters, seed=seed)
    return (yield from _land(made, step.allowed_drop, erasure, federation, EntryKind.PATCH))


def _land(
    made: Made,
    allowed_drop: float | None,
    erasure: Erasure,
    federation: Federation,
    kind: EntryKind,
) -> Generator[Wait, None, Outcome]:
    """Adds a change computed from the head of a moment ago to the head of now."""
    yield At(federation.now + made.steps * SERVER_STEP_S)
    head = federation.central.head
    if allowed_drop is not None:
        scale = erasure.workbench.largest_scale(head, made.change, (1.0,), allowed_drop)
        if scale is None:
            return PatchRefused("it costs too much accuracy on the audit images", final=False)
    return _add(made.change, 1.0, erasure, federation, dict(made.numbers), kind)


def _add(
    patch: Vector,
    scale: float,
    erasure: Erasure,
    federation: Federation,
    numbers: dict[str, float],
    kind: EntryKind = EntryKind.PATCH,
) -> PatchAdded:
    federation.central.patch(patch, federation.now, kind=kind)
    erasure.landed_at = federation.now
    return PatchAdded(federation.central.version, scale, arithmetic.norm(patch), numbers)


def _overwrite(source: str, erasure: Erasure, federation: Federation) -> Outcome:
    """The head becomes the target's model; what was accepted since its base is lost."""
    central = federation.central
    base, change, version = erasure.uploads[source]
    for row in central.entries:
        if row.version > version:
            # Of a round or a buffer all deltas are lost, not one.
            federation.counts.overwritten += len(read_merges(row)) + (row.kind is EntryKind.DELTA)
    central.patch(base + change - central.head, federation.now)
    central.restart_rate()
    erasure.landed_at = federation.now
    if federation.halted:
        federation.resume()
    return LabStepDone(central.version)


def _retrain(step: Retrain, erasure: Erasure, federation: Federation, case: Case) -> Outcome:
    central = federation.central
    initial = erasure.workbench.initial(int(step.parameters.get("seed", case.seed)))
    central.patch(initial - central.head, federation.now)
    central.restart_rate()
    federation.supersede()
    erasure.landed_at = federation.now
    return LabStepDone(central.version)
