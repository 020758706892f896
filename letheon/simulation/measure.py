"""What the study looks at: one model version against the records it set aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from letheon.federation.parameters import Vector
from letheon.imaging.records import Labels, Pixels, Records
from letheon.imaging.scores import predict, record_losses
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.sites import Network
from letheon.simulation.virtual_time import derived_seed

TEST_RECORDS = 1000
PROBE_RECORDS = 400
FORGET_RECORDS = 200


@dataclass(frozen=True)
class Look:
    """One version. Rates are shares of 1; None where nothing of the kind exists."""

    accepted: int  # retained deltas since the request (or since the start of a retraining)
    seconds: float  # virtual, since the same moment
    version: int
    accuracy: float  # on the test records of all sites
    balanced_accuracy: float
    site_accuracy: tuple[float, ...]  # of the retained sites, in order, on their own test records
    loss: float
    disclosed: float | None  # success of the probe that a method may know
    undisclosed: float | None
    forget_accuracy: float  # on records of the target that were trained on, labels as trained
    forget_loss: float

    def to_json(self) -> dict[str, Any]:
        """Numbers rounded to what they can tell."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def _rounded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


class Lens:
    """Looks at versions, always through the same records."""

    def __init__(self, network: Network, hospitals: Hospitals, seed: int) -> None:
        self._network = network
        self._hospitals = hospitals
        tests = {name: held.test for name, held in hospitals.sites.items()}
        share = min(1.0, TEST_RECORDS / max(1, sum(map(len, tests.values()))))
        self._tests = {
            name: _some(records, round(share * len(records)), seed)
            for name, records in tests.items()
        }
        self._images: Pixels = np.concatenate([part.images for part in self._tests.values()])
        self._labels: Labels = np.concatenate([part.labels for part in self._tests.values()])
        self._owner = np.repeat(list(self._tests), [len(p) for p in self._tests.values()])
        planted = hospitals.planted
        others = self._images[self._labels != planted.target_class]
        others = others[_rows(len(others), PROBE_RECORDS, seed)]
        self._probes = (
            (planted.disclosed.stamp(others), planted.undisclosed.stamp(others))
            if hospitals.backdoored
            else None
        )
        self._forget = _some(hospitals.sites[hospitals.target].train, FORGET_RECORDS, seed)

    @property
    def test(self) -> tuple[Pixels, Labels]:
        """The test records of all sites."""
        return self._images, self._labels

    def look(self, weights: Vector, *, accepted: int, seconds: float, version: int) -> Look:
        """Measures one version."""
        module = self._network.load(weights)
        predictions = predict(module, self._images)
        right = predictions.classes == self._labels
        losses = -predictions.log_probabilities[np.arange(len(right)), self._labels]
        forget_losses, forget_right = record_losses(module, self._forget)
        disclosed, undisclosed = self._success(module)
        return Look(
            accepted=accepted,
            seconds=seconds,
            version=version,
            accuracy=float(right.mean()),
            balanced_accuracy=float(
                np.mean([right[self._labels == k].mean() for k in np.unique(self._labels)])
            ),
            site_accuracy=tuple(
                float(right[self._owner == site].mean()) for site in self._hospitals.retained()
            ),
            loss=float(losses.mean()),
            disclosed=disclosed,
            undisclosed=undisclosed,
            forget_accuracy=float(forget_right.mean()),
            forget_loss=float(forget_losses.mean()),
        )

    def disclosed_success(self, module: nn.Module) -> float:
        """Success of the disclosed probe. Only where something was planted."""
        if self._probes is None:
            raise ValueError("nothing was planted")
        wanted = self._hospitals.planted.target_class
        return float((predict(module, self._probes[0]).classes == wanted).mean())

    def _success(self, module: nn.Module) -> tuple[float | None, float | None]:
        if self._probes is None:
            return None, None
        wanted = self._hospitals.planted.target_class
        first, second = (
            float((predict(module, probe).classes == wanted).mean()) for probe in self._probes
        )
        return first, second


def _rows(count: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    order = np.random.default_rng(derived_seed(seed, "look")).permutation(count)
    return np.sort(order[:most])


def _some(records: Records, most: int, seed: int) -> Records:
    return records.select(_rows(len(records), most, seed))


def utilities(
    network: Network, weights: Vector, records: Mapping[str, Records]
) -> dict[str, tuple[int, float]]:
    """Records and accuracy by site."""
    module = network.load(weights)
    return {
        site: (len(part), float(record_losses(module, part)[1].mean()))
        for site, part in records.items()
    }
