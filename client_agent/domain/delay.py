"""How long a site waits when it was told to come back later."""

from __future__ import annotations

# Sites that were turned away together must not come back together.
_SPREAD = 0.5


def come_back_after(asked_s: float, draw: float) -> float:
    """Seconds to wait: never less than asked, up to half as much again by `draw` in [0, 1)."""
    return asked_s * (1.0 + _SPREAD * draw)
