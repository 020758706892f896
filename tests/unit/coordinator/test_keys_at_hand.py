"""A coordinator without the keys of the files neither leads nor stands by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import a_config, a_federation

from coordinator.bootstrap import build
from coordinator.config import CoordinatorConfig
from coordinator.core_wiring import check_keys_at_hand
from letheon.errors import BadConfig
from letheon.servicekit.erasure_queue import MemoryErasureQueue


def a_machine(root: Path, name: str) -> CoordinatorConfig:
    """One of two machines that share the files, each with a key folder of its own."""
    (root / "shared").mkdir(exist_ok=True)
    more: dict[str, Any] = {
        "storage": {"url": f"file://{root / 'shared'}"},
        "encryption": {"key_dir": root / name / "keys"},
    }
    return a_config(root / name, **more, federation_dir=root / "federation")


def test_a_standby_of_another_machine_is_refused_at_its_start_and_nothing_is_changed(
    tmp_path: Path,
) -> None:
    a_federation(tmp_path / "federation")
    first, second = a_machine(tmp_path, "one"), a_machine(tmp_path, "two")
    build(first, queue=MemoryErasureQueue()).close()
    check_keys_at_hand(first)
    with pytest.raises(BadConfig, match=r"has no keys.sqlite: .* can neither lead nor stand by"):
        build(second, queue=MemoryErasureQueue())
    assert not (tmp_path / "two" / "keys").exists()


def test_a_key_store_of_other_files_is_named(tmp_path: Path) -> None:
    a_federation(tmp_path / "federation")
    first = a_machine(tmp_path, "one")
    build(first, queue=MemoryErasureQueue()).close()
    (tmp_path / "shared").rename(tmp_path / "those of one")
    other = a_machine(tmp_path, "two")
    build(other, queue=MemoryErasureQueue()).close()
    mixed = first.model_copy(update={"encryption": other.encryption})
    (tmp_path / "shared").rename(tmp_path / "those of two")
    (tmp_path / "those of one").rename(tmp_path / "shared")
    with pytest.raises(BadConfig, match=r"were written with key store .* holds "):
        check_keys_at_hand(mixed)


def test_new_files_need_no_key_store_yet(tmp_path: Path) -> None:
    check_keys_at_hand(a_machine(tmp_path, "one"))
