"""A TOML file and the environment, made into one validated pydantic model."""

from __future__ import annotations

import difflib
import inspect
import logging
import os
import tomllib
import typing
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from letheon.errors import BadConfig

PREFIX = "LETHEON_"
_LOG = logging.getLogger(__name__)
_WANTS_TEXT = frozenset({"string_type", "path_type"})


class Section(BaseModel):
    """What every configuration model inherits: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=BaseModel)
_Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """A rule of the configuration that is broken."""

    key: str  # dotted; empty: the file as a whole
    rule: str
    variable: str | None = None  # of the environment, if the value came from there

    def __str__(self) -> str:
        origin = f" (from {self.variable})" if self.variable else ""
        return f"{self.key or 'the file as a whole'}{origin}: {self.rule}"


def load(path: Path | str | None, model: type[T], environ: Mapping[str, str] = os.environ) -> T:
    """Reads the file, lays the environment over it and validates.

    `LETHEON_GATE__EVERY=4` sets `every` of table `gate`; the value is read as TOML if it is
    TOML, else as a string. Variables whose first word is no key of the model are left alone:
    orchestrators inject variables such as `LETHEON_COORDINATOR_PORT` by themselves. So is one that
    names a whole table and holds none: `LETHEON_DATA` is where benchmarks look for images.
    Without a path only defaults and the environment count.

    Raises BadConfig naming the file or variable, the key, the rule and, for an unknown key, the
    valid ones.
    """
    made, problems, _ = examine(path, model, environ)
    if made is None:
        where = "the environment" if path is None else str(path)
        raise BadConfig(
            f"{where} breaks the configuration's rules: " + "; ".join(map(str, problems)),
            path=where,
            key=problems[0].key,
        )
    return made


def examine(
    path: Path | str | None, model: type[T], environ: Mapping[str, str] = os.environ
) -> tuple[T | None, tuple[Problem, ...], Mapping[str, Any]]:
    """As `load`, but everything that is wrong at once: the configuration, or None and the broken
    rules; and the values as they were read, environment included.

    Raises BadConfig if the file cannot be read or is not TOML.
    """
    return _examine({} if path is None else _read(Path(path)), model, environ)


def examine_text(
    text: str, model: type[T], environ: Mapping[str, str] | None = None
) -> tuple[T | None, tuple[Problem, ...], Mapping[str, Any]]:
    """As `examine`, of a text that is not in a file yet. Raises tomllib.TOMLDecodeError."""
    return _examine(tomllib.loads(text), model, environ or {})


def _examine(
    data: dict[str, Any], model: type[T], environ: Mapping[str, str]
) -> tuple[T | None, tuple[Problem, ...], Mapping[str, Any]]:
    overrides = _overrides(model, environ)
    for keys, raw in overrides.items():
        _put(data, keys, _toml_value(raw))
    try:
        return model.model_validate(data), (), data
    except ValidationError as error:
        # A text such as "7" reads as a TOML number although its field wants text.
        texts = [
            e["loc"] for e in error.errors() if e["type"] in _WANTS_TEXT and e["loc"] in overrides
        ]
        for keys in texts:
            _put(data, keys, overrides[keys])
        if not texts:
            return None, _problems(error, model, overrides), data
    try:
        return model.model_validate(data), (), data
    except ValidationError as error:
        return None, _problems(error, model, overrides), data


def effective(config: BaseModel) -> dict[str, Any]:
    """The configuration as JSON values for one log line; `SecretStr` fields are masked."""
    return config.model_dump(mode="json")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadConfig(f"there is no configuration file {path}", path=path) from None
    except OSError as error:
        raise BadConfig(f"{path} cannot be read: {error.strerror}", path=path) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{path} is not valid TOML: {error}", path=path) from error


def _overrides(model: type[BaseModel], environ: Mapping[str, str]) -> dict[_Location, str]:
    found: dict[_Location, str] = {}
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(PREFIX):
            continue
        _check_text(variable, raw)
        keys: _Location = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        if keys[0] in model.model_fields and not _names_a_table(model, keys, raw):
            found[keys] = raw
        else:
            _LOG.debug("config_variable_ignored", extra={"variable": variable})
    return found


def _check_text(variable: str, raw: str) -> None:
    try:
        (variable + raw).encode()
    except UnicodeEncodeError as error:
        # repr: what is wrong with it must not break the log that tells of it.
        raise BadConfig(f"the variable {variable!r} holds bytes that are no UTF-8") from error


def _names_a_table(model: type[BaseModel], keys: _Location, raw: str) -> bool:
    """Whether a whole table is named, with a value that is none."""
    if len(keys) > 1 or raw.lstrip().startswith("{"):
        return False
    told = model.model_fields[str(keys[0])].annotation
    kinds = (told, *typing.get_args(told))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _toml_value(raw: str) -> object:
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return raw
    value: object = parsed["value"]
    return value if len(parsed) == 1 else raw


def _put(data: MutableMapping[str, Any], keys: _Location, value: object) -> None:
    table = data
    for depth, key in enumerate(keys[:-1]):
        inner = table.setdefault(str(key), {})
        if not isinstance(inner, dict):
            table_name = _dotted(keys[: depth + 1])
            raise BadConfig(
                f"{_variable(keys)} sets a key of {table_name}, which is no table",
                key=_dotted(keys),
            )
        table = inner
    table[str(keys[-1])] = value


def _problems(
    error: ValidationError, model: type[BaseModel], overrides: Mapping[_Location, str]
) -> tuple[Problem, ...]:
    found = []
    for problem in error.errors(include_url=False, include_input=False):
        keys = problem["loc"]
        if problem["type"] == "extra_forbidden":
            rule = _unknown_key(model, keys)
        elif problem["type"] == "missing":
            rule = "is required and missing"
        else:
            rule = problem["msg"].removeprefix("Value error, ")
            rule = rule[:1].lower() + rule[1:]
        variable = _variable(keys) if keys in overrides else None
        found.append(Problem(_dotted(keys), rule, variable))
    return tuple(found)


def _unknown_key(model: type[BaseModel], keys: _Location) -> str:
    table = _model_at(model, keys[:-1])
    valid = sorted(field.alias or name for name, field in table.model_fields.items())
    near = difflib.get_close_matches(str(keys[-1]), valid, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"no such key; valid here: {', '.join(valid)}{hint}"


def _model_at(model: type[BaseModel], keys: _Location) -> type[BaseModel]:
    """The model of the table that the location lies in; list indices and union tags are passed."""
    for key in keys:
        field = model.model_fields.get(str(key))
        if field is not None:
            inner = _first_model(field.annotation)
            if inner is not None:
                model = inner
    return model


def _first_model(annotation: object) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        inner = _first_model(argument)
        if inner is not None:
            return inner
    return None


def _variable(keys: _Location) -> str:
    return PREFIX + "__".join(str(key) for key in keys).upper()


def _dotted(keys: _Location) -> str:
    return ".".join(str(key) for key in keys)
