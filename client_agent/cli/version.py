"""letheon-agent version"""

from __future__ import annotations

import platform
from importlib import metadata

from letheon.cli.screen import Format, FormatOption, print_document, print_fields
from letheon.version import __version__

_PARTS = ("torch", "monai", "grpcio", "numpy")


def version(output: FormatOption = Format.TABLE) -> None:
    """Print the versions of the agent, of Python and of what trains. Imports none of it."""
    parts = {"letheon": __version__, "python": platform.python_version()}
    parts |= {name: _installed(name) for name in _PARTS}
    if output is Format.JSON:
        print_document(parts)
    else:
        print_fields("", parts)


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
