"""How large the demo is. A smaller federation than a study's: it has to fit six minutes,
two cores and 2.5 GB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from letheon.cli.local.running import Pace
from letheon.cli.local.toml_text import TomlTable

WITHDRAWN = "site-3"
# Hospitals are not in step: seconds from one local training to the next, as multiples of the
# pace.
PACES = {"site-1": 1.0, "site-2": 0.9, "site-3": 1.1, "site-4": 1.2}
# What one local training of the straggler takes: its deltas arrive stale.
STRAGGLERS = {"site-5": 10.0}


@dataclass(frozen=True)
class DemoSettings:
    """What to run. Counts are accepted deltas."""

    method: str = "removal"
    calibrate: bool = False
    with_retrain: bool = False
    kill_coordinator: bool = False
    secure: bool = False
    seed: int = 0
    out: Path = Path("out/demo")
    sites: int = 5
    alpha: float = 1.0
    pace_s: float = 1.5  # from one local training of a site to its next
    before: int = 120  # until the request
    after: int = 60  # of retained sites, after the removal
    official_split: bool = False  # else all images are split anew
    training_images: int = 6000
    test_images: int = 1000
    observe_every: int = 8  # versions
    erasure_limit_s: float = 240.0
    throughput_at_least: float = 0.95  # of the retained sites, during against before
    plan: dict[str, TomlTable] = field(
        default_factory=lambda: {
            "gate": {"every": 8},
        }
    )

    @property
    def pace(self) -> Pace:
        """The pace of each site."""
        return Pace(self.pace_s, self._in_seconds(PACES), self._in_seconds(STRAGGLERS))

    def _in_seconds(self, factors: Mapping[str, float]) -> dict[str, float]:
        return {site: factor * self.pace_s for site, factor in factors.items()}


def short(settings: DemoSettings) -> DemoSettings:
    """The same story on fewer images and deltas, for continuous integration."""
    return replace(
        settings,
        pace_s=0.8,
        before=60,
        after=24,
        training_images=2000,
        test_images=400,
        observe_every=12,
        erasure_limit_s=120.0,
        # A short run's window holds few deltas and leaves its sites little pause: a halt shows as
        # a half or less, a few per cent say nothing.
        throughput_at_least=0.8,
    )
