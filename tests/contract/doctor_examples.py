"""Prints what `letheon-agent doctor` says of a healthy set-up and of broken ones.

`make doctor-examples`; docs/doctor.md holds its output.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from connect_proxy import ConnectProxy  # noqa: E402
from scripted_coordinator import SIDE, ScriptedCoordinator, a_plan  # noqa: E402
from tls_files import Authority, server_credentials  # noqa: E402

from client_agent.config_text import config_text  # noqa: E402
from letheon.v1 import sites_pb2  # noqa: E402

IMAGES = {"records": 80, "classes": 2, "channels": 1, "height": SIDE, "width": SIDE}


class Place:
    """A folder, an authority, and files for a site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self._own = self.authority.issue("north")

    @contextmanager
    def coordinator(self, *, days: float = 90.0) -> Iterator[ScriptedCoordinator]:
        """A registered site's coordinator, behind TLS."""
        made = ScriptedCoordinator(*a_plan())
        made.registrations.append(sites_pb2.RegisterSiteRequest(name="sites/north"))
        pair = self.authority.issue("server", days=days)
        made.start(credentials=server_credentials(pair, self.authority))
        try:
            yield made
        finally:
            made.stop()

    def examine(self, title: str, address: str, **more: Any) -> None:
        """Writes the configuration and lets doctor speak."""
        tls = {
            "ca": self.authority.certificate,
            "certificate": self._own.certificate,
            "key": self._own.key,
        }
        values: dict[str, Any] = {
            "coordinator": address.replace("127.0.0.1", "localhost"),
            "site": "north",
            "state_dir": self.folder / "state",
            "data": {"plugin": "synthetic", "arguments": IMAGES},
            "tls": tls,
            **more,
        }
        path = self.folder / "agent.toml"
        path.write_text(config_text(values))
        self.run(title, "doctor", path)

    def run(self, title: str, command: str, path: Path) -> None:
        """The command as a process; its output with short paths."""
        done = subprocess.run(
            [sys.executable, "-m", "client_agent.cli", command, "--config", str(path)],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        told = done.stdout.replace(str(self.folder), "/etc/letheon")
        print(
            f"## {title}\n\n$ letheon-agent {command}\n{told}exit code {done.returncode}\n",
            flush=True,
        )


def main() -> None:
    """Every example, one after the other."""
    with tempfile.TemporaryDirectory(prefix="doctor-", dir="/var/tmp") as name:
        place = Place(Path(name))
        with place.coordinator() as coordinator:
            address = coordinator.address
            # The split is fixed as enrolling does it.
            place.examine("before enrolling", address)
            place.run("enrolling", "enroll", place.folder / "agent.toml")
            place.examine("healthy", address)
            stranger = Authority(place.folder, "stranger").certificate
            place.examine("wrong authority", address, tls={"ca": stranger})
            old = place.authority.issue("old", days=-2)
            expired = {"ca": place.authority.certificate, "certificate": old.certificate}
            place.examine("expired certificate", address, tls={**expired, "key": old.key})
            with ConnectProxy(login="letheon:right") as proxy:
                network = {"proxy": f"http://{proxy.address}"}
                place.examine("a proxy that wants a password", address, network=network)
            coordinator.clock_ahead_s = 600.0
            missing = {"plugin": "npz", "arguments": {"path": "/srv/images/chest.npz"}}
            place.examine("clock and data", address, data=missing)
            coordinator.clock_ahead_s = 0.0
            (place.folder / "full").write_text("")
            place.examine(
                "a state directory that cannot be made",
                address,
                state_dir=place.folder / "full/state",
            )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place.examine("nobody listens", f"127.0.0.1:{free.getsockname()[1]}")


if __name__ == "__main__":
    main()
