"""The same units as tasks of a Ray cluster, for studies that one machine would take days for."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from letheon.errors import BadConfig
from letheon.simulation.task import Event, Failed, Task, perform


def run_units_on_ray(tasks: Sequence[Task], address: str) -> Generator[Event, None, None]:
    """As `pool.run_units`; a unit's news arrive when it ends.

    `out` and `data` of the tasks must be the same folders on every machine. `address` is what
    `ray.init` takes: host:port, auto, or local for a cluster of this machine alone. Raises
    BadConfig if Ray is not installed or the cluster does not answer.
    """
    ray = _ray()
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise BadConfig(f"there is no Ray cluster at {address}: {error}") from error
    try:
        yield from _results(ray, tasks)
    finally:
        ray.shutdown()  # Ray ends what still runs for this driver


def _ray() -> Any:  # noqa: ANN401 - an optional library
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise BadConfig(
            "--ray needs the package ray: install letheon[ray], or leave --ray out"
        ) from error


def _results(ray: Any, tasks: Sequence[Task]) -> Iterator[Event]:  # noqa: ANN401
    # max_retries=0: a unit that ran out of memory would do so again.
    remote = ray.remote(num_cpus=1, max_retries=0)(_events_of)
    running = {remote.remote(task): task for task in tasks}
    while running:
        (ready, *_), _ = ray.wait(list(running), num_returns=1)
        task = running.pop(ready)
        try:
            yield from ray.get(ready)
        except ray.exceptions.RayError as error:
            yield Failed(task.unit.name, f"Ray lost it: {error}")


def _events_of(task: Task) -> list[Event]:
    events: list[Event] = []
    perform(task, events.append)
    return events
