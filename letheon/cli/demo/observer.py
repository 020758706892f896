"""The lab observer: downloads versions and measures them on images nobody trained on.

The only place that knows the trigger. It reads what any consumer with access could read, plus
the withdrawn site's own records, which a lab has and a production federation has not.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from letheon import names
from letheon.cli.demo.data import Backdoor
from letheon.cli.local.folder import FederationFolder
from letheon.cli.local.preparation import RECORDS_FILE
from letheon.cli.remote import Remote
from letheon.errors import BadData, LetheonError
from letheon.federation.parameters import Vector, unflatten
from letheon.federation.plan import Plan
from letheon.imaging import backdoor as probes
from letheon.imaging.models.model import spec_of
from letheon.imaging.models.weights import initialise, write_weights
from letheon.imaging.records import Records
from letheon.imaging.scores import record_losses, utility
from letheon.imaging.sources.npz import NpzSource
from letheon.servicekit.transfer import download
from letheon.unlearning.evidence.forgetting import ForgetStatistic, forget_statistic
from letheon.v1 import federation_pb2

LOOK_AGAIN_S = 0.5
BOOTSTRAP = 400


@dataclass(frozen=True)
class Measurement:
    """One version on the test images; the forget statistic only where it was asked for."""

    version: int
    at_s: float  # since the observer began
    accuracy: float
    balanced_accuracy: float
    macro_auc: float | None
    backdoor_success: float
    forget: ForgetStatistic | None = None


@dataclass(frozen=True)
class Snapshot:
    """The weights of one version, [d] in plan order."""

    version: int
    at_s: float  # since the observer began
    weights: Vector


@dataclass(frozen=True)
class WithdrawnRecords:
    """What the withdrawn site trained on, and what it set aside."""

    trained: Records
    control: Records


def read_withdrawn(folder: FederationFolder, site: str) -> WithdrawnRecords:
    """The site's records, split as its agent fixed them at enrolment.

    Raises BadData if the agent has not split them yet.
    """
    records = NpzSource(path=folder.site(site) / RECORDS_FILE, split="all").load()
    found = next(iter(sorted(folder.site(site).glob("state/**/split.json"))), None)
    if found is None:
        raise BadData(f"the agent of {site} has not fixed its split yet", site=site)
    split = json.loads(found.read_text())
    control, validation = set(split["control"]), set(split["validation"])
    ids = records.record_ids
    return WithdrawnRecords(
        trained=records.select(np.array([r not in control and r not in validation for r in ids])),
        control=records.select(np.array([r in control for r in ids])),
    )


class Observer:
    """Measures versions; `measure` may be called from any thread, one at a time runs."""

    def __init__(
        self,
        remote: Remote,
        test: Records,
        backdoor: Backdoor,
        *,
        seed: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        torch.set_num_threads(1)
        self._remote = remote
        self._test = test
        self._backdoor = backdoor
        self._seed = seed
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        content = remote.federation.GetPlan(federation_pb2.GetPlanRequest()).canonical_json
        self._plan = Plan.from_canonical(content)
        self._module = initialise(
            self._plan.model.plugin,
            self._plan.model.arguments,
            spec_of(self._plan.image.shape),
            self._plan.classes,
            0,
        )
        self.series: list[Measurement] = []

    def fetch(self, version: int | None) -> Snapshot:
        """The weights of a version (None: the head), to be measured at leisure.

        Raises what the download raises: a version destroyed by an erasure is gone.
        """
        with tempfile.TemporaryDirectory(prefix="letheon-lab-") as folder:
            name = names.HEAD if version is None else names.model_name(version)
            done = download(
                self._remote.models.DownloadModel, Path(folder) / "model", name=name, reader="lab"
            )
            weights = np.fromfile(done.path, dtype="<f4").astype(np.float32, copy=False)
            return Snapshot(done.version, self._clock() - self._began, weights)

    def measure(self, snapshot: Snapshot, withdrawn: WithdrawnRecords | None = None) -> Measurement:
        """One version, with the forget statistic if the withdrawn records are given."""
        with self._lock:
            write_weights(self._module, unflatten(snapshot.weights, self._plan.parameters))
            measured = self._score(snapshot.version, snapshot.at_s)
            if withdrawn is not None:
                measured = replace(measured, forget=self._forget(withdrawn))
            self._keep(measured)
            return measured

    def _score(self, version: int, at: float) -> Measurement:
        scores = utility(self._module, self._test)
        planted = self._backdoor
        return Measurement(
            version=version,
            at_s=at,
            accuracy=scores.accuracy,
            balanced_accuracy=scores.balanced_accuracy,
            macro_auc=scores.macro_auc,
            backdoor_success=probes.success(
                self._module, self._test, planted.trigger, planted.target_class
            ),
        )

    def _forget(self, withdrawn: WithdrawnRecords) -> ForgetStatistic:
        erased_losses, erased_correct = record_losses(self._module, withdrawn.trained)
        control_losses, control_correct = record_losses(self._module, withdrawn.control)
        return forget_statistic(
            erased_losses,
            control_losses,
            erased_correct,
            control_correct,
            withdrawn.trained.patients,
            withdrawn.control.patients,
            resamples=BOOTSTRAP,
            seed=self._seed,
        )

    def _keep(self, measured: Measurement) -> None:
        others = [point for point in self.series if point.version != measured.version]
        self.series = sorted([*others, measured], key=lambda point: point.version)


class Watcher:
    """The observer's thread: measures the head every few versions."""

    def __init__(
        self, observer: Observer, remote: Remote, every: int, tell: Callable[[Measurement], None]
    ) -> None:
        self._observer = observer
        self._remote = remote
        self._every = every
        self._tell = tell
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)
        self.failures = 0

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        due = 0
        while not self._stop.wait(LOOK_AGAIN_S):
            try:
                status = self._remote.federation.GetFederation(
                    federation_pb2.GetFederationRequest()
                )
                if status.head_version < due:
                    continue
                measured = self._observer.measure(self._observer.fetch(None))
            except LetheonError:
                # The coordinator restarts, or the version is gone: the next look is soon.
                self.failures += 1
                continue
            due = measured.version + self._every
            self._tell(measured)
