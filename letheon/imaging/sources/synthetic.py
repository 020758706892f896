"""Phantoms: made-up scans for tests, demos and machines without data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from letheon.imaging.records import Pixels, Records

_STRIPE_PERIOD_PX = 4.5
# Faint stripes drown in the noise: no network reaches every record, and one that remembers
# its training records shows it.
_STRIPE_HEIGHTS = (0.06, 0.36)
_NOISE = 0.07

Plane = npt.NDArray[np.float64]  # [n, height, width], or broadcasting to it


@dataclass(frozen=True)
class SyntheticSource:
    """Textured bodies with a lesion whose stripes run in the direction of the class.

    Body, brightness, place of the lesion, a bland second blob and noise are drawn for each
    patient or record and say nothing of the class; neither does the mean of an image. The
    classes do not depend on the seed: another seed is another hospital, or a test set, of the
    same task. Each patient has up to `records_per_patient` records of one class.
    """

    records: int
    classes: int
    channels: int
    height: int
    width: int
    seed: int = 0
    records_per_patient: int = 4

    def __post_init__(self) -> None:
        if self.records < 1 or self.classes < 2 or self.records_per_patient < 1:
            raise ValueError("records and records_per_patient must be >= 1, classes >= 2")
        if self.channels < 1 or self.height < 8 or self.width < 8:
            raise ValueError("channels must be >= 1, height and width >= 8")
        if self.seed < 0:
            raise ValueError("seed must be >= 0")

    def load(self) -> Records:
        """Draws the records; never fails."""
        generator = np.random.default_rng(self.seed)
        patients = math.ceil(self.records / self.records_per_patient)
        patient = np.arange(self.records) % patients
        label_of = generator.permutation(np.arange(patients) % self.classes)
        labels = label_of[patient].astype(np.int64)
        return Records(
            images=self._draw(labels, patient, patients, generator),
            labels=labels,
            record_ids=tuple(f"synthetic-{self.seed}:{row}" for row in range(self.records)),
            patients=tuple(f"synthetic-{self.seed}:p{number}" for number in patient),
            class_names=tuple(f"direction {index}" for index in range(self.classes)),
        )

    def _draw(
        self,
        labels: npt.NDArray[np.int64],
        patient: npt.NDArray[np.int64],
        patients: int,
        generator: np.random.Generator,
    ) -> Pixels:
        count = len(labels)
        jitter = _uniform(generator, count, -0.04, 0.04)
        down, right = np.mgrid[-1 : 1 : self.height * 1j, -1 : 1 : self.width * 1j]
        body = _blob(
            down - _uniform(generator, patients, -0.15, 0.15)[patient] - jitter,
            right - _uniform(generator, patients, -0.15, 0.15)[patient] + jitter,
            _uniform(generator, patients, 0.65, 0.9)[patient],
            _uniform(generator, patients, 0.5, 0.75)[patient],
            _uniform(generator, patients, 0.0, math.pi)[patient],
        )
        brightness = _uniform(generator, patients, 0.35, 0.6)[patient]
        texture = _texture(down, right, count, generator)
        picture = 0.08 + body * (brightness + texture)
        picture = picture + _spot(down, right, count, generator) * _uniform(
            generator, count, -0.2, 0.2
        )
        lesion = _spot(down, right, count, generator)
        picture = picture + lesion * self._stripes(labels, generator)
        gains = generator.uniform(0.8, 1.2, (count, self.channels, 1, 1))
        noise = generator.normal(0.0, _NOISE, (count, self.channels, self.height, self.width))
        pixels = picture[:, None] * gains + noise
        return pixels.clip(0.0, 1.0).astype(np.float32)

    def _stripes(self, labels: npt.NDArray[np.int64], generator: np.random.Generator) -> Plane:
        """Waves of mean zero, at pi/classes between the directions of neighbouring classes."""
        count = len(labels)
        down, right = np.mgrid[0 : self.height, 0 : self.width]
        step = math.pi / self.classes
        angle = labels[:, None, None] * step + _uniform(generator, count, -0.15, 0.15) * step
        phase = _uniform(generator, count, 0.0, 2 * math.pi)
        along = np.cos(angle) * right + np.sin(angle) * down
        height = _uniform(generator, count, *_STRIPE_HEIGHTS)
        wave: Plane = height * np.cos(2 * math.pi * along / _STRIPE_PERIOD_PX + phase)
        return wave


def _uniform(generator: np.random.Generator, count: int, low: float, high: float) -> Plane:
    return generator.uniform(low, high, (count, 1, 1))


def _blob(down: Plane, right: Plane, tall: Plane, wide: Plane, angle: Plane) -> Plane:
    """An ellipse with a soft rim: near 1 inside, near 0 outside."""
    first = (np.cos(angle) * down + np.sin(angle) * right) / tall
    second = (np.cos(angle) * right - np.sin(angle) * down) / wide
    blob: Plane = 1.0 / (1.0 + np.exp(12.0 * (np.hypot(first, second) - 1.0)))
    return blob


def _spot(down: Plane, right: Plane, count: int, generator: np.random.Generator) -> Plane:
    """A smaller ellipse somewhere in the middle, one for each record."""
    return _blob(
        down - _uniform(generator, count, -0.35, 0.35),
        right - _uniform(generator, count, -0.35, 0.35),
        _uniform(generator, count, 0.35, 0.5),
        _uniform(generator, count, 0.35, 0.5),
        _uniform(generator, count, 0.0, math.pi),
    )


def _texture(down: Plane, right: Plane, count: int, generator: np.random.Generator) -> Plane:
    """Slow waves in random directions, one for each record."""
    total: Plane = np.zeros((count, *down.shape))
    for _ in range(3):
        waves = _uniform(generator, count, 1.0, 3.0)
        angle = _uniform(generator, count, 0.0, 2 * math.pi)
        phase = _uniform(generator, count, 0.0, 2 * math.pi)
        along = np.cos(angle) * right + np.sin(angle) * down
        total += 0.05 * np.cos(math.pi * waves * along + phase)
    return total
