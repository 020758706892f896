"""Three sites train a small 3-D U-Net to find both parts of the hippocampus; one withdraws."""

import sys
from pathlib import Path

from letheon.cli.local.example import Example

if __name__ == "__main__":
    sys.exit(
        Example(
            folder=Path(__file__).parent,
            title="Hippocampus segmentation, 48 volumes at three sites",
            versions=48,
            every=6,
            pace_s=0.5,
            erase="site-3",
        ).main()
    )
