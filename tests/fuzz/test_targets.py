"""Every target reads its seeds, what broke it once, and bent seeds; no fuzzer is needed for it."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from .choices import Choices
from .target import NAMES, BrokenPromise, Target, findings, load, promise

ROOT = Path(__file__).parents[2]
_MEGABYTES = 64
_INPUTS = 100
_SECONDS = 5.0  # for one input; a quick one takes a thousandth


@pytest.mark.parametrize("name", NAMES)
def test_a_target_reads_its_seeds_and_accepts_some(name: str) -> None:
    target = load(name)
    answers = [_run(target, seed) for seed in target.seeds()]
    assert any(answers), "a target that refuses every seed tries nothing"
    assert not all(answers)
    assert max(map(len, target.seeds())) <= target.longest


@pytest.mark.parametrize("name", NAMES)
def test_what_broke_a_reader_once_does_so_no_more(name: str) -> None:
    target = load(name)
    for content in findings(name):
        _run(target, content)


@pytest.mark.parametrize("name", NAMES)
def test_bent_seeds_break_nothing(name: str) -> None:
    target = load(name)
    for content in _bent_seeds(target):
        _run(target, content)


@pytest.mark.parametrize("name", NAMES)
def test_memory_stays_within_its_limit_for_every_seed(name: str) -> None:
    target = load(name)
    target.run(b"")  # what is made once
    for seed in list(target.seeds())[::5]:
        tracemalloc.start()
        target.run(seed)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < _MEGABYTES << 20, seed.hex()


def _run(target: Target, content: bytes) -> bool:
    begun = time.monotonic()
    try:
        accepted = target.run(content)
    except Exception as error:
        error.add_note(f"target {target.name}, input {content.hex()}")
        raise
    assert time.monotonic() - begun < _SECONDS, content.hex()
    return accepted


def _bent_seeds(target: Target) -> Iterator[bytes]:
    rng = random.Random(target.name)
    seeds = list(target.seeds())
    for _ in range(_INPUTS):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(content) + 1)
            how = rng.randrange(4)
            if how == 0:
                content[at:at] = rng.randbytes(rng.randrange(1, 9))
            elif how == 1:
                del content[at : at + rng.randrange(1, 9)]
            elif content:
                content[min(at, len(content) - 1)] = rng.choice(
                    (0, 1, 7, 127, 255, rng.randrange(256))
                )
        yield bytes(content[: target.longest])


@pytest.mark.skipif(importlib.util.find_spec("atheris") is not None, reason="atheris is here")
def test_without_atheris_a_run_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "make fuzz needs atheris" in done.stderr
    assert ".[fuzz]" in done.stderr


def test_choices_that_ran_out_are_the_first_ones() -> None:
    choices = Choices(b"")
    assert (choices.number(300), choices.flag(), choices.pick("ab")) == (0, False, "a")
    assert (choices.bytes(3), choices.text(), choices.rest()) == (b"", "", b"")


def test_a_broken_promise_is_told() -> None:
    with pytest.raises(BrokenPromise, match="it holds"):
        promise(0, "it holds")
