"""A federation of a sites file as real processes, watched from outside: what examples are made of.

The watcher stands in for what a lab has and a federation has not: it reads every site's records,
split as the site's own agent fixed them, and scores versions of the model on those that were set
aside. Brings torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from letheon import names, registry
from letheon.cli.following import TERMINAL, Narration
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.running import LocalFederation, Pace
from letheon.cli.local.sites_file import SitesFile, prepare_sites, read_sites_file
from letheon.cli.remote import Remote, connect
from letheon.errors import BadConfig, InternalFault, Unavailable
from letheon.federation.parameters import unflatten
from letheon.federation.plan import Plan
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, write_weights
from letheon.imaging.records import Records
from letheon.imaging.tasks.task import build_task
from letheon.proof.certificate import verify
from letheon.servicekit.transfer import download
from letheon.unlearning.evidence.forgetting import ForgetStatistic, forget_statistic
from letheon.v1 import certificates_pb2, erasures_pb2, federation_pb2

Erasure = erasures_pb2.Erasure
Say = Callable[[str], None]

_LOOK_AGAIN_S = 0.1
_STANDSTILL_S = 180.0  # the agents start, and each brings torch
_BOOTSTRAP = 400


@dataclass(frozen=True)
class SiteRecords:
    """A site's records by use, as its agent fixed them."""

    trained: Records
    control: Records
    set_aside: Records  # control and validation: never trained on


@dataclass(frozen=True)
class Point:
    """One version: the score of the task at each site, on what the site set aside."""

    version: int
    scores: dict[str, float]


@dataclass
class Watched:
    """A running federation; `points` grows with every look."""

    told: SitesFile
    folder: FederationFolder
    federation: LocalFederation
    remote: Remote
    data: dict[str, Records]  # by site, all of them
    say: Say
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        content = self.remote.federation.GetPlan(federation_pb2.GetPlanRequest()).canonical_json
        self.plan = Plan.from_canonical(content)
        self.task = build_task(self.plan.task.plugin, self.plan.task.arguments)
        plugin, spec = self.plan.model, spec_of(self.plan.image.shape)
        self._module = initialise(plugin.plugin, plugin.arguments, spec, self.plan.classes, 0)
        self._records: dict[str, SiteRecords] = {}

    def train_to(self, version: int, *, every: int) -> None:
        """Lets the sites train up to a version and looks at every so many of them.

        Raises InternalFault if training stands still.
        """
        due = self.points[-1].version + every if self.points else 0
        known, since = -1, time.monotonic()
        while True:
            head = self._head_version()
            if head != known:
                known, since = head, time.monotonic()
            elif time.monotonic() - since > _STANDSTILL_S:
                raise InternalFault(f"training stands still; logs are in {self.folder.logs}")
            if head >= min(due, version):
                due = self.look().version + every
            if head >= version:
                return
            time.sleep(_LOOK_AGAIN_S)

    def look(self) -> Point:
        """Scores the head at every site whose agent has fixed its split."""
        version = self._load_head()
        scores = {
            site: self.task.utility(self._module, self.records(site).set_aside).accuracy
            for site in self.told.agents
            if self._has_split(site)
        }
        point = Point(version, scores)
        self.points.append(point)
        told = ", ".join(f"{site} {100 * score:.1f}" for site, score in scores.items())
        self.say(f"version {version}: {self.task.score} in % at {told or 'no site yet'}")
        return point

    def erase(self, site: str, *, every: int, limit_s: float = 300.0) -> Erasure:
        """Erases a whole site and goes on looking until the erasure has ended."""
        request = erasures_pb2.RequestErasureRequest(
            request_id=str(uuid.uuid4()),
            site=names.site_name(site),
            legal_basis="GDPR-17-1-b",
            level=erasures_pb2.L1,
            method="removal",
            requester="example",
        )
        erasure = self.remote.erasures.RequestErasure(request)
        self.say(f"{site} withdraws: it is fenced from now on")
        return self._follow(erasure.name, every=every, limit_s=limit_s)

    def erase_patient(
        self, site: str, patient: str, *, every: int, limit_s: float = 600.0
    ) -> Erasure:
        """Erases one patient as the site's operator would, and looks until the erasure has ended.

        Raises InternalFault with what `letheon-agent erase` said if nothing was filed.
        """
        config = self.folder.site(site) / "agent.toml"
        command = ["-m", "client_agent", "erase", "--config", str(config), "--json"]
        done = subprocess.run(
            [sys.executable, *command, "--patient", patient],
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise InternalFault(f"{site} filed nothing: {done.stderr.strip()}")
        filed = json.loads(done.stdout)
        self.say(
            f"letheon-agent erase at {site}: out of use, filed as {filed['erasure']} under the "
            f"reference {filed['reference'][:12]}..."
        )
        return self._follow(filed["erasure"], every=every, limit_s=limit_s)

    def certificate(self, erasure: Erasure, path: Path) -> None:
        """Stores and checks the certificate of an erasure. Raises CertificateInvalid."""
        name = names.certificate_name(erasure.name.rpartition("/")[2])
        question = certificates_pb2.GetCertificateRequest(name=name)
        content = self.remote.certificates.GetCertificate(question).content
        path.write_bytes(content)
        verify(content, self.folder.public_key.read_bytes())

    def _follow(self, name: str, *, every: int, limit_s: float) -> Erasure:
        narration, end = Narration(), time.monotonic() + limit_s
        due = self.points[-1].version + every if self.points else 0
        removed = False
        while True:
            erasure = self.remote.erasures.GetErasure(erasures_pb2.GetErasureRequest(name=name))
            for line in narration.lines(erasure):
                self.say(line)
            if erasure.state in TERMINAL or time.monotonic() > end:
                self.look()
                return erasure
            if self._head_version() >= due or (erasure.HasField("removal") and not removed):
                due = self.look().version + every
            removed = erasure.HasField("removal")
            self.federation.tend()
            time.sleep(_LOOK_AGAIN_S)

    def class_scores(self, site: str) -> dict[str, float]:
        """The score of each class at a site, of the version looked at last."""
        return self.task.class_scores(self._module, self.records(site).set_aside)

    def forget_statistic(self, site: str, patient: str | None = None) -> ForgetStatistic:
        """How much easier the head finds what the site trained on than what it set aside.

        Of one patient's records if one is named.
        """
        self._load_head()
        records = self.records(site)
        of = records.trained
        if patient is not None:
            of = of.select(np.array([each == patient for each in of.groups()]))
        trained = self.task.judge_records(self._module, of)
        control = self.task.judge_records(self._module, records.set_aside)
        return forget_statistic(
            trained[0],
            control[0],
            trained[1],
            control[1],
            of.patients,
            records.set_aside.patients,
            resamples=_BOOTSTRAP,
            seed=0,
        )

    def records(self, site: str) -> SiteRecords:
        """The site's records, read as its agent reads them."""
        if site not in self._records:
            self._records[site] = _split(self.data[site], self._split_file(site))
        return self._records[site]

    def _has_split(self, site: str) -> bool:
        return bool(list(self.folder.site(site).glob("state/**/split.json")))

    def _split_file(self, site: str) -> Path:
        return next(iter(self.folder.site(site).glob("state/**/split.json")))

    def _head_version(self) -> int:
        self.federation.tend()
        try:
            asked = federation_pb2.GetFederationRequest()
            return self.remote.federation.GetFederation(asked).head_version
        except Unavailable:
            return -1

    def _load_head(self) -> int:
        with tempfile.TemporaryDirectory(prefix="letheon-watch-") as place:
            done = download(
                self.remote.models.DownloadModel,
                Path(place) / "model",
                name=names.HEAD,
                reader="watcher",
            )
            weights = np.fromfile(done.path, dtype="<f4").astype(np.float32, copy=False)
        write_weights(self._module, unflatten(weights, self.plan.parameters))
        return done.version


@contextmanager
def watched(
    sites_file: Path, *, data: Path | None, out: Path, pace: float, say: Say, seed: int = 0
) -> Iterator[Watched]:
    """Starts the federation of a sites file in `out`; stops all of it at the end.

    Raises BadConfig for a folder that holds a federation already; BadData, before anything is
    started, for a site whose data cannot be read.
    """
    import torch

    torch.set_num_threads(1)
    folder = FederationFolder(out)
    if folder.marker.exists():
        raise BadConfig(f"{out} holds a federation already: remove it, or choose another --out")
    told = read_sites_file(sites_file, data)
    records = {site: _read(site, settings) for site, settings in told.agents.items()}
    held = ", ".join(f"{site} {len(each)}" for site, each in records.items())
    say(f"records: {held}")
    say(f"preparing {len(told.agents)} sites in {out}")
    made = prepare_sites(folder, told, seed)
    with LocalFederation(folder, made.sites, pace=Pace(pace), say=say) as federation:
        say(f"coordinator at {federation.address}; agents are starting, logs in {folder.logs}")
        with connect(federation.address) as remote:
            yield Watched(told, folder, federation, remote, records, say)
    say("all processes are stopped")


def _read(site: str, settings: Mapping[str, Any]) -> Records:
    data = settings.get("data", {})
    if "plugin" not in data:
        raise BadConfig(f"the sites file names no data source of {site}: data.plugin")
    source = registry.build(registry.SOURCES, data["plugin"], data.get("arguments", {}))
    records: Records = source.load()
    return records


def _split(records: Records, file: Path) -> SiteRecords:
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    control, validation = set(told["control"]), set(told["validation"])
    in_control = np.array([each in control for each in records.record_ids])
    in_validation = np.array([each in validation for each in records.record_ids])
    return SiteRecords(
        trained=records.select(~(in_control | in_validation)),
        control=records.select(in_control),
        set_aside=records.select(in_control | in_validation),
    )
