"""`letheon log`: the transparency log, for whoever watches it from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.documents import Fields
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, say
from letheon.errors import BadConfig, BadSignature, ProofInvalid
from letheon.proof.key_list import COORDINATOR, KeyList, is_key_list, read_key_list
from letheon.proof.merkle import verify_consistency
from letheon.proof.note import Checkpoint, verifier_key, verify_checkpoint
from letheon.servicekit.signing import PublicKey
from letheon.v1 import transparency_pb2

app = typer.Typer(no_args_is_help=True, help="The transparency log of certificates.")

KeyOption = Annotated[
    Path, typer.Option(help="Public key of the coordinator, PEM, or its list; got by another way.")
]


@app.command("show")
def show(coordinator: CoordinatorOption = None, output: FormatOption = Format.TABLE) -> None:
    """The newest checkpoint, a signed note, as it is; nothing is checked."""
    with connect(coordinator) as remote:
        note = remote.transparency.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note
    if output is Format.JSON:
        origin, size, root = note.split("\n")[:3]
        print_document({"origin": origin, "size": int(size), "root": root, "note": note})
    else:
        typer.echo(note, nl=False)


@app.command("verify")
def verify(
    key: KeyOption,
    pin: Annotated[
        Path, typer.Option(help="The checkpoint kept by the last call; written by this one.")
    ],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check that the log only grew since the checkpoint in --pin, then keep the newest there.

    Without such a file the present checkpoint is the first one believed. Exit code 1, and the file
    stays as it is, if the log was rewritten.
    """
    with connect(coordinator) as remote:
        note = remote.transparency.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note
        given = remote.transparency.GetKeys(transparency_pb2.GetKeysRequest()).key_list
        keys = _keys(key, given)
        present = _checked(note, keys)
        before = _checked(pin.read_text(encoding="utf-8"), keys) if pin.exists() else None
        if before is not None and 0 < before.size < present.size:
            request = transparency_pb2.GetConsistencyRequest(first=before.size, second=present.size)
            proof = list(remote.transparency.GetConsistency(request).proof)
        else:
            proof = []
    if before is not None:
        _check(before, present, proof)
    try:
        pin.write_text(note, encoding="utf-8")
    except OSError as error:
        raise BadConfig(f"{pin} cannot be written: {error.strerror}", path=pin) from error
    was = None if before is None else before.size
    if output is Format.JSON:
        told: Fields = {
            "holds": True,
            "origin": present.origin,
            "size": present.size,
            "before": was,
        }
        shown = verifier_key(present.origin, keys.current)
        print_document({**told, "before": was, "verifier_key": shown})
        return
    since = "kept as the first one" if was is None else f"it continues the {was} entries known"
    say(f"The log of {present.origin} holds: {present.size} entries, {since}.")


def _check(before: Checkpoint, present: Checkpoint, proof: list[bytes]) -> None:
    if before.origin != present.origin:
        raise ProofInvalid(
            f"the log is that of {present.origin}, the kept checkpoint of {before.origin}",
            rule="origin",
        )
    if present.size < before.size:
        raise ProofInvalid(
            f"the log had {before.size} entries and now has {present.size}: entries were taken "
            "away, or an older backup was put back",
            rule="consistency",
        )
    verify_consistency(before.size, present.size, before.root, present.root, proof)


def _keys(trusted: Path, given: bytes) -> KeyList:
    """The coordinator's list, once it is seen to hold the trusted key."""
    try:
        content = trusted.read_bytes()
    except OSError as error:
        raise BadConfig(f"{trusted} cannot be read: {error.strerror}", path=trusted) from error
    keys = read_key_list(given, COORDINATOR)
    try:
        known = (
            read_key_list(content, COORDINATOR).keys[0].public
            if is_key_list(content)
            else PublicKey.from_pem(content)
        )
    except BadSignature as error:
        raise BadConfig(f"{trusted}: {error.message}", path=trusted) from error
    keys.check_follows(known)
    return keys


def _checked(note: str, keys: KeyList) -> Checkpoint:
    return verify_checkpoint(note, keys.signer_of(note))
