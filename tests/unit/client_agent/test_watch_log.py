"""An agent that was given the coordinator's key: what it believes, and what it refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client_agent.services.coordinator_trust import CoordinatorTrust, read_pinned
from client_agent.services.watch_log import LogFiles, Suspicion, WatchLog
from letheon.errors import BadConfig, BadSignature, CoordinatorUnreachable
from letheon.proof import merkle
from letheon.proof.key_list import COORDINATOR, KeyList
from letheon.proof.manifest import Manifest
from letheon.proof.note import Checkpoint, sign_checkpoint, verify_checkpoint
from letheon.servicekit.clock import FakeClock
from letheon.servicekit.signing import SigningKey

START = datetime(2026, 3, 1, tzinfo=UTC)
EVERY_S = 60.0


@dataclass
class ALog:
    """A coordinator's log, honest or not, as an agent reads it."""

    key: SigningKey
    contents: list[bytes] = field(default_factory=list)
    origin: str = "letheon/abc"
    down: bool = False

    @property
    def leaves(self) -> list[bytes]:
        return [merkle.leaf_hash(content) for content in self.contents]

    def checkpoint(self) -> str:
        if self.down:
            raise CoordinatorUnreachable("away")
        root = merkle.root(self.leaves)
        return sign_checkpoint(Checkpoint(self.origin, len(self.contents), root), self.key)

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        return tuple(merkle.consistency_proof(self.leaves[:second], first))


@dataclass
class Scene:
    """One agent that watches."""

    log: ALog
    watch: WatchLog
    files: LogFiles
    clock: FakeClock
    reports: list[Suspicion | None]

    def look(self) -> Suspicion | None:
        """What it said at its next look."""
        self.clock.advance(EVERY_S)
        before = len(self.reports)
        self.watch()
        assert len(self.reports) == before + 1
        return self.reports[-1]

    @property
    def pinned(self) -> Checkpoint:
        return verify_checkpoint(self.files.pinned.read_text(), self.log.key.public)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "coordinator.pem")


@pytest.fixture
def other(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_create(tmp_path / "other.pem")


def listed(*keys: SigningKey) -> KeyList:
    """A list in which each key handed over to the next."""
    made = KeyList.of_one(COORDINATOR, keys[0], START)
    for number, (before, new) in enumerate(itertools.pairwise(keys), start=1):
        made = made.followed_by(new, by=before, since=START + timedelta(days=number))
    return made


@pytest.fixture
def make(tmp_path: Path, key: SigningKey) -> Callable[..., Scene]:
    def scene(log: ALog | None = None, keys: KeyList | None = None) -> Scene:
        log = log or ALog(key, [b"a", b"b", b"c"])
        folder = tmp_path / "log"
        folder.mkdir(exist_ok=True)
        files, clock = LogFiles(folder), FakeClock(START)
        trust = CoordinatorTrust(key.public, (keys or listed(key)).content)
        reports: list[Suspicion | None] = []
        watch = WatchLog(
            files, log, trust, clock, EVERY_S, lambda suspicion, _size: reports.append(suspicion)
        )
        return Scene(log, watch, files, clock, reports)

    return scene


def test_the_first_checkpoint_is_pinned_and_a_grown_log_takes_its_place(
    make: Callable[..., Scene],
) -> None:
    scene = make()
    assert scene.look() is None
    assert scene.pinned.size == 3
    scene.log.contents += [b"d", b"e"]
    assert scene.look() is None
    assert scene.pinned.size == 5
    assert not scene.files.refused.exists()


def test_a_shrunk_log_is_refused_and_the_pin_stays(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.look()
    scene.log.contents.pop()
    assert scene.look() is Suspicion.SHRUNK
    assert scene.pinned.size == 3
    assert scene.files.refused.read_text() == scene.log.checkpoint()


@pytest.mark.parametrize("grown", [0, 1, 5])
def test_a_forked_log_is_refused_however_long_it_is(make: Callable[..., Scene], grown: int) -> None:
    scene = make()
    scene.look()
    scene.log.contents[1] = b"rewritten"
    scene.log.contents += [bytes([number]) for number in range(grown)]
    assert scene.look() is Suspicion.FORKED
    assert scene.pinned.size == 3
    # It is refused again after a restart: the pin is a file.
    assert make(scene.log).look() is Suspicion.FORKED


def test_a_log_that_mends_itself_is_believed_again(make: Callable[..., Scene]) -> None:
    scene = make()
    scene.look()
    scene.log.contents[1] = b"rewritten"
    assert scene.look() is Suspicion.FORKED
    scene.log.contents[1] = b"b"
    assert scene.look() is None


def test_a_checkpoint_that_another_key_signed_or_of_another_log_is_refused(
    make: Callable[..., Scene], other: SigningKey
) -> None:
    scene = make()
    scene.look()
    honest = scene.log.key
    scene.log.key = other
    assert scene.look() is Suspicion.SIGNATURE
    scene.log.key, scene.log.origin = honest, "letheon/other"
    assert scene.look() is Suspicion.ORIGIN


def test_after_a_rotation_the_new_key_is_believed_because_the_old_one_signed_it(
    make: Callable[..., Scene], key: SigningKey, other: SigningKey
) -> None:
    scene = make(keys=listed(key, other))
    scene.look()
    scene.log.key = other
    scene.log.contents.append(b"d")
    assert scene.look() is None
    assert scene.pinned.size == 4


def test_a_coordinator_that_is_away_is_no_suspicion_and_asked_again_at_once(
    make: Callable[..., Scene],
) -> None:
    scene = make()
    scene.log.down = True
    scene.watch()
    assert scene.reports == []
    scene.log.down = False
    scene.watch()
    assert scene.reports == [None]
    scene.watch()  # not due yet
    assert scene.reports == [None]


# Models


def a_manifest(**more: object) -> Manifest:
    made = Manifest("letheon/abc", "models/4", 4, 1, 268, "0" * 64, "plan")
    return replace(made, **more)  # type: ignore[arg-type]


def test_a_model_is_believed_only_with_the_coordinators_signature(
    key: SigningKey, other: SigningKey
) -> None:
    refused: list[str] = []
    trust = CoordinatorTrust(key.public, listed(key).content, refused.append)
    manifest = a_manifest()
    trust.check_model(manifest, key.sign(manifest.content()), key.key_id, "models/4")
    trust.check_model(manifest, key.sign(manifest.content()), key.key_id, "models/head")
    for given, signature, key_id, wanted in (
        (manifest, b"", "", "models/4"),
        (manifest, other.sign(manifest.content()), other.key_id, "models/4"),
        (manifest, other.sign(manifest.content()), key.key_id, "models/4"),
        (a_manifest(version=5), key.sign(manifest.content()), key.key_id, "models/4"),
        (manifest, key.sign(manifest.content()), key.key_id, "models/5"),
    ):
        with pytest.raises(BadSignature):
            trust.check_model(given, signature, key_id, wanted)
    elsewhere = a_manifest(origin="letheon/other")
    with pytest.raises(BadSignature, match="spoke of letheon/abc before"):
        trust.check_model(elsewhere, key.sign(elsewhere.content()), key.key_id, "models/4")
    assert refused == ["manifest", "key", "manifest", "manifest", "manifest", "origin"]


def test_a_list_of_keys_that_does_not_hold_the_pinned_one_is_worth_nothing(
    key: SigningKey, other: SigningKey
) -> None:
    trust = CoordinatorTrust(key.public, listed(other).content)
    with pytest.raises(BadSignature, match="does not hold the key"):
        trust.key(other.key_id)
    assert CoordinatorTrust(key.public, listed(key, other).content).key(other.key_id)


def test_the_pinned_key_is_a_pem_or_a_list_and_nothing_else(
    tmp_path: Path, key: SigningKey, other: SigningKey
) -> None:
    path = tmp_path / "pinned"
    path.write_text(key.public_pem)
    assert read_pinned(path)[0].key_id == key.key_id
    path.write_bytes(listed(key, other).content())
    pinned, known = read_pinned(path)
    assert pinned.key_id == key.key_id
    assert known is not None
    for content in (b"", b"{}", b"-----BEGIN"):
        path.write_bytes(content)
        with pytest.raises(BadConfig, match="coordinator_key"):
            read_pinned(path)
    with pytest.raises(BadConfig, match="cannot be read"):
        read_pinned(tmp_path / "none")
