"""Every metric of every service, read from the objects that declare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from calibrator.metrics import CalibratorMetrics
from client_agent.metrics import AgentMetrics
from coordinator.gauges import Gauges, QueueGauges, observe_slots
from coordinator.identity_metrics import IdentityMetrics
from coordinator.metrics import Metrics
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.erasure_queue import MemoryErasureQueue
from letheon.servicekit.metrics import RpcMetrics
from letheon.servicekit.process_metrics import observe_process

BEGIN = "<!-- metrics: written by make dashboards -->"
END = "<!-- end of metrics -->"


@dataclass(frozen=True)
class Declared:
    """One metric. `name` is what a query asks for, a histogram's without its suffix."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    services: tuple[str, ...]


class _Absent:
    """Stands where a declaration only keeps what it is given: nothing is read from it here."""

    def __getattr__(self, name: str) -> object:
        return 0 if name == "most" else _Absent()


def registries() -> Mapping[str, CollectorRegistry]:
    """A registry a service with everything that the service declares."""
    clock, here = SystemClock(), Path()
    made = {name: CollectorRegistry() for name in ("coordinator", "calibrator", "agent")}
    for service, registry in made.items():
        observe_process(registry, service, here)
    coordinator = made["coordinator"]
    Metrics(coordinator, clock)
    absent = cast(Any, _Absent())
    Gauges(coordinator, absent, absent, absent, absent, absent, clock)
    QueueGauges(coordinator, MemoryErasureQueue())
    observe_slots(coordinator, absent)
    RpcMetrics(coordinator)
    IdentityMetrics(coordinator)
    CalibratorMetrics(made["calibrator"])
    AgentMetrics(made["agent"])
    return made


def declared() -> list[Declared]:
    """Every metric, by name."""
    found: dict[str, Declared] = {}
    for service, registry in registries().items():
        # The registry's own map: `collect` would leave out what has labels and no value yet.
        for collector in list(registry._collector_to_names):
            describe = getattr(collector, "describe", collector.collect)
            for family in describe():
                name = f"{family.name}_total" if family.type == "counter" else family.name
                labels = _labels(collector) or _labels(family)
                known = found.get(name)
                services = (*known.services, service) if known else (service,)
                found[name] = Declared(name, family.type, labels, family.documentation, services)
    return [found[name] for name in sorted(found)]


def _labels(declaration: object) -> tuple[str, ...]:
    return tuple(getattr(declaration, "_labelnames", ()))


def table() -> str:
    """The Markdown table."""
    lines = ["| metric | kind | labels | of | meaning |", "|---|---|---|---|---|"]
    for one in declared():
        labels = ", ".join(f"`{label}`" for label in one.labels)
        of = ", ".join(one.services)
        lines.append(f"| `{one.name}` | {one.kind} | {labels} | {of} | {one.help} |")
    return "\n".join(lines)


def with_table(text: str) -> str:
    """The document with the table of this moment. Raises ValueError without its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
