"""Asking for erasures as a person would: again and again until there is an answer."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from letheon.errors import (
    ErasureAlreadyRequested,
    ErasureNotCancellable,
    LetheonError,
)
from letheon.v1 import erasures_pb2

from .evidence import Fence
from .processes import until
from .world import World

_RETAINED = 2  # sites that nobody asks to erase: somebody has to repair the head
_ANSWER_S = 20.0


class Requests:
    """What was asked; `fences` gets every request that was acknowledged."""

    def __init__(self, world: World, fences: list[Fence]) -> None:
        self._world, self._fences = world, fences
        self.taken: set[str] = set()
        self._numbers = iter(range(10**6))
        self._looked_at = 0.0

    def choose(self, chance: float) -> str | None:
        """A site that may still be erased."""
        sites = self._world.settings.sites
        free = [site for site in sites if site not in self.taken]
        if len(sites) - len(free) >= len(sites) - _RETAINED:
            return None
        return free[int(chance * len(free))]

    def keep_one_open(self) -> None:
        """Files a request if no erasure is under way; looks once a second."""
        now = time.monotonic()
        if now - self._looked_at < 1.0:
            return
        self._looked_at = now
        with contextlib.suppress(LetheonError):
            if self._world.status().open_erasures == 0:
                site = self.choose(0.0)
                if site is not None:
                    self.file(site, "plain")

    def file(self, site: str, variant: str) -> bool:
        """Asks until it is acknowledged; false if the site turns out to be asked for already."""
        request = erasures_pb2.RequestErasureRequest(
            request_id=f"request-{next(self._numbers)}-{site}",
            site=f"sites/{site}",
            legal_basis="GDPR-17-1-b",
            level=erasures_pb2.L1,
            method="removal",
            requester="chaos",
        )
        names: list[str] = []

        def ask() -> bool:
            try:
                names.append(self._world.erasures.RequestErasure(request, timeout=5.0).name)
            except ErasureAlreadyRequested:
                return True
            return True

        answered = until(ask, _ANSWER_S)
        if not names:
            self.taken |= {site} if answered else set()
            return False
        self.taken.add(site)
        fence = Fence(site, request.request_id, self._newest())
        self._fences.append(fence)
        if variant == "resent":
            until(ask, _ANSWER_S)
            if len(set(names)) != 1:
                raise AssertionError(f"{request.request_id} became {len(set(names))} erasures")
        if variant == "cancelled":
            self._cancel(names[0], fence)
        return True

    def _cancel(self, name: str, fence: Fence) -> None:
        before = self._newest()
        refused: list[bool] = []

        def cancel() -> bool:
            try:
                self._world.erasures.CancelErasure(
                    erasures_pb2.CancelErasureRequest(name=name), timeout=5.0
                )
            except ErasureNotCancellable:
                refused.append(True)
            return True

        if until(cancel, _ANSWER_S) and not refused:
            index = self._fences.index(fence)
            self._fences[index] = replace(fence, lifted_at_entry=before)
            self.taken.discard(fence.site)

    def _newest(self) -> int:
        found: list[int] = []
        until(lambda: found.append(self._world.status().entries - 1) or True, _ANSWER_S)
        if not found:
            raise TimeoutError("the coordinator did not come back")
        return found[0]
