"""One patient of a hospital that stays: erased with `letheon-agent erase`, beside the daemon."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from letheon.cli.local.example import run
from letheon.cli.local.score_picture import draw_scores
from letheon.cli.local.watched import Say, Watched, watched
from letheon.errors import BadConfig
from letheon.unlearning.evidence.forgetting import ForgetStatistic
from letheon.v1 import erasures_pb2

HERE = Path(__file__).parent
SITE = "site-2"
VERSIONS, EVERY, PACE_S = 64, 8, 0.5


def main() -> int:
    """Reads the options and tells the story; the exit code."""
    parser = argparse.ArgumentParser(prog="examples/one_patient/run.py", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of the data sets; else LETHEON_DATA")
    parser.add_argument("--out", type=Path, default=Path("out/one_patient"))
    parser.add_argument("--versions", type=int, default=VERSIONS)
    parser.add_argument("--sites-file", type=Path, default=HERE / "sites.toml")
    parser.add_argument("--patient", help=f"of {SITE}; else the one with most training records")
    options = parser.parse_args()
    return run(lambda say: tell(options, say))


def tell(options: argparse.Namespace, say: Say) -> None:
    """Trains, erases, trains on, and says what the patient's records look like before and after."""
    with watched(
        options.sites_file, data=options.data, out=options.out, pace=PACE_S, say=say
    ) as federation:
        federation.train_to(options.versions, every=EVERY)
        patient, records = chosen(federation, options.patient)
        say(f"{SITE} erases one patient: {records} of its training records")
        before = federation.forget_statistic(SITE, patient)
        erasure = federation.erase_patient(SITE, patient, every=EVERY)
        federation.train_to(federation.points[-1].version + options.versions // 2, every=EVERY)
        after = federation.forget_statistic(SITE, patient)
        state = erasures_pb2.Erasure.State.Name(erasure.state)
        say(f"the patient's training records against records {SITE} set aside:")
        say(f"  before the request: {told(before)}")
        say(f"  after {state}: {told(after)}")
        if erasure.state == erasures_pb2.Erasure.CERTIFIED:
            federation.certificate(erasure, options.out / "certificate.json")
            say(f"{options.out / 'certificate.json'} verifies under the calibrator's key")
    marks = {}
    if erasure.HasField("removal"):
        marks["records removed"] = erasure.removal.version_after
    passed = [each for each in erasure.attempts if each.verdict == erasures_pb2.Attempt.PASS]
    if passed:
        marks["gate passed"] = passed[-1].version
    picture = draw_scores(
        options.out / "scores.png",
        {
            site: [(p.version, p.scores[site]) for p in federation.points if site in p.scores]
            for site in federation.told.agents
        },
        title=f"One patient of {SITE} erased",
        score=f"{federation.task.score} on records set aside",
        marks=marks,
    )
    say(f"drew {picture}")


def chosen(federation: Watched, named: str | None) -> tuple[str, int]:
    """A patient of the site with the number of records it trains on.

    Raises BadConfig for one the site does not train on.
    """
    counts = Counter(federation.records(SITE).trained.groups())
    patient = named if named is not None else max(sorted(counts), key=lambda each: counts[each])
    if patient not in counts:
        raise BadConfig(f"{SITE} trains on no records of patient {patient!r}")
    return patient, counts[patient]


def told(statistic: ForgetStatistic) -> str:
    """For one line."""
    auc = f"{statistic.auc:.3f} [{statistic.auc_low:.3f}, {statistic.auc_high:.3f}]"
    return (
        f"AUC of the loss {auc} (0.5: nothing tells them apart), accuracy "
        f"{100 * statistic.accuracy_erased:.1f} % against {100 * statistic.accuracy_control:.1f} %"
    )


if __name__ == "__main__":
    sys.exit(main())
