"""What every service says of its own process and of the disk it writes to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from letheon.version import __version__


class _Disk(Collector):
    """Room on the disk of a folder, read when Prometheus asks."""

    def __init__(self, folder: Path, now_free: Callable[[Path], tuple[int, int]]) -> None:
        self._folder, self._sizes = folder, now_free

    def describe(self) -> Iterator[Metric]:
        """Both metrics, without a value."""
        yield GaugeMetricFamily(
            "letheon_disk_free_bytes", "Room left on the disk the service writes to."
        )
        yield GaugeMetricFamily(
            "letheon_disk_size_bytes", "Size of the disk the service writes to."
        )

    def collect(self) -> Iterator[Metric]:
        """Nothing while the folder cannot be read: a number would be a lie."""
        try:
            size, free = self._sizes(self._folder)
        except OSError:
            return
        for family, value in zip(self.describe(), (free, size), strict=True):
            if isinstance(family, GaugeMetricFamily):
                family.add_metric((), value)
            yield family


class _Build(Collector):
    """Which release runs."""

    def __init__(self, service: str) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """The metric without a value."""
        yield GaugeMetricFamily(
            "letheon_build_info", "Always 1: release of the service.", labels=("service", "version")
        )

    def collect(self) -> Iterator[Metric]:
        """The one sample."""
        for family in self.describe():
            if isinstance(family, GaugeMetricFamily):
                family.add_metric((self._service, __version__), 1)
            yield family


def _size_and_free(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free


def observe_process(registry: CollectorRegistry, service: str, folder: Path) -> None:
    """Registers `letheon_process_*`, `letheon_disk_free_bytes`, `letheon_disk_size_bytes` and

    `letheon_build_info` for a service (coordinator, calibrator or agent) that writes to `folder`.
    """
    ProcessCollector(namespace="letheon", registry=registry)
    registry.register(_Disk(folder, _size_and_free))
    registry.register(_Build(service))
