"""Mends bills of materials that cyclonedx-py wrote: `python deploy/sbom.py VERSION FILE...`.

An editable Letheon is listed twice: as what the bill is of, without its version, and as a library
in a folder of this machine. It is left in the first place, with its version.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NAME = "letheon"


def mend(bill: dict[str, Any], version: str) -> dict[str, Any]:
    """The bill without its second Letheon. Raises ValueError if it names a folder all the same."""
    ours = {part["bom-ref"] for part in bill["components"] if part["name"] == NAME}
    bill["metadata"]["component"]["version"] = version
    bill["components"] = [part for part in bill["components"] if part["bom-ref"] not in ours]
    bill["dependencies"] = [link for link in bill["dependencies"] if link["ref"] not in ours]
    for part in bill["components"]:
        if any("file://" in found["url"] for found in part.get("externalReferences", [])):
            raise ValueError(f"{part['name']} is installed from a folder of this machine")
    return bill


def main() -> None:
    """Rewrites each file."""
    version, *files = sys.argv[1:]
    for path in map(Path, files):
        mended = mend(json.loads(path.read_text(encoding="utf-8")), version)
        path.write_text(json.dumps(mended, indent=2) + "\n", encoding="utf-8")
        print(f"{path}: {len(mended['components'])} components")


if __name__ == "__main__":
    main()
