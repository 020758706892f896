"""What the agent demands of a coordinator whose key it was given: signed models, nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from letheon.errors import BadConfig, BadSignature, ProofInvalid
from letheon.proof.key_list import COORDINATOR, KeyList, is_key_list, read_key_list
from letheon.proof.manifest import Manifest, check_manifest
from letheon.servicekit.signing import PublicKey

log = logging.getLogger(__name__)


class CoordinatorTrust:
    """The pinned key, and later ones that it leads to.

    `fetch_keys` asks the coordinator for its list of keys; `refused` is told what was refused, by
    kind: manifest, key or origin.
    """

    def __init__(
        self,
        pinned: PublicKey,
        fetch_keys: Callable[[], bytes],
        refused: Callable[[str], None] = lambda _: None,
        listed: KeyList | None = None,
    ) -> None:
        self.pinned = pinned
        self._fetch_keys = fetch_keys
        self._refused = refused
        self._listed = listed
        self._origin: str | None = None

    def key(self, key_id: str) -> PublicKey:
        """The key of that id, pinned or handed over to. Raises BadSignature(rule=key)."""
        if key_id == self.pinned.key_id:
            return self.pinned
        found = None if self._listed is None else self._listed.find(key_id)
        if found is None:
            found = self.fetch().find(key_id)
        if found is None:
            raise self._refusal(f"key {key_id} is not one of the coordinator's", "key")
        return found

    def newest_keys(self) -> KeyList | None:
        """The list as last fetched, or None while the pinned key was enough."""
        return self._listed

    def check_origin(self, origin: str) -> None:
        """One coordinator speaks of one federation. Raises BadSignature(rule=origin)."""
        if self._origin is None:
            self._origin = origin
        if origin != self._origin:
            raise self._refusal(
                f"the coordinator speaks of {origin}, and spoke of {self._origin} before", "origin"
            )

    def check_model(self, manifest: Manifest, signature: bytes, key_id: str, wanted: str) -> None:
        """Raises BadSignature unless the coordinator signed this, and it is what was asked for.

        `wanted` is the name asked for; models/head and models/serving stand for any version.
        """
        if not signature:
            raise self._refusal(
                f"the coordinator sends {manifest.name} without a signature, and coordinator_key "
                "asks for one: nothing of it is used",
                "manifest",
            )
        public = self.key(key_id)
        try:
            check_manifest(manifest, signature, public)
        except BadSignature as error:
            raise self._refusal(error.message, "manifest") from error
        if manifest.name != wanted and wanted.rpartition("/")[2].isdecimal():
            raise self._refusal(
                f"{wanted} was asked for, and {manifest.name} is what came", "manifest"
            )
        self.check_origin(manifest.origin)

    def fetch(self) -> KeyList:
        """The coordinator's list, which the pinned key is in. Raises BadSignature(rule=key)."""
        try:
            listed = read_key_list(self._fetch_keys(), COORDINATOR)
            listed.check_follows(self.pinned)
        except ProofInvalid as error:
            raise self._refusal(error.message, "key") from error
        self._listed = listed
        return listed

    def _refusal(self, message: str, kind: str) -> BadSignature:
        self._refused(kind)
        log.error("coordinator_not_trusted", extra={"kind": kind, "why": message})
        return BadSignature(message, rule=kind)


def read_pinned(path: Path) -> tuple[PublicKey, KeyList | None]:
    """The key of a PEM file, or the first one of a list and the list. Raises BadConfig."""
    try:
        content = path.read_bytes()
        if is_key_list(content):
            listed = read_key_list(content, COORDINATOR)
            return listed.keys[0].public, listed
        return PublicKey.from_pem(content), None
    except OSError as error:
        raise BadConfig(
            f"coordinator_key: {path} cannot be read: {error.strerror}", key="coordinator_key"
        ) from error
    except (BadSignature, ProofInvalid) as error:
        raise BadConfig(
            f"coordinator_key: {path}: {error.message}", key="coordinator_key"
        ) from error
