"""Drives the unlearning method: one of its steps per call."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from calibrator.domain.case import ModelRef, derived_seed
from calibrator.domain.progress import MethodProgress, Progress, Stage
from calibrator.ports import Failed
from calibrator.services.ask_target import ask_target
from calibrator.services.calibrate_head import calibrate_head
from calibrator.services.compute_patch import compute_patch
from calibrator.services.job import Advance, Ended, Job, Moved, Waiting, Workshop
from calibrator.services.prepare_patches import rebased
from calibrator.services.push_patch import push_patch
from calibrator.services.recombine_head import recombine_head
from letheon.unlearning.method import (
    AskTarget,
    Calibrate,
    Case,
    ComputePatch,
    DeltasArrived,
    Finished,
    GiveUp,
    Method,
    Outcome,
    PatchAdded,
    Preparing,
    PushPatch,
    Recombine,
    Step,
    WaitForDeltas,
)


def run_method(job: Job, workshop: Workshop) -> Advance:
    """Begins the method, or carries out its next step.

    Raises MethodRefused, LevelRefused, UnknownPlugin; PatchVoid after a later removal.
    """
    method = workshop.method(job.erasure.method)
    if job.progress.method is None:
        return _begin(job, workshop, method)
    step = _next_step(method, job.progress.method)
    match step:
        case GiveUp(reason):
            return Ended(Failed(reason))
        case Finished():
            return Moved(_into_gate(job.progress, workshop), "verifying")
    result = _carry_out(job, job.progress.method, step, workshop, method)
    if isinstance(result, Moved | Waiting):
        return result
    return Moved(_fold(job.progress, job.progress.method, step, result, method), "calibrating")


def _next_step(method: Method, now: MethodProgress) -> Step:
    """What a method prepares for the removal comes first, prepared in time or not."""
    if isinstance(method, Preparing) and not now.preparation_done:
        return method.preparation()
    return method.next_step(now.state)


def _begin(job: Job, workshop: Workshop, method: Method) -> Moved:
    erasure, removal = job.erasure, job.progress.require_removal()
    snapshot = ModelRef(removal.version_after, removal.epoch, removal.sha256_after)
    if job.progress.restarts:
        snapshot = workshop.coordinator.pin_head()
    case = Case(
        erasure=erasure.name,
        site=erasure.site,
        level=erasure.level,
        epoch=snapshot.epoch,
        version_before=removal.version_before,
        version_after=snapshot.version,
        contribution_norm=removal.contribution_norm,
        calibrate=erasure.calibrate,
        seed=derived_seed(erasure.name, "method", job.progress.restarts),
    )
    prepared = job.progress.prepared_patches
    started = MethodProgress(
        snapshot=snapshot,
        state=method.begin(case),
        site_patches=None if prepared is None else rebased(prepared, snapshot),
    )
    return Moved(job.progress.model_copy(update={"method": started, "prepared_patches": None}))


def _carry_out(
    job: Job, now: MethodProgress, step: Step, workshop: Workshop, method: Method
) -> Outcome | Moved | Waiting:
    match step:
        case AskTarget():
            return ask_target(job, now, step, workshop)
        case PushPatch():
            return push_patch(job, now, step, workshop)
        case Calibrate():
            return calibrate_head(job, now, step, workshop, method.offer)
        case ComputePatch():
            return compute_patch(job, now, step, workshop, method.offer)
        case Recombine():
            return recombine_head(job, now, step, workshop, method.offer)
        case WaitForDeltas(count):
            return _wait(job, now, count, workshop)
        case _:
            raise TypeError(f"no such step of a method: {type(step).__name__}")


def _wait(
    job: Job, now: MethodProgress, count: int, workshop: Workshop
) -> DeltasArrived | Moved | Waiting:
    head = workshop.coordinator.head_version()
    if now.wait_until is None:
        waiting = now.model_copy(update={"wait_until": head + count})
        return Moved(job.progress.model_copy(update={"method": waiting}))
    return DeltasArrived(head) if head >= now.wait_until else Waiting()


def _fold(
    progress: Progress, now: MethodProgress, step: Step, outcome: Outcome, method: Method
) -> Progress:
    prepares = isinstance(method, Preparing) and not now.preparation_done
    after = MethodProgress(
        snapshot=now.snapshot,
        state=now.state if prepares else method.fold(now.state, outcome),
        preparation_done=now.preparation_done or prepares,
    )
    # Patches of single sites were counted as they were sent.
    added = isinstance(outcome, PatchAdded) and now.site_patches is None
    return progress.model_copy(
        update={
            "method": after,
            "own_patches": progress.own_patches + int(added),
            "steps": (*progress.steps, _fact(step, outcome)),
        }
    )


def _fact(step: Step, outcome: Outcome) -> dict[str, Any]:
    """What the certificate says about a step: what was asked, and what came of it."""
    told = asdict(
        replace(outcome, numbers=dict(outcome.numbers))
        if isinstance(outcome, PatchAdded)
        else outcome
    )
    return {"step": type(step).__name__, "outcome": type(outcome).__name__, **told}


def _into_gate(progress: Progress, workshop: Workshop) -> Progress:
    return progress.model_copy(update={"stage": Stage.GATE, "stage_since": workshop.clock.now()})
