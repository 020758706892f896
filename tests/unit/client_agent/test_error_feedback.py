"""Error feedback: nothing an encoding takes is lost, and nothing outlives what it was made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client_agent.adapters.residual_files import ResidualFiles, ResidualKey
from client_agent.training_child.feedback import write_delta
from letheon.errors import MalformedUpdate
from letheon.federation.encoding import decode
from letheon.federation.parameters import Vector
from letheon.federation.plan import Plan

SIZE = 40
KEY = ResidualKey(plan_digest="d", encoding="topk", epoch=1, exclusion_counter=0)


def a_plan(**changes: object) -> Plan:
    return Plan.model_validate(
        {
            "name": "tiny",
            "classes": 2,
            "model": {"plugin": "small_cnn"},
            "image": {"channels": 1, "height": 8, "width": 8},
            "top_share": 0.1,
            "layout": [{"name": "a", "shape": [SIZE]}],
            **changes,
        }
    )


def a_delta(seed: int) -> Vector:
    return np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)


class Site:
    """Writes deltas as an agent does; `kept` says whether the outbox took it."""

    def __init__(self, folder: Path, key: ResidualKey = KEY) -> None:
        self.folder, self.key = folder, key
        self.residuals = ResidualFiles(folder / "residuals")
        self.plan = a_plan()

    def sends(self, delta: Vector, name: str = "u1", *, kept: bool = True) -> Vector:
        target = self.folder / name
        write_delta(delta, self.plan, target, self.residuals, self.key)
        if kept:
            self.residuals.commit(name)
        return decode(target.read_bytes(), self.key.encoding, SIZE)

    def residual(self) -> Vector | None:
        return self.residuals.current(self.key, SIZE)


@pytest.mark.parametrize("encoding", ["topk", "topk+zstd", "int8", "int8+zstd"])
def test_what_arrived_and_the_residual_add_up_to_what_was_trained(
    encoding: str, tmp_path: Path
) -> None:
    site = Site(tmp_path, replace(KEY, encoding=encoding))
    total, arrived = np.zeros(SIZE), np.zeros(SIZE)
    for number in range(12):
        delta = a_delta(number)
        total += delta
        arrived += site.sends(delta, f"u{number}")
    residual = site.residual()
    assert residual is not None
    assert np.allclose(arrived + residual, total, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_value_is_sent_sooner_or_later(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site, delta = Site(tmp_path_factory.mktemp("site")), a_delta(seed)
    rounds = [site.sends(delta, f"u{number}") for number in range(120)]
    assert np.allclose(np.mean(rounds, axis=0), delta, atol=0.25)


def test_an_encoding_that_loses_little_keeps_no_residual(tmp_path: Path) -> None:
    site = Site(tmp_path, replace(KEY, encoding="bfloat16"))
    site.sends(a_delta(1))
    assert site.residual() is None
    assert not (tmp_path / "residuals").exists()


def test_a_delta_that_the_outbox_never_held_changes_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sends(a_delta(1), "u1")
    before = site.residual()
    site.sends(a_delta(2), "u2", kept=False)
    after = site.residual()
    assert before is not None
    assert after is not None
    assert np.array_equal(before, after)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, epoch=2),
        replace(KEY, exclusion_counter=1),
        replace(KEY, plan_digest="e"),
        replace(KEY, encoding="int8"),
        replace(KEY, is_private=True),
    ],
    ids=["epoch", "exclusion", "plan", "encoding", "privacy"],
)
def test_a_residual_does_not_outlive_what_it_was_made_of(
    other: ResidualKey, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.sends(a_delta(1))
    assert site.residual() is not None
    site.key = other
    assert site.residual() is None
    fresh = Site(tmp_path / "fresh", other)
    fresh.folder.mkdir()
    assert np.array_equal(site.sends(a_delta(2)), fresh.sends(a_delta(2)))


@pytest.mark.parametrize("stored", [True, False])
def test_a_kill_between_outbox_and_residual_is_settled_by_the_outbox(
    stored: bool, tmp_path: Path
) -> None:
    site = Site(tmp_path)
    site.sends(a_delta(1), "u1")
    before = site.residual()
    site.sends(a_delta(2), "u2", kept=False)
    again = ResidualFiles(tmp_path / "residuals")
    again.settle({"u2"} if stored else set())
    after = again.current(KEY, SIZE)
    assert before is not None
    assert after is not None
    assert np.array_equal(before, after) is not stored


def test_a_reset_leaves_nothing_behind(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sends(a_delta(1), "u1")
    site.sends(a_delta(2), "u2", kept=False)
    site.residuals.reset()
    assert site.residual() is None
    assert not list((tmp_path / "residuals").iterdir())
    ResidualFiles(tmp_path / "never").reset()


def test_a_damaged_residual_counts_as_none(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sends(a_delta(1))
    path = tmp_path / "residuals" / "current"
    path.write_bytes(path.read_bytes()[:-3])
    assert site.residual() is None
    path.write_bytes(b"no json")
    assert site.residual() is None


def test_a_delta_that_diverged_is_named_before_it_is_encoded(tmp_path: Path) -> None:
    site, delta = Site(tmp_path), a_delta(1)
    delta[3] = np.nan
    with pytest.raises(MalformedUpdate) as refused:
        site.sends(delta)
    assert (refused.value.facts["rule"], refused.value.facts["tensor"]) == ("finite", "a")
