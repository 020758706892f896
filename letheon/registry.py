"""Plug-ins by entry-point group, built strictly from a table of arguments.

A plug-in is one file and one line in `pyproject.toml`:

    [project.entry-points."letheon.aggregation"]
    fedasync = "letheon.federation.aggregation.fedasync:FedAsync"
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any

from letheon.errors import BadConfig, UnknownPlugin

AGGREGATION = "letheon.aggregation"
UNLEARNING = "letheon.unlearning"
SOURCES = "letheon.sources"
MODELS = "letheon.models"


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
    try:
        return plugin(**arguments)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"plug-in {name!r} of {group} refuses its arguments: {error}") from error
