"""The key that signs what the site sends, and the one that is to follow it.

`letheon-agent rotate-key` makes the next one; the agent hands over to it at its next start: it
registers the next key with the present one's signature, and only then puts it in its place. Cut
at any step, the next start goes on: the coordinator takes a key that it knows already as it is.
"""

from __future__ import annotations

from pathlib import Path

from client_agent.adapters.state_dir import sync_directory
from letheon.errors import AlreadyExists
from letheon.proof.update_signature import successor_content
from letheon.servicekit.signing import PublicKey, SigningKey


class UpdateKeys:
    """Of one state directory; the present key is made if there is none."""

    def __init__(self, path: Path) -> None:
        """`path` is that of the present key. Raises BadConfig for a file that holds none."""
        self._path, self._next_path = path, path.with_suffix(".next.pem")
        self.present = SigningKey.load_or_create(path)
        self.next = SigningKey.load_or_create(self._next_path) if self._next_path.exists() else None
        self._publish()

    def prepare(self) -> SigningKey:
        """Makes the next key. Raises AlreadyExists if one waits for the agent's next start."""
        if self.next is not None:
            raise AlreadyExists(
                f"{self._next_path} waits already to become the site's key: start the agent"
            )
        self.next = SigningKey.load_or_create(self._next_path)
        return self.next

    def announced(self, site: str) -> tuple[str, bytes]:
        """The key to register, PEM, and what shows that the present one hands over to it."""
        if self.next is None:
            return self.present.public_pem, b""
        public = PublicKey.from_pem(self.next.public_pem)
        return self.next.public_pem, self.present.sign(successor_content(site, public))

    def registered(self) -> None:
        """The coordinator knows the announced key: it is the present one from now on."""
        if self.next is None:
            return
        self._next_path.replace(self._path)
        sync_directory(self._path.parent)
        self.present, self.next = self.next, None
        self._publish()

    def _publish(self) -> None:
        """For whoever is to check the site's signatures."""
        self.present.publish(self._path.with_suffix(".pub.pem"))
