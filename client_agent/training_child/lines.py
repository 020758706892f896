"""The lines between daemon and training process. Imports neither torch nor numpy.

daemon -> child   {"id": 7, "command": "train", "arguments": {...}}
daemon -> child   {"abandon": 7}                 while command 7 runs
child -> daemon   {"id": 7, "result": {...}}
child -> daemon   {"id": 7, "abandoned": true}
child -> daemon   {"id": 7, "error": {"reason": "BAD_DATA", "message": "...", "facts": {}}}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from letheon.errors import Busy, InternalFault, LetheonError

OUT_OF_MEMORY = 71  # exit code of the child: the allocation failed, the process is spent


@dataclass(frozen=True)
class Command:
    """Something to do, answered by exactly one reply of the same id."""

    id: int
    name: str
    arguments: Mapping[str, Any]

    def line(self) -> str:
        """The line on stdin."""
        return _line({"id": self.id, "command": self.name, "arguments": dict(self.arguments)})


@dataclass(frozen=True)
class Abandon:
    """Give up the command of this id; its reply still follows."""

    id: int

    def line(self) -> str:
        """The line on stdin."""
        return _line({"abandon": self.id})


@dataclass(frozen=True)
class Result:
    """The command was done."""

    id: int
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Abandoned:
    """The command was given up."""

    id: int


@dataclass(frozen=True)
class Failure:
    """The command failed; the process is well."""

    id: int
    error: LetheonError


Order = Command | Abandon
Reply = Result | Abandoned | Failure


def parse_order(line: str) -> Order:
    """The order in a line of stdin."""
    document = json.loads(line)
    if "abandon" in document:
        return Abandon(int(document["abandon"]))
    return Command(int(document["id"]), str(document["command"]), document["arguments"])


def parse_reply(line: str) -> Reply:
    """The reply in a line of the child's stdout; errors are rebuilt as the class they were."""
    document = json.loads(line)
    number = int(document["id"])
    if "error" in document:
        error = document["error"]
        return Failure(number, rebuild(error["reason"], error["message"], error["facts"]))
    if document.get("abandoned"):
        return Abandoned(number)
    return Result(number, document["result"])


def reply_line(reply: Reply) -> str:
    """The line on stdout."""
    match reply:
        case Result(number, values):
            return _line({"id": number, "result": dict(values)})
        case Abandoned(number):
            return _line({"id": number, "abandoned": True})
        case Failure(number, error):
            told = {"reason": error.reason, "message": error.message, "facts": error.facts}
            return _line({"id": number, "error": told})


def rebuild(reason: str, message: str, facts: Mapping[str, str]) -> LetheonError:
    """The error of that reason, or InternalFault when there is none."""
    for kind in _tree(LetheonError):
        if kind.reason == reason and not issubclass(kind, Busy):
            return kind(message, **facts)
    return InternalFault(message, **facts)


def _tree(root: type[LetheonError]) -> Iterator[type[LetheonError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":")) + "\n"
