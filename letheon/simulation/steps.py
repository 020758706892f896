"""The steps of unlearning methods in virtual time: what the calibrator does for real.

Whatever was computed for a head from before a later removal is void: `PatchVoid` is raised before
anything of it is added.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np

from letheon.errors import MalformedUpdate, MethodRefused, PatchVoid
from letheon.federation import arithmetic
from letheon.federation.ledger import EntryKind, read_merges
from letheon.federation.parameters import Vector
from letheon.simulation.central import Central
from letheon.simulation.erasure import Accepted, At, Erasure, Wait
from letheon.simulation.federation import Federation
from letheon.simulation.history import parts_by_site
from letheon.simulation.swap import swapped, trainings_of
from letheon.simulation.virtual_time import derived_seed
from letheon.simulation.workbench import (
    SERVER_STEP_S,
    TARGET_STEP_S,
    Made,
    Recombined,
    capped,
)
from letheon.unlearning.method import (
    AskTarget,
    Calibrate,
    Case,
    ComputePatch,
    DeltasArrived,
    LabStepDone,
    Outcome,
    Overwrite,
    PatchAdded,
    PatchRefused,
    PushPatch,
    Readmit,
    Recombine,
    Replay,
    Retrain,
    Step,
    Synchronise,
    TargetAnswered,
    TargetSilent,
    WaitForDeltas,
)

_TOO_COSTLY = "it costs too much accuracy on the audit images"


def carry_out(
    step: Step, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    """One step. Raises PatchVoid if a later removal happens before it has landed."""
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
        case Readmit():
            return _readmit(step, erasure, federation)
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
    if step.rule == "swap":
        return (yield from _swap(step, erasure, federation))
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
    erasure.check_epoch(federation.central)
    erasure.uploads[step.request_id] = (base, made.change, version)
    return TargetAnswered(
        update_id=step.request_id,
        norm=arithmetic.norm(made.change),
        steps=made.steps,
        loss_before=made.numbers["loss_before"],
        loss_after=made.numbers["loss_after"],
    )


def _swap(
    step: AskTarget, erasure: Erasure, federation: Federation
) -> Generator[Wait, None, Outcome]:
    """The site trains its past tasks again, one after the other, beside its present ones.

    Raises MethodRefused if the subject is a whole site, which has no records left to train on.
    """
    if erasure.reduced is None:
        raise MethodRefused("a swap is for records at a site that stays, not for a whole site")
    central, setting, site = federation.central, federation.setting, erasure.site
    base, version = np.array(central.head), central.version
    tasks = trainings_of(central, site)
    change = swapped(central, site, erasure.reduced.recompute, seed=setting.seed)
    seconds = sum(setting.times.seconds(site, task) for task in tasks) / erasure.reduced.speed
    yield At(federation.now + seconds)
    erasure.check_epoch(central)
    erasure.uploads[step.request_id] = (base, change, version)
    return TargetAnswered(
        update_id=step.request_id,
        norm=arithmetic.norm(change),
        steps=len(tasks) * central.rules.plan.training.local_steps,
        loss_before=math.nan,  # no loss is descended or ascended
        loss_after=math.nan,
    )


def _push_patch(step: PushPatch, erasure: Erasure, federation: Federation, case: Case) -> Outcome:
    central = federation.central
    _, change, _ = erasure.uploads[step.source]
    limit = central.rules.plan.erasure.patch_cap_ratio * case.contribution_norm
    # A swap shortened would leave influence: it is whole, and the coordinator checks its length.
    patch = capped(change, limit) if erasure.reduced is None else change
    scale = erasure.workbench.largest_scale(central.head, patch, step.scales, step.allowed_drop)
    if scale is None:
        return PatchRefused("no scale of the patch keeps accuracy on the audit images")
    if erasure.reduced is not None:
        return _exchange(patch, erasure, federation)
    return _add(patch * np.float32(scale), scale, erasure, federation, {})


def _exchange(patch: Vector, erasure: Erasure, federation: Federation) -> Outcome:
    central, epoch = federation.central, federation.central.epoch
    try:
        central.exchange(patch, federation.now, site=erasure.site)
    except MalformedUpdate as error:
        return PatchRefused(error.message)
    if central.epoch > epoch:
        federation.supersede()
    erasure.epoch, erasure.landed_at = central.epoch, federation.now
    return PatchAdded(central.version, 1.0, arithmetic.norm(patch), {})


def _readmit(step: Readmit, erasure: Erasure, federation: Federation) -> Outcome:
    federation.readmit(erasure.site)
    erasure.readmitted = step.reason
    erasure.epoch, erasure.landed_at = federation.central.epoch, federation.now
    return LabStepDone(federation.central.version)


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


def _recombine(
    step: Recombine, erasure: Erasure, federation: Federation, case: Case
) -> Generator[Wait, None, Outcome]:
    central = federation.central
    without = central.fenced | {erasure.site}
    parts = parts_by_site(central.entries, central.payloads, without, step.segments)
    if not parts:
        return PatchRefused("no retained site has contributed yet", final=False)
    seed = derived_seed(case.seed, "recombine", step.round)
    made = erasure.workbench.recombine(central.head, parts, step.parameters, seed=seed)
    yield At(federation.now + made.steps * SERVER_STEP_S)
    erasure.check_epoch(central)
    if central.fenced & made.shares.keys():
        raise PatchVoid("an erasure names a site whose share this is", epoch=central.epoch)
    if _costs_too_much(made, step.allowed_drop, erasure, central):
        return PatchRefused(_TOO_COSTLY, final=False)
    return add_shares(made, erasure, federation)


def add_shares(made: Recombined, erasure: Erasure, federation: Federation) -> PatchAdded:
    """One row a site, as contributed by it: a later erasure of the site takes its share out."""
    for site, share in made.shares.items():
        federation.central.patch(share, federation.now, site=site)
    erasure.landed_at = federation.now
    length = arithmetic.norm(made.change)
    return PatchAdded(federation.central.version, 1.0, length, dict(made.numbers))


def _costs_too_much(
    made: Made | Recombined, allowed_drop: float | None, erasure: Erasure, central: Central
) -> bool:
    if allowed_drop is None:
        return False
    bench = erasure.workbench
    return bench.largest_scale(central.head, made.change, (1.0,), allowed_drop) is None


def _land(
    made: Made,
    allowed_drop: float | None,
    erasure: Erasure,
    federation: Federation,
    kind: EntryKind,
) -> Generator[Wait, None, Outcome]:
    """Adds a change computed from the head of a moment ago to the head of now."""
    yield At(federation.now + made.steps * SERVER_STEP_S)
    erasure.check_epoch(federation.central)
    if _costs_too_much(made, allowed_drop, erasure, federation.central):
        return PatchRefused(_TOO_COSTLY, final=False)
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
