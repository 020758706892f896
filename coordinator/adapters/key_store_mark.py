"""The file beside sealed files that says which key store they were written with."""

from __future__ import annotations

import json
from pathlib import Path

from coordinator.adapters.key_records import FILE, identity_in
from coordinator.ports import Marker
from coordinator.services.key_ring import KeyRing
from letheon.errors import BadConfig


def check_key_store(marker: Marker, ring: KeyRing, keys: int) -> None:
    """The files were written with this key store, and it is not an older copy of it.

    `keys` is how many data keys the ring holds. From now on the file follows the ring. Raises
    BadConfig.
    """
    told = _told(marker)
    if told is None:
        if keys:
            raise BadConfig(
                f"the key store of encryption.key_dir holds {keys} keys, and {marker.place} has "
                f"no {marker.name}, which lies beside the files that they open: is the disk "
                "mounted? A new federation needs a key store of its own",
                key="encryption.key_dir",
            )
    else:
        identity, generation = told
        if identity != ring.identity:
            raise BadConfig(
                f"the files in {marker.place} were written with key store {identity}, "
                f"encryption.key_dir holds {ring.identity}: name the one that belongs to them",
                key="encryption.key_dir",
            )
        if generation > ring.generation:
            raise BadConfig(
                f"the key store is an older copy: its wrapping key was changed {ring.generation} "
                f"times, {marker.place} was written after change {generation}; an old copy would "
                "bring erased subjects back, so put the newest one back",
                key="encryption.key_dir",
            )

    def note(generation: int) -> None:
        written = {"key_store": ring.identity, "generation": generation}
        marker.write(json.dumps(written).encode() + b"\n")

    note(ring.generation)
    ring.on_change = note


def check_at_hand(marker: Marker, directory: Path) -> None:
    """That a coordinator which only stands by has the keys. Changes nothing. Raises BadConfig.

    Without them it would find out when it leads, and take the lease from those who have them.
    """
    told = _told(marker)
    held = identity_in(directory)
    if told is None or held == told[0]:
        return
    holds = f"holds {held}" if held else f"has no {FILE}"
    raise BadConfig(
        f"the files in {marker.place} were written with key store {told[0]}, and "
        f"encryption.key_dir {directory} {holds}: a key store is a file of one machine, and a "
        "coordinator without it can neither lead nor stand by",
        key="encryption.key_dir",
    )


def _told(marker: Marker) -> tuple[str, int] | None:
    """Identity and generation of the key store; None if there is no file."""
    content = marker.read()
    if content is None:
        return None
    try:
        told = json.loads(content)
        return str(told["key_store"]), int(told["generation"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(
            f"{marker.place}/{marker.name} cannot be read ({error}): it says which key store "
            "the files were written with; restore it from a backup",
            key="encryption.key_dir",
        ) from error
