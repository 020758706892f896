"""A real coordinator is killed at every point of docs/durability.md; each row is checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
from builders import a_vector
from coordinator_under_faults import FragileCoordinator, a_fragile_coordinator
from durability_tables import documented_points, points_in_the_code, table
from erasure_builders import a_certificate

from letheon.errors import CoordinatorUnreachable, SiteFenced
from letheon.federation.encoding import encode
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, models_pb2, training_pb2

pytestmark = pytest.mark.system
T = TypeVar("T")
ACCEPT = table("An accepted delta")
ERASURE = table("An erasure")
DERIVED = table("Files that are derived")
STATES = erasures_pb2.Erasure.State
# Reached by the coordinator's own chores or by a withdrawal: tests of their own below.
APART = {"cancel.committed", "relay.announced"}


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[FragileCoordinator]:
    with (
        EmbeddedRedis(tmp_path / "redis") as redis,
        a_fragile_coordinator(tmp_path, redis_url=redis.url) as made,
    ):
        yield made


def test_every_point_of_the_code_has_a_row_and_every_row_a_point() -> None:
    assert documented_points() == points_in_the_code()


def payload_state(coordinator: FragileCoordinator, update_id: str, sha256: str) -> str:
    """none, staged, orphan or kept."""
    if sha256 in coordinator.files("payloads"):
        named = coordinator.sql("SELECT 1 FROM entries WHERE payload_sha256 = ?", sha256)
        return "kept" if named else "orphan"
    part = coordinator.data / "uploads" / f"{update_id}.part"
    return "staged" if part.exists() and part.stat().st_size else "none"


@pytest.mark.timeout(180)
def test_a_delta_cut_at_any_point_takes_effect_once(coordinator: FragileCoordinator) -> None:
    coordinator.client.register("north")
    for number, (point, row) in enumerate(ACCEPT.items()):
        update_id, delta = f"update-{number}", a_vector(number)
        sha256 = hashlib.sha256(encode(delta, coordinator.plan.encoding)).hexdigest()
        before = coordinator.status()
        coordinator.arm(point)
        with pytest.raises(CoordinatorUnreachable):
            coordinator.client.push("north", delta, base_version=number, update_id=update_id)
        coordinator.died()

        assert payload_state(coordinator, update_id, sha256) == row["payload"], point
        written = coordinator.sql("SELECT 1 FROM entries WHERE update_id = ?", update_id)
        assert ("yes" if written else "no") == row["row"], point

        coordinator.start()
        assert payload_state(coordinator, update_id, sha256) != "orphan", point
        head = coordinator.version()
        assert head == before.head_version + (row["row"] == "yes"), point
        query = training_pb2.QueryUploadRequest(update_id=update_id, site="sites/north")
        known = coordinator.client.training.QueryUpload(query)
        assert (known.WhichOneof("outcome") == "receipt") == (row["resend"] == "receipt"), point
        resent = coordinator.client.push(
            "north",
            delta,
            base_version=number,
            update_id=update_id,
            offset=known.committed_bytes,
        )
        if row["resend"] == "receipt":
            assert resent == known.receipt, point
        assert resent.version == coordinator.version() == before.head_version + 1, point
        assert payload_state(coordinator, update_id, sha256) == "kept", point
    verdict = coordinator.verdict()
    assert verdict.holds, verdict.reason


def state_of(coordinator: FragileCoordinator, erasure: str) -> str:
    query = "SELECT state FROM erasures WHERE id = ?"
    ((state,),) = coordinator.sql(query, erasure.removeprefix("erasures/"))
    return str(state)


class Interrupted:
    """The steps of one erasure, one of which is cut at a point and repeated."""

    def __init__(self, coordinator: FragileCoordinator, point: str, subject: str) -> None:
        self.coordinator, self.point, self.subject = coordinator, point, subject
        self.states: list[str] = []  # at each death

    def __call__(self, call: Callable[[], T]) -> T:
        return self.coordinator.despite(self.point, call, self._when_dead)

    def _when_dead(self) -> None:
        query = "SELECT state FROM erasures WHERE site = ?"
        self.states += [state for (state,) in self.coordinator.sql(query, self.subject)]

    def erase(self, key: SigningKey, seed: int) -> tuple[erasures_pb2.Erasure, dict[str, Any]]:
        """From the request to the certificate; the erasure and its evidence."""
        c, subject = self.coordinator, self.subject
        erasure = self(lambda: c.request(subject)).name
        with pytest.raises(SiteFenced):
            c.client.push(subject, a_vector(1), base_version=c.version())
        token = self(lambda: c.claim(erasure))
        removal = self(lambda: c.remove(erasure, token))
        assert c.remove(erasure, token) == removal
        c.train("north", seed=seed)
        version = c.version()
        self(lambda: c.ask_evaluate(erasure, token, version))
        self(lambda: c.answer("north", version))
        evidence = self(lambda: c.passes(erasure, token, version))
        certificate = a_certificate(erasure, key)
        return self(lambda: c.conclude(erasure, token, certificate)), evidence


@pytest.mark.timeout(300)
def test_an_erasure_cut_at_any_point_happens_once_and_ends_certified(
    coordinator: FragileCoordinator, tmp_path: Path
) -> None:
    key = SigningKey.load_or_create(tmp_path / "calibrator.pem")
    coordinator.client.register("north")
    for number, point in enumerate(point for point in ERASURE if point not in APART):
        subject = f"leaving-{number}"
        coordinator.client.register(subject)
        coordinator.train("north", subject, "north", seed=100 * number)
        query = "SELECT payload_sha256 FROM entries WHERE site = ?"
        own = {sha256 for (sha256,) in coordinator.sql(query, subject)}
        epoch = coordinator.status().epoch
        coordinator.arm(point)
        interrupted = Interrupted(coordinator, point, subject)
        ended, evidence = interrupted.erase(key, seed=100 * number + 50)

        assert interrupted.states == [ERASURE[point]["state"]], point
        assert ended.state == STATES.Value("CERTIFIED"), point
        assert evidence["replay_equals_head"], point
        assert coordinator.status().epoch == epoch + 1, point
        assert not own & coordinator.files("payloads"), point
        log = (tmp_path / "tombstones.log").read_text()
        assert log.count(ended.name.removeprefix("erasures/")) == 2, point
    verdict = coordinator.verdict()
    assert verdict.holds, verdict.reason


def test_a_withdrawal_and_an_announcement_cut_after_their_commit_are_repeated(
    coordinator: FragileCoordinator,
) -> None:
    coordinator.client.register("north", "south")
    coordinator.arm("relay.announced")
    with suppress(CoordinatorUnreachable):  # the relay may be faster than the answer
        coordinator.request("south")
    coordinator.died()
    ((identifier,),) = coordinator.sql("SELECT id FROM erasures")
    erasure = f"erasures/{identifier}"
    assert state_of(coordinator, erasure) == ERASURE["relay.announced"]["state"]
    assert coordinator.sql("SELECT announced_at FROM outbox") == [(None,)]
    coordinator.start()
    coordinator.until(lambda: coordinator.sql("SELECT announced_at FROM outbox") != [(None,)])

    coordinator.arm("cancel.committed")
    cancel = erasures_pb2.CancelErasureRequest(name=erasure)
    with pytest.raises(CoordinatorUnreachable):
        coordinator.erasures.CancelErasure(cancel)
    coordinator.died()
    assert state_of(coordinator, erasure) == ERASURE["cancel.committed"]["state"]
    assert '"cancelled"' not in (coordinator.root / "tombstones.log").read_text()
    coordinator.start()
    assert '"cancelled"' in (coordinator.root / "tombstones.log").read_text()
    ended = coordinator.erasures.CancelErasure(cancel)
    assert ended.state == STATES.Value("CANCELLED")


@pytest.mark.parametrize("point", [p for p in DERIVED if p.startswith("model.")])
def test_a_model_file_cut_at_any_point_is_written_again_or_found(
    coordinator: FragileCoordinator, point: str
) -> None:
    coordinator.client.register("north")
    coordinator.train("north", "north")
    coordinator.arm(point)
    ask = models_pb2.DownloadModelRequest(name="models/head")
    with pytest.raises(CoordinatorUnreachable):
        list(coordinator.client.models.DownloadModel(ask))
    coordinator.died()
    rows = coordinator.sql("SELECT sha256 FROM model_files WHERE version = 2")
    assert ("yes" if rows else "no") == DERIVED[point]["row"]
    coordinator.start()
    header, *_ = coordinator.client.models.DownloadModel(ask)
    assert header.header.version == 2
    named = {sha256 for (sha256,) in coordinator.sql("SELECT sha256 FROM model_files")}
    assert coordinator.files("models") == named
