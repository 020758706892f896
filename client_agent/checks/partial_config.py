"""As much of a configuration file as can be used, so that a broken key does not hide the rest."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from client_agent.config import AgentConfig

_PLACEHOLDERS: Mapping[str, Any] = {
    "coordinator": "coordinator.invalid",
    "site": "unnamed",
    "state_dir": ".",
    "data": {"plugin": "none"},
}
_ROUNDS = 20


@dataclass(frozen=True)
class PartialConfig:
    """A configuration; where a top-level key is `absent`, its value is a placeholder."""

    config: AgentConfig
    absent: frozenset[str]

    def has(self, *keys: str) -> bool:
        """Whether all of these top-level keys can be used."""
        return self.absent.isdisjoint(keys)


def salvage(values: Mapping[str, Any]) -> PartialConfig:
    """Leaves out what breaks a rule, key by key, and puts placeholders where a key is required."""
    data: dict[str, Any] = copy.deepcopy(dict(values))
    absent: set[str] = set()
    for _ in range(_ROUNDS):
        for name in _PLACEHOLDERS.keys() - data.keys():
            data[name] = copy.deepcopy(_PLACEHOLDERS[name])
            absent.add(name)
        try:
            return PartialConfig(AgentConfig.model_validate(data), frozenset(absent))
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_input=False):
                _leave_out(data, problem["loc"], problem["type"], absent)
    return PartialConfig(AgentConfig.model_validate(_PLACEHOLDERS), frozenset(_PLACEHOLDERS))


def _leave_out(
    data: dict[str, Any], location: tuple[str | int, ...], kind: str, absent: set[str]
) -> None:
    if not location:  # the one rule of the file as a whole is about these two
        data.pop("control_share", None)
        data.pop("validation_share", None)
        return
    top, table = str(location[0]), data
    for part in location[:-1]:
        inner = table.get(str(part)) if isinstance(table, dict) else None
        if not isinstance(inner, dict):
            break
        table = inner
    nested = len(location) > 1 and isinstance(table, dict) and location[-1] in table
    if nested and kind != "missing":
        del table[str(location[-1])]
        return
    data.pop(top, None)
    absent.add(top)
