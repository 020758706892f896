"""A backup from before an erasure comes back, with or without its keys."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coordinator.adapters.blob_places import local_place
from coordinator.adapters.key_records import SqliteKeyRecords
from coordinator.adapters.wrapping_keys import FileWrappingKeys
from coordinator.services.key_ring import KeyRing
from letheon.cli.local.running import why_ended
from letheon.errors import KeyGone, LetheonError, RestoreIncomplete
from letheon.servicekit.clock import SystemClock

from ..chaos.processes import until
from .attacks import Outcome, attack, detected, put_back, refused, stopped, succeeded
from .certificates import SUBJECT, backup_of
from .tampering import run
from .world import World

FAMILY = "a backup from before the erasure"


@contextmanager
def _ring(folder: Path) -> Iterator[KeyRing]:
    ring = KeyRing(FileWrappingKeys(folder), SqliteKeyRecords(folder))
    try:
        yield ring
    finally:
        ring.close()


def _payloads(backup: Path, condition: str) -> list[str]:
    query = f"SELECT payload_sha256 FROM entries WHERE payload_sha256 != '' AND {condition}"  # noqa: S608
    with closing(sqlite3.connect(backup / "coordinator.sqlite")) as opened:
        return [row[0] for row in opened.execute(query)]


@attack(FAMILY, "every payload of the subject in the backup is opened with the key store of today",
        expected="none opens; those of the others do")  # fmt: skip
def nothing_opens(world: World) -> Outcome:
    # A copy: a store of files notes which key store it was opened with last.
    backup = world.root / "backup-read"
    shutil.copytree(backup_of(world), backup)
    own = _payloads(backup, f"site = '{SUBJECT}'")
    others = _payloads(backup, "site = 'north'")
    opened: list[str] = []
    with _ring(world.secure.keys) as ring:
        payloads = local_place(backup, SystemClock(), ring).blobs.payloads
        control = sum(len(payloads.get(sha256)) > 0 for sha256 in others)
        for sha256 in own:
            try:
                payloads.get(sha256)
            except KeyGone:
                continue
            opened.append(sha256)
    if opened or not own:
        return succeeded(f"{len(opened)} of {len(own)} open")
    if control != len(others):
        return succeeded("the control does not open either: nothing is shown")
    return stopped(f"none of {len(own)} opens, all {control} of another site do (the control)")


@contextmanager
def _restored(world: World, *, keys: bool) -> Iterator[None]:
    """The backup in the place of the coordinator's files; afterwards these again."""
    backup = backup_of(world)
    world.stop("coordinator")
    aside = {place: world.root / f"aside-{place.name}" for place in (world.data, world.secure.keys)}
    for place, kept in aside.items():
        place.rename(kept)
    shutil.copytree(backup, world.data)
    shutil.copytree(world.root / "backup-keys" if keys else aside[world.secure.keys],
                    world.secure.keys)  # fmt: skip

    def undo() -> None:
        world.stop_if_running("coordinator")
        for place, kept in aside.items():
            shutil.rmtree(place)
            kept.rename(place)
        world.start_coordinator()

    with put_back(undo):
        yield


@attack(FAMILY, "database and files are put back and the coordinator is started",
        expected="it does not start, or serves nothing before the erasure is done again",
        )  # fmt: skip
def put_back_files(world: World) -> Outcome:
    with _restored(world, keys=False):
        return _start(world)


@attack(FAMILY, "the key store of then is put back as well",
        expected="the tombstone log tells: nothing is served before it is done again")  # fmt: skip
def put_back_everything(world: World) -> Outcome:
    with _restored(world, keys=True):
        found = _start(world)
        if found.verdict != "stopped":
            return found
        code, said = run(*world.command("restore"))
        if code:
            return found
        state = run(*world.command("sites", "--format", "json"))[1]
        if f'"site": "{SUBJECT}", "state": "fenced"' not in state.replace("sites/", ""):
            return detected(f"{found.happened}; letheon restore: {said}")
        return detected(f"{found.happened}; letheon restore fences the subject again")


def _start(world: World) -> Outcome:
    world.launch("coordinator", "coordinator", world.folder.config_of("coordinator"))
    child = world.child("coordinator")
    answers: list[LetheonError] = []

    def told() -> bool:
        if child.poll() is not None:
            return True
        try:
            world.status()
        except RestoreIncomplete as error:
            answers.append(error)
            return True
        return True

    if not until(told, 40.0):
        return succeeded("it neither serves nor ends")
    if child.poll() is not None:
        return stopped(f"the coordinator ends with {child.poll()}: {why_ended(child)}")
    if answers:
        return stopped(f"{answers[0].reason}: {answers[0].message}")
    return refused(world.status, RestoreIncomplete)
