"""Encrypts the files of a coordinator that kept them unencrypted so far; run while it is stopped.

    python -m coordinator.seal_store --config coordinator.toml

Each file is sealed and only then removed. Stopped anywhere, it goes on where it was when run again.
What backups and the disk's free blocks hold of the old files, nothing here can reach.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from coordinator.adapters.blob_places import seal_areas
from coordinator.adapters.data_dir import locked
from coordinator.config import CoordinatorConfig
from coordinator.core_wiring import open_ring
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.clock import SystemClock
from letheon.servicekit.config import load

_BAD_CONFIG = 78  # EX_CONFIG
_FAILED = 69  # EX_UNAVAILABLE


def seal_store(config: CoordinatorConfig, tell: Callable[[str], object]) -> int:
    """Seals what is not yet; answers how many files. Raises BadConfig or what the store raises."""
    if config.storage.url is not None and not config.storage.url.startswith("file://"):
        raise BadConfig(
            "an object store is not encrypted in place: copy its files to data_dir, take "
            "storage.url out, seal them there, and copy them back as docs/security/encryption.md "
            "says",
            key="storage.url",
        )
    root = config.data_dir
    if config.storage.url is not None:
        root = Path(config.storage.url.removeprefix("file://"))
    with locked(config.data_dir):
        ring = open_ring(config)
        if ring is None:
            raise BadConfig("encryption.key_dir is not set", key="encryption.key_dir")
        with closing(ring):
            counts = seal_areas(root, SystemClock(), ring)
    for area, count in counts.items():
        tell(f"{area}: {count} files sealed")
    return sum(counts.values())


def main() -> int:
    """The command; exit code 78 for a bad configuration, 69 if it cannot be done now."""
    parser = argparse.ArgumentParser(prog="python -m coordinator.seal_store", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the coordinator's TOML file")
    try:
        seal_store(load(parser.parse_args().config, CoordinatorConfig), print)
    except LetheonError as error:
        print(error.message, file=sys.stderr)
        return _BAD_CONFIG if isinstance(error, BadConfig) else _FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
