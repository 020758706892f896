"""The configuration file that `letheon-agent enroll` writes: short, with a comment a key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from letheon.cli.local.toml_text import TomlTable, toml_text
from letheon.errors import BadConfig

_NAME = re.compile(r"\[(?P<table>\w+)\]$|(?P<key>\w+) = ")

_COMMENTS: Mapping[str, str] = {
    "coordinator": "The only address that is ever connected to. Outbound only.",
    "site": "The site's name in the federation.",
    "display_name": "Shown to people beside it.",
    "state_dir": "Outbox, contribution log, the fixed split. Back it up.",
    "control_share": "Of the patients, never trained on. Fixed at enrolment.",
    "validation_share": "Of the patients, to measure utility on. Fixed at enrolment.",
    "data": "Where the records are. They stay here.",
    "tls": "PEM files. Without this table the connection is not encrypted.",
    "network": "The hospital's rules for the one outgoing connection.",
}
_TITLE = """\
# The agent of one site. `letheon-agent enroll` wrote this file; it holds no secret.
# Every key there is: docs/configuration.md. After a change: letheon-agent check-config.
"""


def config_text(values: TomlTable) -> str:
    """TOML of a table, with a comment above what it knows."""
    lines = [_TITLE]
    for line in toml_text(values).splitlines():
        # Plain keys come before the first table, so a key's name alone says where it stands.
        match = _NAME.match(line)
        comment = _COMMENTS.get(match["table"] or match["key"], "") if match else ""
        if comment:
            lines.append(f"# {comment}")
        lines.append(line)
    return "\n".join(lines) + "\n"


def write_config(path: Path, text: str) -> None:
    """Writes the file; it is there whole or not at all, and anybody may read it.

    Raises BadConfig if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise BadConfig(f"{path} cannot be written: {error.strerror}") from error


def check_writable(path: Path) -> None:
    """Raises BadConfig unless `write_config` will be able to write there; changes nothing."""
    place = path.parent.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if path.is_dir() or not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise BadConfig(f"{path} cannot be written: run the command as root, or give --config")
