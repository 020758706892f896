"""Plug-ins are built strictly: an argument that does not exist is named beside those that do."""

from __future__ import annotations

import pytest

from letheon import registry
from letheon.errors import BadConfig


def test_an_unknown_argument_is_named_beside_the_known_ones() -> None:
    with pytest.raises(BadConfig, match=r"there is no 'image_column'; there are: path, .*labels"):
        registry.build(registry.SOURCES, "image_folder", {"path": "x", "image_column": "file"})


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(BadConfig, match="'path'"):
        registry.build(registry.SOURCES, "npz", {})
