"""`letheon keys`: the signing keys of coordinator and calibrator, and those of sites."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_rows, say
from letheon.cli.sites import full_site_name
from letheon.errors import BadConfig
from letheon.proof.key_files import list_path, public_path, rotate
from letheon.proof.key_list import CALIBRATOR, COORDINATOR, KeyList, read_key_list, stamp
from letheon.v1 import sites_pb2, transparency_pb2

app = typer.Typer(no_args_is_help=True, help="The keys that sign models, certificates and updates.")


class Role(StrEnum):
    """Whose key it is."""

    COORDINATOR = COORDINATOR
    CALIBRATOR = CALIBRATOR


@app.command("rotate")
def rotate_key(
    key: Annotated[Path, typer.Option(help="The private key file of the service.")],
    role: Annotated[Role, typer.Option(help="Whose key it is.")],
    output: FormatOption = Format.TABLE,
) -> None:
    """Make a new key in place of the old one, which signs it and is then gone.

    Run it where the key is, then start the service anew. What the old key signed stays valid: the
    list of keys beside it says until when it signed.
    """
    if not key.is_file():
        raise BadConfig(f"there is no key file {key}", path=key)
    signer = rotate(key, role.value, datetime.now(UTC))
    if output is Format.JSON:
        print_document({"key_id": signer.key.key_id, "keys": _rows(signer.keys)})
        return
    say(
        f"Key {signer.key.key_id} takes over. Start the {role.value} anew, and hand out "
        f"{list_path(key)}, or {public_path(key)}, by the way the first key went."
    )


@app.command("list")
def list_keys(
    file: Annotated[
        Path | None, typer.Option(help="A list of keys; without it the coordinator's own.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Every key of a signer with its time; each is seen to be signed by the one before it."""
    if file is None:
        with connect(coordinator) as remote:
            content = remote.transparency.GetKeys(transparency_pb2.GetKeysRequest()).key_list
    else:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise BadConfig(f"{file} cannot be read: {error.strerror}", path=file) from error
    keys = read_key_list(content)
    if output is Format.JSON:
        print_document({"role": keys.role, "keys": _rows(keys)})
        return
    print_rows(
        f"Keys of the {keys.role}",
        ["key", "since", "until"],
        [[row["key_id"], row["since"], row["until"] or "now"] for row in _rows(keys)],
    )


def _rows(keys: KeyList) -> list[dict[str, str]]:
    ends = [stamp(key.since) for key in keys.keys[1:]]
    return [
        {"key_id": key.public.key_id, "since": stamp(key.since), "until": end}
        for key, end in zip(keys.keys, [*ends, ""], strict=True)
    ]


@app.command("forget")
def forget(
    site: Annotated[str, typer.Argument(help="The site whose key was lost or stolen.")],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Let a site's update-signing key go, so that its agent may register another."""
    with connect(coordinator) as remote:
        request = sites_pb2.ForgetUpdateKeyRequest(name=full_site_name(site))
        found = remote.sites.ForgetUpdateKey(request)
    if output is Format.JSON:
        print_document({"name": found.name, "update_key": found.update_key or None})
    else:
        say(f"{found.name} has no update-signing key now: the next one that it registers counts.")
