"""Methods of given steps, and a workbench that needs no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simulation_builders import a_vector, advance

from letheon.simulation.conduct import conduct, later
from letheon.simulation.erasure import Erasure
from letheon.simulation.federation import Federation
from letheon.simulation.running import train_and_erase
from letheon.simulation.workbench import Made, Recombined
from letheon.unlearning import script
from letheon.unlearning.method import Offer, Recombine


@dataclass
class Scripted:
    """A method of given steps; "upload" stands for what the target sent."""

    steps: tuple[Any, ...]
    offer: ClassVar[Offer] = Offer("scripted", frozenset({"L1"}), subtracts=True, suppresses=False)

    def begin(self, case: Any) -> Any:
        return script.begin(self.offer, case)

    def next_step(self, state: Any) -> Any:
        return script.next_step(script.read(state), self.steps)

    def fold(self, state: Any, outcome: Any) -> Any:
        return script.fold(state, outcome)


@dataclass
class Prepared(Scripted):
    """As `Scripted`, with a recombination before the removal."""

    def preparation(self) -> Recombine:
        return Recombine(0, 1, {}, 0.1)


@dataclass
class SmallBench:
    """Changes of known size, where networks would be trained; `room` is the largest scale."""

    room: float = 1.0
    server_steps: int = 10

    def at_target(self, rule: str, parameters: Any, start: Any, **_more: Any) -> Made:
        return Made(a_vector(5) / 100, 8, {"loss_before": 0.1, "loss_after": 2.0})

    def calibrate(self, head: Any, parameters: Any, *, seed: int) -> Made:
        return Made(a_vector(6) / 100, self.server_steps, {})

    def compute(self, rule: str, parameters: Any, head: Any, *, seed: int) -> Made:
        return Made(a_vector(7) / 100, self.server_steps, {})

    def recombine(self, head: Any, parts: Any, parameters: Any, *, seed: int) -> Recombined:
        return Recombined({site: part / 2 for site, part in parts}, self.server_steps, {})

    def initial(self, seed: int) -> Any:
        return a_vector(seed % 1000)

    def largest_scale(self, head: Any, patch: Any, scales: Any, allowed_drop: float) -> Any:
        return max((scale for scale in scales if scale <= self.room), default=None)


def an_erasure(*steps: Any, site: str = "south", name: str = "e", **more: Any) -> Erasure:
    bench, kind = more.pop("bench", SmallBench()), more.pop("kind", Scripted)
    return Erasure(name, site, kind(tuple(steps)), bench, **more)


def carry_out(
    federation: Federation,
    *erasures: tuple[float, Erasure],
    until: float = 20.0,
    begin: float = 6.0,
) -> None:
    """Each erasure so many seconds after the newest event up to `begin`."""
    advance(federation, begin)
    train_and_erase(
        federation,
        [later(after, conduct(one, federation, 1), federation) for after, one in erasures],
        lambda now: now.now >= until,
        lambda _: None,
    )


def rows_of(federation: Federation, *kinds: str) -> list[Any]:
    return [row for row in federation.central.entries if row.kind in kinds]
