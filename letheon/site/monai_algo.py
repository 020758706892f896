"""A `ClientAlgo` of MONAI (monai.fl.client) as training code.

For each task: `initialize`, `train` with the weights of the base, `get_weights`, `finalize`. A
class or a function makes a new algorithm each time: nothing of one task reaches the next. The
records, the settings of the task and the network travel in `extra`, under the keys below: an
algorithm that reads its data by itself knows nothing of the records that were set aside or erased,
and its contribution could not be recomputed without a patient.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from letheon.errors import BadConfig, TrainingCodeFailed
from letheon.site.checks import WEIGHT_KEYS, checked
from letheon.site.handover import at_hand
from letheon.site.job import Arrays, Job, Sent

RECORDS, CONFIG, MODEL = "letheon_records", "letheon_config", "letheon_model"
_LOOK_AGAIN_S = 0.2


def is_algo(found: object) -> bool:
    """Whether it is a ClientAlgo, or does what one does."""
    parts = ("initialize", "train", "get_weights", "abort")
    return not isinstance(found, type) and all(hasattr(found, part) for part in parts)


class MonaiTraining:
    """Implements `TrainingCode` with what `make` makes."""

    def __init__(self, make: Callable[[], Any]) -> None:
        """Raises BadConfig where MONAI is not installed."""
        try:
            from monai.fl.utils.constants import WeightType
            from monai.fl.utils.exchange_object import ExchangeObject
        except ImportError as error:
            raise BadConfig("a ClientAlgo needs MONAI: install letheon[torch]") from error
        self._make = make
        self._exchange, self._types = ExchangeObject, WeightType

    def __call__(self, job: Job) -> Sent:
        """One training of the algorithm from the weights of the base."""
        import torch

        extra = {RECORDS: job.records, CONFIG: job.config, MODEL: job.module}
        weights = {name: torch.tensor(values) for name, values in job.base.items()}
        given = self._exchange(weights=weights, weight_type=self._types.WEIGHTS)
        algo = self._make()
        with at_hand(job), _abortable(algo, job, extra):
            algo.initialize(extra)
            try:
                algo.train(given, extra)
                told = algo.get_weights(extra)
            finally:
                algo.finalize(extra)
        return self._sent(job, told)

    def _sent(self, job: Job, told: Any) -> Sent:  # noqa: ANN401 - an ExchangeObject, we hope
        weights = told.weights if isinstance(told, self._exchange) else None
        if not weights or not told.weight_type:
            raise TrainingCodeFailed(
                "get_weights() of the ClientAlgo gave no ExchangeObject with weights and their type"
            )
        state: Mapping[str, Any] = weights
        if told.weight_type == self._types.WEIGHT_DIFF:
            state = _added(job.base, weights)
        numbers = {**(told.statistics or {}), **(told.metrics or {})}
        wanted = {"loss", "train_loss", *WEIGHT_KEYS}
        metrics = {str(key): value for key, value in numbers.items() if str(key) in wanted}
        return checked(
            state, job.base, records=len(job.records), num_examples=None, metrics=metrics
        )


@contextmanager
def _abortable(algo: Any, job: Job, extra: dict[str, Any]) -> Iterator[None]:  # noqa: ANN401
    """Calls `abort` of the algorithm once the training has become useless."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_AGAIN_S):
            if job.config.should_stop():
                algo.abort(extra)
                return

    watcher = threading.Thread(target=watch, name="abort", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _added(base: Arrays, differences: Mapping[str, Any]) -> dict[str, Any]:
    """Weights of differences to the base; what is of another name or shape is left to the check."""
    state = dict(differences)
    for name, values in base.items():
        given: Any = differences.get(name)
        if hasattr(given, "detach"):
            given = given.detach().cpu().numpy()
        array = np.asarray(given)
        if array.dtype.kind == "f" and array.shape == values.shape:
            state[name] = values + array
    return state
