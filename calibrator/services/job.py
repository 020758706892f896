"""What a use case is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from calibrator.domain.case import Erasure, Ticket
from calibrator.domain.progress import Progress
from calibrator.ports import Certified, Coordinator, Failed, Laboratory, Stage
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock
from letheon.servicekit.signing import SigningKey
from letheon.unlearning.method import Method


@dataclass(frozen=True)
class Job:
    """One erasure under our claim, and how far it has come."""

    ticket: Ticket
    erasure: Erasure
    progress: Progress


@dataclass(frozen=True)
class Workshop:
    """Everything a use case may reach."""

    coordinator: Coordinator
    plan: Plan
    method: Callable[[str], Method]  # by entry point name; raises UnknownPlugin
    laboratory: Callable[[], Laboratory]  # built when first needed: it imports torch
    has_images: bool  # calibration and audit images are configured
    clock: Clock
    directory: Path  # for payloads on their way
    key: SigningKey


@dataclass(frozen=True)
class Moved:
    """One step further: store this, and go on."""

    progress: Progress
    stage: Stage | None = None  # the state to show to whoever watches the erasure


@dataclass(frozen=True)
class Waiting:
    """Others must act first; look again after a while."""


@dataclass(frozen=True)
class Ended:
    """Nothing is left to do but to conclude."""

    end: Certified | Failed


Advance: TypeAlias = Moved | Waiting | Ended
