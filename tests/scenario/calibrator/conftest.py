from collections.abc import Callable, Iterator

import pytest
from calibrator_bench import Bench
from erasure_world import ScriptedCoordinator


@pytest.fixture
def bench(tmp_path) -> Iterator[Callable[[ScriptedCoordinator], Bench]]:
    """Builds a bench around a world; closes what it opened."""
    open_things = []

    def build(world: ScriptedCoordinator) -> Bench:
        server, address = world.start()
        made = Bench(world, address, tmp_path)
        open_things.append((server, made.channel))
        return made

    yield build
    for server, channel in open_things:
        channel.close()
        server.stop(0)
