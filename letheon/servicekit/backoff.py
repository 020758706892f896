"""How long to wait before a call is repeated."""

from __future__ import annotations

import random


class Backoff:
    """Decorrelated jitter: each delay is drawn between the base and three times the last one.

    Callers that failed together do not come back together. Source: M. Brooker, "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    def __init__(
        self, base_s: float = 1.0, cap_s: float = 300.0, rng: random.Random | None = None
    ) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError("0 < base_s <= cap_s is due")
        self._base_s = base_s
        self._cap_s = cap_s
        self._rng = rng if rng is not None else random.Random()
        self._last_s = base_s

    def next_s(self, at_least_s: float = 0.0) -> float:
        """Seconds to wait now, at most the cap, but never less than the other side asked for."""
        self._last_s = min(self._cap_s, self._rng.uniform(self._base_s, self._last_s * 3))
        return max(self._last_s, at_least_s)

    def reset(self) -> None:
        """Call it after a success: the next delay begins at the base again."""
        self._last_s = self._base_s
