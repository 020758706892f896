"""docs/simulation.md names every key of a study with its default; the studies can be read."""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from letheon.simulation.config import StudyConfig, load_study
from letheon.simulation.units import units_of

ROOT = Path(__file__).parents[3]
ROWS = dict(
    re.findall(
        r"^\| `([\w.]+)` \| (.*?) \|", (ROOT / "docs" / "simulation.md").read_text(), re.MULTILINE
    )
)


def table_of(annotation: object) -> type[BaseModel] | None:
    """The model of a key that is a table, or a list of tables."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(table_of, typing.get_args(annotation))), None)


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a study; tables of the plan are documented with the plan."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        inner = table_of(field.annotation)
        if inner is not None and prefix != "plan.":
            yield from keys_of(inner, f"{prefix}{name}.")


KEYS = dict(keys_of(StudyConfig))


def test_the_document_has_every_key_and_no_other() -> None:
    assert set(ROWS) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_the_document_shows_the_default(key: str) -> None:
    field = KEYS[key]
    if field.is_required():
        shown = "required"
    elif field.default is None:
        shown = "none"
    elif isinstance(field.default, BaseModel):
        shown = ""
    else:
        shown = f"`{json.dumps(field.default)}`"
    assert ROWS[key].strip() == shown


@pytest.mark.parametrize(
    "path", sorted((ROOT / "benchmarks" / "studies").glob("*.toml")), ids=lambda path: path.stem
)
def test_a_study_of_the_repository_is_named_as_its_file(path: Path) -> None:
    study = load_study(path)
    assert study.name == path.stem
    assert units_of(study)
