"""The frame of an example: its options, its clock, and the story that most of them tell."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from letheon.cli.exits import advice, exit_code
from letheon.cli.interrupts import INTERRUPTED
from letheon.cli.local.score_picture import draw_scores
from letheon.cli.local.watched import Say, Watched, watched
from letheon.errors import LetheonError
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.v1 import erasures_pb2


@dataclass(frozen=True)
class Example:
    """A sites file, how long it trains, and who withdraws."""

    folder: Path  # of the example: sites.toml is in it
    title: str  # of the picture
    versions: int  # before the request, and half as many after it
    every: int  # versions between two looks
    pace_s: float  # from one local training of a site to its next
    erase: str | None = None  # the site that withdraws

    def main(self) -> int:
        """Reads the options and tells the story; the exit code."""
        name = self.folder.name
        parser = argparse.ArgumentParser(prog=f"examples/{name}/run.py", description=self.title)
        parser.add_argument("--data", type=Path, help="folder of the data sets; else LETHEON_DATA")
        parser.add_argument("--out", type=Path, default=Path("out") / name)
        parser.add_argument("--versions", type=int, default=self.versions)
        parser.add_argument("--erase", default=self.erase, help='a site, or "" for none')
        parser.add_argument("--sites-file", type=Path, default=self.folder / "sites.toml")
        options = parser.parse_args()
        return run(lambda say: self._tell(options, say))

    def _tell(self, options: argparse.Namespace, say: Say) -> None:
        with watched(
            options.sites_file, data=options.data, out=options.out, pace=self.pace_s, say=say
        ) as federation:
            federation.train_to(options.versions, every=self.every)
            marks = {}
            if options.erase:
                marks = self._forget(federation, options, say)
            last = federation.look()
            for site in last.scores:
                by_class = federation.class_scores(site).items()
                told = ", ".join(f"{name} {score:.3f}" for name, score in by_class)
                say(f"version {last.version} at {site}, by class: {told}")
        picture = draw_scores(
            options.out / "scores.png",
            {
                site: [(p.version, p.scores[site]) for p in federation.points if site in p.scores]
                for site in federation.told.agents
            },
            title=self.title,
            score=f"{federation.task.score} on records set aside",
            marks=marks,
            dashed=[options.erase],
        )
        say(f"drew {picture}")

    def _forget(self, federation: Watched, options: argparse.Namespace, say: Say) -> dict[str, int]:
        """Erases the site and trains on; versions to mark in the picture."""
        site = options.erase
        before = federation.forget_statistic(site)
        erasure = federation.erase(site, every=self.every)
        end = federation.points[-1].version + options.versions // 2
        federation.train_to(end, every=self.every)
        after = federation.forget_statistic(site)
        state = erasures_pb2.Erasure.State.Name(erasure.state)
        say(
            f"{site}: {state}; its training records against those it set aside, AUC of the loss "
            f"{_auc(before)} before, {_auc(after)} now (0.5: nothing tells them apart)"
        )
        marks = {}
        if erasure.HasField("removal"):
            marks[f"{site} removed"] = erasure.removal.version_after
        passed = [each for each in erasure.attempts if each.verdict == erasures_pb2.Attempt.PASS]
        if passed:
            marks["gate passed"] = passed[-1].version
        return marks


def _auc(statistic: ForgetStatistic) -> str:
    return f"{statistic.auc:.3f} [{statistic.auc_low:.3f}, {statistic.auc_high:.3f}]"


def run(tell: Callable[[Say], None]) -> int:
    """Tells a story with a clock before each line; the exit code."""
    began = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {line}", flush=True)

    try:
        tell(say)
    except LetheonError as error:
        say(f"{error.message}. {advice(error)}")
        return int(exit_code(error))
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    return 0
