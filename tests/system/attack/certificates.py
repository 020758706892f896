"""A real certificate of a real erasure, and what can be made of it."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from letheon.errors import LetheonError
from letheon.proof.certificate import sign, trust, verify_file
from letheon.servicekit.signing import SigningKey, canonical_json
from letheon.v1 import certificates_pb2
from letheon.v1.certificates_pb2_grpc import CertificatesStub

from ..chaos.processes import until
from .attacks import Outcome, attack, every, refused, stopped, succeeded
from .insider import erasure_of
from .world import SITES, World

FAMILY = "tampering with a certificate"
SUBJECT = "south"
_CERTIFIED_S = 90.0


def backup_of(world: World) -> Path:
    """Database, files and, apart from them, the key store from before the erasure."""
    certificates_of(world)
    return world.root / "backup"


def certificates_of(world: World) -> dict[str, bytes]:
    """Of `south`, which asks for its own erasure, and of `gone`: agents and calibrator carry them
    out, the first time this is called. A backup was made before.
    """
    kept = world.root / "certificates"
    if not kept.exists():
        _back_up(world)
        world.start_agents()
        names = {site: erasure_of(world.insiders[site]) for site in (SUBJECT, "gone")}
        stub = CertificatesStub(world.operator())
        found: dict[str, bytes] = {}

        def certified() -> bool:
            for site, name in names.items():
                if site not in found:
                    ask = certificates_pb2.GetCertificateRequest(name=f"certificates/{name}")
                    found[site] = stub.GetCertificate(ask).content
            return True

        if not until(certified, _CERTIFIED_S, look_s=0.3):
            raise TimeoutError("the erasures were not certified")
        world.stop("calibrator", *SITES)
        kept.mkdir()
        for site, content in found.items():
            (kept / f"{site}.json").write_bytes(content)
    return {path.stem: path.read_bytes() for path in kept.iterdir()}


def _back_up(world: World) -> None:
    target = world.root / "backup"
    for stale in (target, world.root / "backup-keys"):
        shutil.rmtree(stale, ignore_errors=True)
    shutil.copytree(world.data, target, ignore=shutil.ignore_patterns("*.sqlite*", "lock"))
    with (
        closing(sqlite3.connect(world.database)) as source,
        closing(sqlite3.connect(target / "coordinator.sqlite")) as copy,
    ):
        source.backup(copy)
    shutil.copytree(world.secure.keys, world.root / "backup-keys")


def _trust(world: World) -> Any:
    log_key = world.folder.coordinator_public_key.read_bytes()
    return trust(world.folder.public_key.read_text(), log_key, None)


@attack(FAMILY, "as it was handed out (the control)", expected="it holds")
def as_it_is(world: World) -> Outcome:
    verified = verify_file(certificates_of(world)[SUBJECT], _trust(world))
    if verified.caveat:
        return succeeded(f"a good certificate is doubted: {verified.caveat}")
    return stopped(f"it holds, with {len(verified.statement['ledger']['rows'])} removed rows")


@attack(FAMILY, "one bit of every byte flipped, one after the other", expected="none holds")
def every_byte(world: World) -> Outcome:
    content, trusted = certificates_of(world)[SUBJECT], _trust(world)
    rng, held = random.Random(6), []
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << rng.randrange(8)
        try:
            verify_file(bytes(changed), trusted)
        except LetheonError:
            continue
        held.append(place)
    if held:
        return succeeded(f"it holds with byte {held[0]} flipped, and {len(held) - 1} others")
    return stopped(f"{len(content)} bytes, none of the files holds")


@attack(FAMILY, "cut off, grown, with a field twice, or with parts of another certificate",
        expected="none holds")  # fmt: skip
def spliced(world: World) -> Outcome:
    mine, other = (json.loads(certificates_of(world)[site]) for site in (SUBJECT, "gone"))
    content, trusted = certificates_of(world)[SUBJECT], _trust(world)
    files = {
        "cut off": content[:-1],
        "grown": content + b" ",
        "a field twice": b'{"format":"x",' + content[1:],
        "another's statement": canonical_json({**mine, "statement": other["statement"]}),
        "another's log proof": canonical_json({**mine, "log": other["log"]}),
        "another's signature": canonical_json({**mine, "signature": other["signature"]}),
        "no log": canonical_json({k: v for k, v in mine.items() if k != "log"}),
    }
    return every(
        {
            name: refused(lambda file=file: _held(file, trusted), LetheonError)
            for name, file in files.items()
        },
        "each is refused with its rule",
    )


def _held(content: bytes, trusted: Any) -> None:
    verified = verify_file(content, trusted)
    if verified.caveat:
        raise LetheonError(verified.caveat)


@attack(FAMILY, "of an older epoch, presented as newer, or signed by somebody else",
        expected="the signature does not fit")  # fmt: skip
def older_as_newer(world: World) -> Outcome:
    mine = json.loads(certificates_of(world)[SUBJECT])
    said = {**mine["statement"], "epoch": mine["statement"].get("epoch", 0) + 5}
    newer = canonical_json({**mine, "statement": said})
    thief = SigningKey.load_or_create(world.root / "forger.pem")
    forged = sign(said, thief)
    trusted = _trust(world)
    return every(
        {
            "another epoch": refused(lambda: _held(newer, trusted), LetheonError),
            "signed by another": refused(lambda: _held(forged, trusted), LetheonError),
        },
        "both refused",
    )
