"""Where a federation on one machine keeps its files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from letheon.cli.federation import PLAN_FILE, WEIGHTS_FILE
from letheon.errors import BadConfig


@dataclass(frozen=True)
class FederationFolder:
    """Paths below one folder; nothing is created by asking for a path."""

    root: Path

    @property
    def federation(self) -> Path:
        """Plan and initial weights."""
        return self.root / "federation"

    @property
    def plan(self) -> Path:
        """The canonical plan."""
        return self.federation / PLAN_FILE

    @property
    def weights(self) -> Path:
        """Version 0."""
        return self.federation / WEIGHTS_FILE

    @property
    def draft(self) -> Path:
        """The plan as a person writes it."""
        return self.root / "plan.toml"

    @property
    def coordinator(self) -> Path:
        """State of the coordinator."""
        return self.root / "coordinator"

    @property
    def calibrator(self) -> Path:
        """State of the calibrator, its signing key, and its images."""
        return self.root / "calibrator"

    @property
    def signing_key(self) -> Path:
        """Private key of the calibrator; made at its first start."""
        return self.calibrator / "signing_key.pem"

    @property
    def public_key(self) -> Path:
        """What checks its signatures."""
        return self.signing_key.with_suffix(".pub.pem")

    @property
    def coordinator_public_key(self) -> Path:
        """What checks models and the transparency log; written when the coordinator starts."""
        return self.coordinator / "coordinator_key.pub.pem"

    @property
    def prometheus(self) -> Path:
        """Where the metrics of this federation are, for a Prometheus."""
        return self.root / "prometheus.yml"

    @property
    def redis(self) -> Path:
        """State of the embedded Redis."""
        return self.root / "redis"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return self.root / "logs"

    @property
    def marker(self) -> Path:
        """Written last by the preparation: how this federation was made."""
        return self.root / "up.json"

    def own_settings(self, home: Path) -> Path:
        """What the configuration of a site, or of the calibrator, says of its own; JSON."""
        return home / "settings.json"

    def config_of(self, service: str) -> Path:
        """TOML of the coordinator or the calibrator."""
        return self.root / f"{service}.toml"

    def site(self, site: str) -> Path:
        """Everything that would be inside one hospital."""
        return self.root / "sites" / site


@dataclass(frozen=True)
class Made:
    """How a prepared federation was made."""

    sites: tuple[str, ...]
    data: str
    seed: int
    alpha: float


def write_marker(folder: FederationFolder, made: Made) -> None:
    """Declares the folder prepared; atomic."""
    content = {"sites": list(made.sites), "data": made.data, "seed": made.seed,
               "alpha": made.alpha}  # fmt: skip
    partial = folder.marker.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(folder.marker)


def read_marker(folder: FederationFolder) -> Made | None:
    """How the folder was made, or None if it was never prepared to the end.

    Raises BadConfig for a marker that nobody here wrote.
    """
    if not folder.marker.exists():
        return None
    try:
        content = json.loads(folder.marker.read_text())
        return Made(
            sites=tuple(str(site) for site in content["sites"]),
            data=str(content["data"]),
            seed=int(content["seed"]),
            alpha=float(content["alpha"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            f"{folder.marker} is damaged ({error}); use another --dir", path=folder.marker
        ) from error
