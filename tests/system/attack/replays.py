"""What was said once is said again, later, or by somebody else."""

from __future__ import annotations

import hashlib

from letheon.errors import (
    BadSignature,
    ChecksumMismatch,
    DigestMismatch,
    InvitationRefused,
    MalformedUpdate,
    NotPermitted,
    OffsetMismatch,
    SiteKeyChanged,
    StaleEpoch,
    UnknownModelVersion,
    UpdateAltered,
)
from letheon.federation.encoding import encode
from letheon.servicekit.key_files import make_key, signing_request
from letheon.servicekit.route import TlsFiles
from letheon.servicekit.signing import SigningKey
from letheon.v1 import enrolment_pb2, sites_pb2, training_pb2
from letheon.v1.enrolment_pb2_grpc import EnrolmentStub
from letheon.v1.models_pb2 import Chunk

from .attacks import Outcome, attack, every, refused, stopped, succeeded
from .insider import chunk
from .world import World

FAMILY = "replays and forgeries"


@attack(FAMILY, "an upload is sent again, word for word", expected="the first receipt, no new row",
        quick=True)  # fmt: skip
def literal_replay(world: World) -> Outcome:
    north = world.insiders["north"]
    payload = encode(north.honest(20), world.plan.encoding)
    header = north.header(payload)
    first = north.send(header, payload)
    rows = world.status().entries
    again = [north.send(header, payload) for _ in range(3)]
    if any(one != first for one in again) or world.status().entries != rows:
        return succeeded(f"{world.status().entries - rows} rows were added")
    return stopped("three times the first receipt; the ledger has as many rows as before")


@attack(FAMILY, "its bytes again under a new id, with the old signature", expected="BAD_SIGNATURE",
        quick=True)  # fmt: skip
def replay_under_a_new_id(world: World) -> Outcome:
    north = world.insiders["north"]
    payload = encode(north.honest(21), world.plan.encoding)
    header = north.header(payload)
    north.send(header, payload)
    header.update_id = "another-id"
    return refused(lambda: north.send(header, payload), BadSignature)


@attack(FAMILY, "the same id for other bytes", expected="UPDATE_ALTERED", quick=True)
def same_id_other_bytes(world: World) -> Outcome:
    north = world.insiders["north"]
    first = north.push(north.honest(22))
    return refused(lambda: north.push(north.honest(23), update_id=first.update_id), UpdateAltered)


@attack(FAMILY, "chunks out of order, twice, damaged, and more of them than promised",
        expected="refused with the rule; nothing merged", quick=True)  # fmt: skip
def reordered_chunks(world: World) -> Outcome:
    north = world.insiders["north"]
    payload = encode(north.honest(24), world.plan.encoding)
    half = len(payload) // 2
    first, second = chunk(payload[:half], 0), chunk(payload[half:], half)
    damaged = Chunk(offset=0, data=payload[:half], crc32c=1)
    streams = {
        "out of order": [second, first],
        "twice": [first, first],
        "damaged": [training_pb2.PushDeltaRequest(chunk=damaged)],
        "too many": [first, second, chunk(b"more", len(payload))],
    }
    before = world.status().entries

    def send(parts: list[training_pb2.PushDeltaRequest]) -> None:
        header = training_pb2.PushDeltaRequest(header=north.header(payload))
        north.training.PushDelta(iter([header, *parts]))

    found = {
        name: refused(
            lambda parts=parts: send(parts), OffsetMismatch, ChecksumMismatch, MalformedUpdate
        )
        for name, parts in streams.items()
    }
    if world.status().entries != before:
        return succeeded("a row was added")
    return every(found, "OFFSET_MISMATCH, CHECKSUM_MISMATCH or MALFORMED_UPDATE; no row was added")


@attack(FAMILY, "a base that never was, an epoch that is over or to come",
        expected="UNKNOWN_MODEL_VERSION, STALE_EPOCH", quick=True)  # fmt: skip
def wrong_base(world: World) -> Outcome:
    north = world.insiders["north"]
    delta = north.honest(25)
    return every(
        {
            name: refused(
                lambda change=change: north.push(delta, **change), UnknownModelVersion, StaleEpoch
            )
            for name, change in {
                "base": {"base_version": 10_000},
                "old epoch": {"epoch": -1},
                "next epoch": {"epoch": 7},
            }.items()
        },
        "each refused before a byte was taken",
    )


@attack(FAMILY, "an update of one site, signed with the key of another, or with none",
        expected="BAD_SIGNATURE", quick=True)  # fmt: skip
def key_of_another(world: World) -> Outcome:
    north, south = world.insiders["north"], world.insiders["south"]
    payload = encode(north.honest(26), world.plan.encoding)
    unsigned = north.header(payload)
    unsigned.signature, unsigned.signature_key = b"", ""
    posing = north.header(payload, key=south.key)
    posing.signature_key = north.key.key_id
    return every(
        {
            "signed by south": refused(lambda: north.push(north.honest(27), key=south.key),
                                       BadSignature),
            "under north's name": refused(lambda: north.send(posing, payload), BadSignature),
            "unsigned": refused(lambda: north.send(unsigned, payload), BadSignature),
        },
        "each refused, rule signature",
    )  # fmt: skip


@attack(FAMILY, "an update in the name of another site", expected="PERMISSION_DENIED", quick=True)
def name_of_another(world: World) -> Outcome:
    north = world.insiders["north"]
    return refused(lambda: north.push(north.honest(28), site="south"), NotPermitted)


@attack(FAMILY, "a digest that is not that of the bytes", expected="DIGEST_MISMATCH", quick=True)
def forged_digest(world: World) -> Outcome:
    north = world.insiders["north"]
    wrong = hashlib.sha256(b"other bytes").digest()
    return refused(lambda: north.push(north.honest(29), sha256=wrong), DigestMismatch)


@attack(FAMILY, "another update key is registered for a site", expected="SITE_KEY_CHANGED",
        quick=True)  # fmt: skip
def another_update_key(world: World) -> Outcome:
    north = world.insiders["north"]
    thief = SigningKey.load_or_create(world.root / "thief.pem")
    request = sites_pb2.RegisterSiteRequest(
        name="sites/north", record_count=100, update_key_pem=thief.public_pem,
        update_key_proof=thief.sign(b"let me in"),
    )  # fmt: skip
    return refused(lambda: north.sites.RegisterSite(request), SiteKeyChanged)


@attack(FAMILY, "a token of enrolment a second time, with another key, and for another site",
        expected="INVITATION_REFUSED", quick=True)  # fmt: skip
def token_twice(world: World) -> Outcome:
    stub = EnrolmentStub(
        world.channel_with(TlsFiles(ca=world.secure.authority / "ca.pem"), world.enrolment)
    )
    key = make_key(world.root / "second.pem")

    def trade(site: str, token: str) -> object:
        csr = signing_request(key, site)
        return stub.Enrol(enrolment_pb2.EnrolRequest(site=f"sites/{site}", token=token, csr=csr))

    token = world.insiders["north"].token
    return every(
        {
            "again": refused(lambda: trade("north", token), InvitationRefused),
            "for south": refused(lambda: trade("south", token), InvitationRefused),
            "made up": refused(lambda: trade("north", "lti-made-up"), InvitationRefused),
        },
        "used, of another site, unknown: refused",
    )
