"""What is wrong with a study, said before the first of its hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from letheon import registry
from letheon.errors import BadConfig, BadData, LetheonError, UnknownPlugin
from letheon.simulation.config import MethodConfig, StudyConfig
from letheon.simulation.images import find_file
from letheon.simulation.units import Unit

if TYPE_CHECKING:
    from letheon.simulation.sites import SiteRecords


def check_study(study: StudyConfig, units: Sequence[Unit], out: Path, data: Path | None) -> None:
    """Builds everything the units need once for each of the images, with their first seed.

    Raises UnknownPlugin for a method, model or strategy there is none of, BadConfig for
    arguments that one of them refuses, BadData for images that are not there, cannot be read
    or are too few.
    """
    for method in study.methods:
        _check_method(method)
    registry.find(registry.AGGREGATION, study.plan.strategy.plugin)
    if study.plan.model.plugin not in registry.names(registry.MODELS):
        registry.find(registry.MODELS, study.plan.model.plugin)  # raises, naming those there are
    first = {unit.images.name: unit for unit in reversed(units)}
    for unit in first.values():
        find_file(unit.images, data)  # all of them before the first is read
    for unit in first.values():
        _check_unit(study, unit, out, data)


def _check_method(method: MethodConfig) -> None:
    with _named(f"the method {method.label!r}"):
        built = registry.build(registry.UNLEARNING, method.method, method.arguments)
        if method.subtracted_share < 1.0 and (method.overwrites or not built.offer.subtracts):
            raise BadConfig("subtracted_share is for a method that subtracts, which this does not")


def _check_unit(study: StudyConfig, unit: Unit, out: Path, data: Path | None) -> None:
    from letheon.simulation.patients import run_of

    with _named(f"the images {unit.images.name!r}"):
        try:
            run = run_of(study)(unit, out, data)
        except (ValueError, IndexError) as error:
            raise BadData(
                f"they cannot be dealt to {study.sites} sites, likely too few: {error}"
            ) from error
        run.rules()
        for name, held in run.hospitals.sites.items():
            _check_parts(name, held)


def _check_parts(site: str, held: SiteRecords) -> None:
    for use in fields(held):
        if len(getattr(held, use.name)) == 0:
            raise BadData(f"too few records: {site} is left without {use.name} records")


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Errors begin with what they are about."""
    try:
        yield
    except (BadConfig, BadData, UnknownPlugin) as error:
        told: LetheonError = type(error)(f"{what}: {error.message}", **error.facts)
        raise told from error
