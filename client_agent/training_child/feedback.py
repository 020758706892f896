"""Deltas whose encoding loses something carry what the ones before them lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from client_agent.adapters.residual_files import ResidualFiles, ResidualKey
from client_agent.training_child.vector_files import write_payload
from letheon.federation.encoding import decode, needs_feedback
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan


def write_delta(
    delta: Vector, plan: Plan, target: Path, residuals: ResidualFiles, key: ResidualKey
) -> dict[str, Any]:
    """As `write_payload`, with error feedback where `key.encoding` needs it.

    `target` is named by the update id; the new residual counts once that update is stored.
    Raises MalformedUpdate as `write_payload`.
    """
    limit, encoding = plan.max_delta_norm, key.encoding
    if not needs_feedback(encoding):
        return write_payload(delta, plan, target, encoding=encoding, max_norm=limit)
    carried = residuals.current(key, len(delta))
    meant = delta if carried is None else delta + carried
    told = write_payload(meant, plan, target, encoding=encoding, max_norm=limit)
    residuals.stage(target.name, key, meant - decode(target.read_bytes(), encoding))
    return told
