"""`python -m coordinator --config FILE`."""

from __future__ import annotations

import sys

from coordinator.process import run


def main() -> None:
    """Serves until SIGTERM; exit code 78 for a configuration that cannot work."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
