"""Four sites train on JPEG slices of 200 subjects, dealt by subject; one site withdraws."""

import sys
from pathlib import Path

from letheon.cli.local.example import Example

if __name__ == "__main__":
    sys.exit(
        Example(
            folder=Path(__file__).parent,
            title="Brain MRI, 200 subjects at four sites",
            versions=64,
            every=8,
            pace_s=0.5,
            erase="site-4",
        ).main()
    )
