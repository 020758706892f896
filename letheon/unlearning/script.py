"""Methods whose steps are known from the start: a script and how far it has come."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from letheon.errors import LevelRefused, MethodRefused
from letheon.unlearning.method import (
    Case,
    Finished,
    GiveUp,
    Offer,
    Outcome,
    PatchRefused,
    State,
    Step,
    TargetAnswered,
    TargetSilent,
)


class ScriptState(BaseModel):
    """How far a script has come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: Case
    done: int = 0  # steps folded so far
    upload: str = ""  # update id of the target's patch, once it answered
    gave_up: str = ""  # the sentence, once a step failed for good


def check_admissible(offer: Offer, case: Case) -> None:
    """Raises MethodRefused or LevelRefused, saying what can be had instead."""
    if not (offer.services or case.laboratory):
        raise MethodRefused(offer.why_not_services, method=offer.name)
    if case.level not in offer.levels:
        levels = ", ".join(sorted(offer.levels))
        raise LevelRefused(
            f"method {offer.name} gives {levels}, not {case.level}",
            method=offer.name,
            level=case.level,
        )


def check_sites(offer: Offer, case: Case) -> None:
    """Raises MethodRefused unless the case says how many sites took part; first as above."""
    check_admissible(offer, case)
    if case.sites < 2:
        raise MethodRefused(
            f"{offer.name} takes one model out of the mean of all: the case must say how many "
            f"sites took part, at least 2, not {case.sites}",
            method=offer.name,
        )


def read(state: State) -> ScriptState:
    """The typed form of a state."""
    return ScriptState.model_validate(state)


def begin(offer: Offer, case: Case) -> State:
    """State before the first step. Raises as `check_admissible`."""
    check_admissible(offer, case)
    return ScriptState(case=case).model_dump(mode="json")


def next_step(state: ScriptState, script: Sequence[Step]) -> Step:
    """The step at hand: the next of the script, `GiveUp`, or `Finished` behind its end."""
    if state.gave_up:
        return GiveUp(state.gave_up)
    return script[state.done] if state.done < len(script) else Finished()


def fold(state: State, outcome: Outcome) -> State:
    """One step further; a silent target or a final refusal ends the script."""
    now = read(state)
    match outcome:
        case TargetSilent(reason) | PatchRefused(reason, True):
            after = now.model_copy(update={"gave_up": reason})
        case TargetAnswered(update_id=upload):
            after = now.model_copy(update={"upload": upload, "done": now.done + 1})
        case _:
            after = now.model_copy(update={"done": now.done + 1})
    return after.model_dump(mode="json")
