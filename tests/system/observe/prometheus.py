"""Debian's Prometheus as a process of ours, and the questions that Grafana would ask it."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.cli.local.running import free_ports
from letheon.servicekit.processes import Child

RULES = Path(__file__).parents[3] / "deploy" / "prometheus"
_READY_S = 30.0


@dataclass(frozen=True)
class Series:
    """One line of an answer: labels, and its points as (seconds since 1970, value)."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


class Prometheus:
    """Scrapes `targets` (job -> host:port) every second, with the rules of deploy/."""

    def __init__(self, folder: Path, targets: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        config = folder / "prometheus.yml"
        config.write_text(_config(folder, targets))
        self.child = Child(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--enable-feature=exemplar-storage",
                "--log.level=warn",
            ],
            log_path=folder / "prometheus.log",
        )

    def __enter__(self) -> Prometheus:
        self.child.start()
        end = time.monotonic() + _READY_S
        while not self._is_ready():
            if self.child.poll() is not None or time.monotonic() > end:
                self.child.kill()
                raise RuntimeError(f"Prometheus does not serve: {self.child.log_tail(5)}")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop(5.0)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, path: str, **words: str) -> Any:
        """What the API answers. Raises RuntimeError with its sentence."""
        query = urllib.parse.urlencode(words)
        try:
            with urllib.request.urlopen(
                f"http://{self.address}/api/v1/{path}?{query}", timeout=30
            ) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["error"]) from error

    def range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """A query over time."""
        told = self.ask(
            "query_range", query=expression, start=str(start), end=str(end), step=str(step)
        )
        return [
            Series(one["metric"], tuple((float(t), float(v)) for t, v in one["values"]))
            for one in told["result"]
        ]

    def now(self, expression: str) -> list[Series]:
        """A query of this moment."""
        told = self.ask("query", query=expression)
        return [
            Series(one["metric"], ((float(one["value"][0]), float(one["value"][1])),))
            for one in told["result"]
        ]

    def exemplars(
        self, expression: str, start: float, end: float
    ) -> list[tuple[float, float, str]]:
        """(seconds since 1970, value, trace id) of the exemplars behind an expression."""
        told = self.ask("query_exemplars", query=expression, start=str(start), end=str(end))
        return [
            (float(one["timestamp"]), float(one["value"]), one["labels"].get("trace_id", ""))
            for series in told
            for one in series["exemplars"]
        ]


def _config(folder: Path, targets: Mapping[str, str]) -> str:
    for name in ("slo.yml", "alerts.yml"):
        text = (RULES / name).read_text(encoding="utf-8")
        # A run lasts a minute: objectives are evaluated as often as targets are scraped.
        (folder / name).write_text(text.replace("interval: 30s", "interval: 1s"))
    jobs = "".join(
        f"  - job_name: {job}\n    static_configs:\n      - targets: ['{target}']\n"
        for job, target in targets.items()
    )
    return (
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 900ms\n  evaluation_interval: 1s\n"
        f"rule_files: [slo.yml, alerts.yml]\nscrape_configs:\n{jobs}"
    )
