"""Folders and zips are read in place, and neither leads out of itself nor fills the memory."""

import zipfile
from pathlib import Path

import pytest

from letheon.errors import BadData
from letheon.imaging.sources.tree import TooLarge, open_tree


def a_zip(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return path


def test_names_are_sorted_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a/z", ".hidden/x", "a/.x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    tree = open_tree(tmp_path)
    assert tree.names == ("a/z", "b/1", "b/2")
    assert tree.folders == ("a", "b")
    assert tree.read("b/1") == b"b/1"


def test_only_names_of_the_tree_are_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    with pytest.raises(KeyError):
        open_tree(tmp_path / "data").read("../secret")


def test_a_link_to_a_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "a" / "x").write_bytes(b"x")
    assert open_tree(tmp_path / "data").names == ("a/x",)


def test_a_single_file_is_a_tree_of_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    tree = open_tree(tmp_path / "a")
    assert tree.names == ("a",)
    assert tree.read("a") == b"1"


@pytest.mark.parametrize("name", ["../out", "/etc/x", "a/../../x", "a\\..\\x"])
def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(BadData, match="leads out of it"):
        open_tree(tmp_path / "x.zip")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    tree = open_tree(a_zip(tmp_path / "x.zip", bomb=bytes(65 << 20), scan=b"fine"))
    with pytest.raises(TooLarge):
        tree.read("bomb")
    assert tree.read("scan") == b"fine"


def test_an_entry_that_understates_its_size_is_refused(tmp_path: Path) -> None:
    data = bytearray(a_zip(tmp_path / "x.zip", a=b"x" * 1000).read_bytes())
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = (10).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(bytes(data))
    with pytest.raises(OSError, match="damaged"):
        open_tree(tmp_path / "x.zip").read("a")


def test_a_torn_zip_is_named(tmp_path: Path) -> None:
    whole = a_zip(tmp_path / "x.zip", a=b"1" * 500).read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[:-30])
    with pytest.raises(BadData, match="copy it again"):
        open_tree(tmp_path / "x.zip")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"there is no folder or \.zip"):
        open_tree(tmp_path / "gone")
