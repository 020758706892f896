"""A coordinator while another one leads, and what its health port says of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from letheon.servicekit.byte_relay import ByteRelay
from letheon.servicekit.health_port import HealthPort

# Names on the health port. `serving`: calls are answered here, or passed on to the one that leads.
SERVING, DATABASE, REDIS, LEADER = "serving", "database", "redis", "leader"
CONDITIONS = (SERVING, DATABASE, REDIS)
INFORMAL = (LEADER,)


class Standby:
    """Listens where the coordinator will serve and passes connections on, if `relays`.

    `doors` are the ports that are relayed, each to the same port of the leader; the first one's
    port at the leader is the one that its name in the lease ends with.
    """

    def __init__(self, doors: Sequence[str], health: HealthPort, *, relays: bool) -> None:
        self._doors, self._health, self._relays = tuple(doors), health, relays
        self._holder: str | None = None
        self._open: list[ByteRelay] = []

    def database_answers(self, *, holds: bool) -> None:
        """A look at the lease succeeded, or not."""
        self._health.note(DATABASE, holds=holds)

    def waits_for(self, holder: str) -> None:
        """The lease is another's. Raises BadConfig if a port to relay from is taken."""
        self._holder = holder
        if not self._relays or self._open:
            return
        for number, listen in enumerate(self._doors):
            relay = ByteRelay(listen, self._target(None if number == 0 else listen))
            relay.start()
            self._open.append(relay)
        self._health.note(SERVING, holds=True)

    def end(self) -> None:
        """The ports are free for the server. Harmless if nothing was relayed."""
        relays, self._open = self._open, []
        if relays:
            self._health.note(SERVING, holds=False)
        for relay in relays:
            relay.stop()

    def _target(self, door: str | None) -> Callable[[], str | None]:
        def target() -> str | None:
            if self._holder is None or door is None:
                return self._holder
            return f"{self._holder.rpartition(':')[0]}:{door.rpartition(':')[2]}"

        return target
