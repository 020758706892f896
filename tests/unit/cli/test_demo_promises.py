"""Which endings of the demo break a promise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_builders import a_removal, an_attempt, an_erasure, stamp

from letheon.cli.demo.ledger_reading import AgentReceipt, Row, Throughput
from letheon.cli.demo.observer import Measurement
from letheon.cli.demo.picture import draw
from letheon.cli.demo.promises import Counts, check
from letheon.cli.demo.report import timings
from letheon.cli.demo.settings import DemoSettings, short
from letheon.cli.demo.story import Moments, Told
from letheon.v1 import erasures_pb2, federation_pb2, ledger_pb2

Erasure = erasures_pb2.Erasure

GOOD = Counts(
    receipts=10, lost=(), crossed=(), throughput=Throughput(10, 20, 20), certificate_problem=None
)


def a_measurement(version: int, accuracy: float = 0.9) -> Measurement:
    return Measurement(version, 1.0, accuracy, accuracy, 0.95, 0.1)


def told(erasure: Erasure, *, holds: bool = True) -> Told:
    return Told(
        erasure=erasure,
        moments=Moments(None, None, None, a_measurement(60)),
        status=federation_pb2.FederationStatus(),
        verdict=ledger_pb2.LedgerVerdict(holds=holds),
        certificate=b"{}",
        retained_after=60,
        request_took_s=0.1,
    )


def broken(story: Told, counts: Counts = GOOD) -> list[str]:
    return [
        promise.name
        for promise in check(story, counts, throughput_at_least=0.95)
        if not promise.kept
    ]


def test_a_certified_erasure_keeps_every_promise() -> None:
    assert broken(told(an_erasure(Erasure.CERTIFIED))) == []


def test_removal_that_fails_breaks_one() -> None:
    assert broken(told(an_erasure(Erasure.FAILED))) == ["the erasure ends"]


def test_an_honest_failure_of_a_suppressing_method_breaks_none() -> None:
    assert broken(told(an_erasure(Erasure.FAILED, method="afu_ic_rebased"))) == []


def test_an_erasure_that_never_ends_breaks_one_whatever_the_method() -> None:
    assert broken(told(an_erasure(Erasure.VERIFYING, method="afu_ic_rebased")))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"lost": (AgentReceipt("site-1", "u", 1, "h"),)}, "no acknowledged update is lost"),
        (
            {"crossed": (Row(1, "delta", 1, 1, "sites/site-3", 0.0, "h", "u"),)},
            "nothing of the site after the fence",
        ),
        ({"throughput": Throughput(10, 20, 18.9)}, "the others go on"),
        ({"certificate_problem": "altered"}, "the certificate holds"),
    ],
)
def test_each_count_that_is_off_breaks_its_promise(change: dict[str, object], name: str) -> None:
    counts = replace(GOOD, **change)  # type: ignore[arg-type]
    assert broken(told(an_erasure(Erasure.CERTIFIED)), counts) == [name]


def test_a_ledger_that_does_not_hold_breaks_one() -> None:
    assert broken(told(an_erasure(Erasure.CERTIFIED), holds=False)) == ["the ledger holds"]


def test_times_are_seconds_from_the_request() -> None:
    erasure = an_erasure(
        Erasure.CERTIFIED,
        removal=a_removal(),
        removed_at=stamp(0.5),
        attempts=[an_attempt(1, erasures_pb2.Attempt.PASS)],
        concluded_at=stamp(6),
    )
    assert timings(told(erasure)) == {
        "fenced": 0.02,
        "erased_head": 0.5,
        "gate": 5.0,
        "certificate": 6.0,
    }


def test_the_picture_is_drawn_with_and_without_a_promotion(tmp_path: Path) -> None:
    series = [a_measurement(version) for version in range(0, 60, 10)]
    for name, promoted in (("a.png", 50), ("b.png", None)):
        draw(
            tmp_path / name,
            series,
            title="a title",
            removed_at=40,
            removed_label="site removed",
            promoted_at=promoted,
            reference=a_measurement(60, 0.92) if promoted else None,
        )
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_short_story_is_shorter_and_the_straggler_is_not_the_withdrawn_site() -> None:
    settings = DemoSettings()
    assert short(settings).before < settings.before
    straggling = settings.pace.settings("site-5")
    assert straggling == {"min_duration_seconds": 10 * settings.pace.of("site-1")}
    assert settings.pace.of("site-3") < 2 * settings.pace.of("site-1")
