"""A bill of materials names Letheon once, and no folder of the machine that wrote it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

MEND = Path(__file__).parents[2] / "deploy" / "sbom.py"


def a_bill(url: str = "https://packages.example.org/numpy/") -> dict[str, Any]:
    local = {"type": "distribution", "url": "file:///somewhere/letheon"}
    return {
        "metadata": {"component": {"bom-ref": "root", "name": "letheon"}},
        "components": [
            {"bom-ref": "letheon==1", "name": "letheon", "externalReferences": [local]},
            {
                "bom-ref": "numpy==2",
                "name": "numpy",
                "externalReferences": [{"type": "distribution", "url": url}],
            },
        ],
        "dependencies": [{"ref": "root", "dependsOn": ["numpy==2"]}, {"ref": "letheon==1"}],
    }


def mended(path: Path, bill: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    path.write_text(json.dumps(bill))
    command = [sys.executable, str(MEND), "1.2.3", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_letheon_is_what_the_bill_is_of_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "bill.json"
    assert mended(path, a_bill()).returncode == 0
    bill = json.loads(path.read_text())
    assert bill["metadata"]["component"]["version"] == "1.2.3"
    assert [part["name"] for part in bill["components"]] == ["numpy"]
    assert [link["ref"] for link in bill["dependencies"]] == ["root"]
    assert "file://" not in path.read_text()


def test_a_package_from_a_folder_of_this_machine_is_refused(tmp_path: Path) -> None:
    done = mended(tmp_path / "bill.json", a_bill("file:///wheels/numpy.whl"))
    assert done.returncode != 0
    assert "numpy is installed from a folder of this machine" in done.stderr
