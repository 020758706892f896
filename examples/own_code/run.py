"""Four hospitals, four ways to train: the plan's SGD, a script, a function, MONAI's ClientAlgo."""

import sys
from pathlib import Path

from letheon.cli.local.example import Example

if __name__ == "__main__":
    sys.exit(
        Example(
            folder=Path(__file__).parent,
            title="Heart disease, three hospitals with training code of their own",
            versions=80,
            every=8,
            pace_s=0.2,
            erase="hungary",
        ).main()
    )
