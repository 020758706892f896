"""Where the real images are, if this machine has them."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def real_file() -> Callable[[str], Path]:
    """Path of a real data file, or a skip with the reason: users do not have these files."""
    folder = Path(os.environ.get("LETHEON_DATA", ROOT.parent / "shared" / "data"))

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"no {name} under {folder} (set LETHEON_DATA)")
        return folder / name

    return find


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    torch.set_num_threads(1)
