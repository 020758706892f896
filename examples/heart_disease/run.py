"""Four hospitals train one logistic regression; one of them withdraws and is forgotten."""

import sys
from pathlib import Path

from letheon.cli.local.example import Example

if __name__ == "__main__":
    sys.exit(
        Example(
            folder=Path(__file__).parent,
            title="Heart disease in four hospitals",
            versions=80,
            every=8,
            pace_s=0.2,
            erase="hungary",
        ).main()
    )
