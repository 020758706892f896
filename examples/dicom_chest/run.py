"""Two sites train on 25 DICOM chest X-rays: a smoke test of the way from a file, no result."""

import sys
from pathlib import Path

from letheon.cli.local.example import Example

if __name__ == "__main__":
    sys.exit(
        Example(
            folder=Path(__file__).parent,
            title="25 DICOM chest X-rays at two sites: a smoke test",
            versions=40,
            every=5,
            pace_s=0.3,
        ).main()
    )
