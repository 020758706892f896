"""Configuration: TOML of every service and of a plan, and variables of the environment."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from calibrator.config import CalibratorConfig
from client_agent.config import AgentConfig
from coordinator.config import CoordinatorConfig
from letheon.errors import BadConfig, UnknownPlugin
from letheon.federation.plan import load_plan
from letheon.servicekit.config import Section, effective, load

from ..choices import Choices
from ..target import Target, promise
from ..workplace import workplace

_SAMPLES = Path(__file__).parents[3] / "deploy"
_MODELS: tuple[tuple[str, type[Section]], ...] = (
    ("coordinator", CoordinatorConfig),
    ("client_agent", AgentConfig),
    ("calibrator", CalibratorConfig),
)
_NEEDED = {"LETHEON_REDIS_URL": "redis://127.0.0.1:6379/0"}


def run(data: bytes) -> bool:
    choices = Choices(data)
    return choices.pick((_service, _any, _plan))(choices)


def _service(choices: Choices) -> bool:
    """A sample with lines that were changed, and variables beside it."""
    name, model = choices.pick(_MODELS)
    environ = dict(_NEEDED)
    for _ in range(choices.number(255) % 3):
        path = "__".join(choices.pick(_keys(name)).upper() for _ in range(1 + choices.flag()))
        environ[f"LETHEON_{path}"] = choices.text(60).replace("\0", "")
    return _load(_changed(choices, name), model, environ)


def _any(choices: Choices) -> bool:
    _, model = choices.pick(_MODELS)
    return _load(choices.rest(), model, _NEEDED)


def _load(content: bytes, model: type[Section], environ: Mapping[str, str]) -> bool:
    path = workplace() / "service.toml"
    path.write_bytes(content)
    try:
        config = load(path, model, environ)
    except BadConfig:
        return False
    promise(isinstance(effective(config), dict), "an accepted configuration can be shown")
    return True


def _plan(choices: Choices) -> bool:
    path = workplace() / "plan.toml"
    path.write_bytes(choices.rest() if choices.flag() else _changed(choices, "plan"))
    try:
        load_plan(path)
    except (BadConfig, UnknownPlugin):
        return False
    return True


def _changed(choices: Choices, name: str) -> bytes:
    lines = _lines(name).copy()
    for _ in range(choices.number(255) % 5):
        at = choices.number(0xFFFF) % len(lines)
        key, equals, value = lines[at].partition(b"=")
        how = choices.number(255) % 6
        if how == 0:
            lines[at] = key + equals + choices.pick(_VALUES) + b"\n"
        elif how == 1:
            lines[at] = key + equals + choices.some_bytes(60) + b"\n"
        elif how == 2:
            more = _commented(name) or lines
            lines.insert(at, more[choices.number(0xFFFF) % len(more)])
        elif how == 3:
            lines[at] = key.rstrip() + b".x" + equals + value
        elif how == 4:
            del lines[at]
            lines = lines or [b"\n"]
        else:
            lines[at] = choices.some_bytes(60) + b"\n"
    return b"".join(lines)


_VALUES = (
    b"",
    b"0",
    b"-1",
    b"1e400",
    b"nan",
    b"inf",
    b"9" * 400,
    b"true",
    b"''",
    b"'x'",
    b"'\xc3\xa9'",
    b"[]",
    b"{}",
    b"[{}]",
    b"{x = 1}",
    b"2026-01-01",
    b"1979-05-27T07:32:00Z",
    b"'0.0.0.0:99999'",
    b"'unix:'",
    b"'postgresql://'",
    b"'://'",
    b"'file:///'",
    b"[" * 2000,
    b"{a=" * 600,
    b"'" + b"x" * 300 + b"'",
    rb'"\u0000"',
)


@cache
def _lines(name: str) -> list[bytes]:
    """Of a sample."""
    text = (_SAMPLES / f"{name}.toml").read_bytes()
    return [line for line in text.splitlines(keepends=True) if not line.startswith(b"#")]


@cache
def _commented(name: str) -> list[bytes]:
    """Keys that the sample has in comments only."""
    text = (_SAMPLES / f"{name}.toml").read_bytes()
    return [found + b"\n" for found in re.findall(rb"^# (\w+ = .+)$", text, re.MULTILINE)]


@cache
def _keys(name: str) -> list[str]:
    found: list[str] = []

    def walk(table: dict[str, Any]) -> None:
        for key, value in table.items():
            found.append(key)
            if isinstance(value, dict):
                walk(value)

    walk(tomllib.loads(b"".join(_lines(name)).decode()))
    return found


def _seeds() -> Iterator[bytes]:
    for number, (name, _) in enumerate(_MODELS):
        yield bytes([0, number, 0, 0])
        yield bytes([1, number]) + b"".join(_lines(name))
        for at in range(min(len(_lines(name)), 60)):
            for how in range(6):
                yield bytes([0, number, 0, 1, 0, at, how, at % len(_VALUES), 2, 93])
        for key in range(len(_keys(name))):
            yield bytes([0, number, 1, key, 0, 1, 55])
            yield bytes([0, number, 1, key, 255, key, 2, 123, 125])
    yield b"\2\0\0"
    for at in range(min(len(_lines("plan")), 60)):
        yield bytes([2, 0, 1, 0, at, 0, at % len(_VALUES)])
    yield b"\1\0" + b"x = " + b"[" * 3000


TARGET = Target(
    "configuration",
    "letheon.servicekit.config.load of every service, letheon.federation.plan.load_plan",
    run,
    _seeds,
)
