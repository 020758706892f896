"""What the coordinator signs of every model that it sends: which weights these are."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from letheon.errors import BadSignature
from letheon.servicekit.signing import PublicKey, canonical_json

FORMAT = "letheon-model/1"


@dataclass(frozen=True)
class Manifest:
    """One model, or one vector of an exchange, as it is sent."""

    origin: str  # of the federation, as in its checkpoints
    name: str  # models/{version}, or what an exchange reads
    version: int
    epoch: int
    size_bytes: int
    sha256: str  # hex
    plan_digest: str  # of the plan, and with it of the layout

    def content(self) -> bytes:
        """The bytes that are signed."""
        return canonical_json({"format": FORMAT, **asdict(self)})


def check_manifest(manifest: Manifest, signature: bytes, public: PublicKey) -> None:
    """Raises BadSignature(rule=manifest) unless the key signed exactly this."""
    try:
        public.verify(manifest.content(), signature)
    except BadSignature:
        raise BadSignature(
            f"the manifest of {manifest.name} is not signed by the coordinator's key "
            f"{public.key_id}: nothing of it is used",
            rule="manifest",
        ) from None
