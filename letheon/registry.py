"""Plug-ins by entry-point group, built strictly from a table of arguments.

A plug-in is one file and one line in `pyproject.toml`:

    [project.entry-points."letheon.aggregation"]
    fedasync = "letheon.federation.aggregation.fedasync:FedAsync"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from letheon.errors import BadConfig, UnknownPlugin

AGGREGATION = "letheon.aggregation"
UNLEARNING = "letheon.unlearning"
SOURCES = "letheon.sources"
MODELS = "letheon.models"
TASKS = "letheon.tasks"
TRAINERS = "letheon.trainers"


def names(group: str) -> tuple[str, ...]:
    """Names of the plug-ins of a group, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def find(group: str, name: str) -> Callable[..., Any]:
    """The class or function behind a name.

    Raises UnknownPlugin, naming those there are.
    """
    for point in entry_points(group=group):
        if point.name == name:
            loaded: Callable[..., Any] = point.load()
            return loaded
    known = ", ".join(names(group)) or "none is installed"
    raise UnknownPlugin(
        f"no plug-in {name!r} in group {group}; there are: {known}", name=name, group=group
    )


def build(group: str, name: str, arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the caller knows the group
    """Calls the plug-in with the arguments of a configuration table.

    Raises UnknownPlugin, or BadConfig if the arguments do not fit its signature.
    """
    plugin = find(group, name)
    if unknown := _unknown(plugin, arguments):
        raise BadConfig(f"plug-in {name!r} of {group} refuses its arguments: {unknown}")
    try:
        return plugin(**arguments)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"plug-in {name!r} of {group} refuses its arguments: {error}") from error


def _unknown(plugin: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """A sentence on the first argument that the plug-in does not have; empty: it has them all."""
    parameters = inspect.signature(plugin).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return ""
    known = [each.name for each in parameters if each.kind is not each.VAR_POSITIONAL]
    for name in arguments:
        if name not in known:
            return f"there is no {name!r}; there are: {', '.join(known) or 'none'}"
    return ""
