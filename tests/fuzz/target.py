"""What is fuzzed: one reader of foreign bytes, with seeds made from real objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

NAMES = (
    "certificates",
    "uploads",
    "deltas",
    "containers",
    "notes",
    "proofs",
    "requests",
    "configuration",
)
FINDINGS = Path(__file__).parent / "findings"


class BrokenPromise(AssertionError):
    """An input showed that something documented does not hold."""


def promise(holds: object, what: str) -> None:
    """Raises BrokenPromise unless it holds."""
    if not holds:
        raise BrokenPromise(what)


@dataclass(frozen=True)
class Target:
    """`run` answers whether the input was accepted. Whatever it raises is a finding."""

    name: str
    reads: str  # what reads the bytes, in words
    run: Callable[[bytes], bool]
    seeds: Callable[[], Iterable[bytes]]
    longest: int = 4096  # bytes of an input


def load(name: str) -> Target:
    """The target of that name. Its module is imported now, so that a fuzzer can watch it."""
    found: Target = import_module(f"{__package__}.targets.{name}").TARGET
    return found


def findings(name: str) -> list[bytes]:
    """Inputs that broke something once: a line of hexadecimal digits each, `#` begins a comment."""
    path = FINDINGS / f"{name}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [bytes.fromhex(line) for line in lines if line and not line.startswith("#")]
