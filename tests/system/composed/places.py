"""Where the services of compose.yaml are when they share one machine's loopback."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from running_coordinator import free_port

DEPLOY = Path(__file__).parents[3] / "deploy"
USER = 10001
# Ports that one service of ours has for itself.
_OWN = {
    "coordinator": (7300, 7301, 9464),
    "calibrator": (7302, 9465),
    "agent-north": (9466,),
    "agent-south": (9466,),
    "agent-east": (9466,),
}


class Places:
    """Folders for volumes and copies of mounted files; free ports for those of containers."""

    def __init__(self, folder: Path, others: Mapping[str, str]) -> None:
        """`others`: how compose.yaml names what is not ours, and where it is here."""
        self.folder = folder
        self._others = dict(others)
        self._ports = {name: {port: free_port() for port in ports} for name, ports in _OWN.items()}

    @property
    def coordinator(self) -> str:
        """Its address, under a name of its certificate."""
        return f"127.0.0.1:{self._ports['coordinator'][7300]}"

    def told(self, service: str, text: str) -> str:
        """A text of compose.yaml with the places of this machine; $$ is a dollar."""
        text = text.replace("$$", "$")
        for name, here in self._others.items():
            text = text.replace(name, here)
        text = text.replace("coordinator:7300", self.coordinator)
        for port, free in self._ports.get(service, {}).items():
            text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{free}")
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
        return text

    def binds(self, service: str, volumes: list[Any]) -> list[str]:
        """What inside.sh is to mount."""
        made = []
        for volume in volumes:
            source, target, *how = str(volume).split(":")
            if source.startswith("."):
                here = self.folder / "files" / service / Path(source).name
                here.parent.mkdir(parents=True, exist_ok=True)
                here.write_text(self.told(service, (DEPLOY / source).read_text()))
            else:
                here = self.folder / "volumes" / source
                here.mkdir(parents=True, exist_ok=True)
                shutil.chown(here, USER, USER)
            made.append(":".join([str(here), target, *how]))
        return made
