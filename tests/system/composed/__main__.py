"""`make images-federation`: compose.yaml out of the built images, to a certified erasure.

What compose.yaml has from elsewhere is Debian's Redis and PostgreSQL and moto's S3 here; what is
ours is started with the images' own commands, the file's environment, volumes and health checks.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[2]))  # postgres_server, s3_server

from postgres_server import a_postgres_server
from s3_server import REGION, S3Server

from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.processes import Child

from .images import Image, mounted
from .places import DEPLOY, Places

_INSIDE = DEPLOY / "docker" / "inside.sh"
_SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
_OURS = [name for name, each in _SERVICES.items() if each["image"].startswith("letheon-")]
_ONCE = [name for name in _OURS if _SERVICES[name].get("restart") == "no"]
_LEAVES = "south"


class Composition:
    """Our services of compose.yaml, one by one."""

    def __init__(self, places: Places, images: dict[str, Image]) -> None:
        self._places, self._images = places, images
        self.running: dict[str, Child] = {}

    def line(self, name: str, command: list[str] | None = None) -> list[str]:
        """What starts a service, or another command in its container."""
        service = _SERVICES[name]
        image = self._images[service["image"]]
        environ = image.environ | service.get("environment", {})
        environ.pop("PATH", None)
        words: list[str] = [str(_INSIDE), str(image.tree)]
        for bind in self._places.binds(name, service.get("volumes", [])):
            words += ["--bind", bind]
        for key, value in environ.items():
            words += ["--env", f"{key}={self._places.told(name, str(value))}"]
        if command is None:
            command = [
                *service.get("entrypoint", image.entrypoint),
                *service.get("command", image.command),
            ]
        return [*words, "--", *(self._places.told(name, word) for word in command)]

    def run(self, name: str, command: list[str] | None = None, *, within_s: float = 300.0) -> str:
        """To its end; what it printed. Raises AssertionError if it fails."""
        done = subprocess.run(
            self.line(name, command), capture_output=True, text=True, timeout=within_s
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str) -> None:
        """In the background, until its health check holds, if it has one."""
        log = self._places.folder / f"{name}.log"
        self.running[name] = Child(self.line(name), log_path=log, name=name)
        self.running[name].start()
        check = _SERVICES[name].get("healthcheck")
        if check is not None:
            asked = self.line(name, check["test"][1:])
            self.until(
                f"{name} is healthy",
                lambda: subprocess.run(asked, capture_output=True).returncode == 0,
            )

    def until(self, what: str, holds: Callable[[], bool], within_s: float = 300.0) -> None:
        """Looks once a second. Raises AssertionError if a service ended or time is up."""
        end = time.monotonic() + within_s
        while not holds():
            for name, child in self.running.items():
                assert child.poll() is None, f"{name} ended: {child.log_tail(20)}"
            assert time.monotonic() < end, f"{what}: not within {within_s:.0f} s"
            time.sleep(1)

    def asked(self, who: str, *words: str) -> Any:
        """What `letheon` answers in the coordinator's container, with somebody's certificate."""
        identity = f"/etc/letheon/certificates/{who}"
        said = ["letheon", "--identity", identity, "--coordinator", self._places.coordinator]
        return json.loads(self.run("coordinator", [*said, *words, "--format", "json"]))

    def stop(self) -> None:
        """Everybody, in the reverse order of the start."""
        for child in reversed(self.running.values()):
            child.stop(20.0)


@contextmanager
def composed(folder: Path) -> Iterator[Composition]:
    """What is not ours, the trees of the images, and nothing started yet."""
    with ExitStack() as opened:
        images = {
            name: opened.enter_context(mounted(f"localhost/{name}:check"))
            for name in {_SERVICES[each]["image"] for each in _OURS}
        }
        database = opened.enter_context(a_postgres_server())
        redis = opened.enter_context(EmbeddedRedis(folder / "redis"))
        storage = S3Server()
        opened.callback(storage.stop)
        place = {"LocationConstraint": REGION}
        storage.client.create_bucket(Bucket="letheon", CreateBucketConfiguration=place)
        others = {
            "redis://redis:6379/0": redis.url,
            "postgresql+psycopg://letheon:demo-only@postgresql/letheon": database.create_database(
                "letheon"
            ),
            "http://storage:9000": storage.endpoint,
        }
        composition = Composition(Places(folder, others), images)
        opened.callback(composition.stop)
        yield composition


def tell(composition: Composition) -> None:
    """From nothing to a certified erasure. Raises AssertionError if something falls short."""
    begun = time.monotonic()

    def say(line: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:6.0f} s  {line}\n")
        sys.stdout.flush()

    for name in _ONCE:
        composition.run(name)
        say(f"{name}: done")
    for name in _OURS:
        if name not in _ONCE:
            composition.start(name)
            say(f"{name}: started" + (" and healthy" if "healthcheck" in _SERVICES[name] else ""))

    def version() -> int:
        return int(composition.asked("operator", "status")["federation"]["head_version"])

    composition.until("the first versions", lambda: version() >= 12)
    say(f"version {version()}: {_LEAVES} withdraws")
    ended = composition.asked(_LEAVES, "erase", "request", "--site", _LEAVES, "--watch")
    assert ended["state"] == "CERTIFIED", ended
    verified = composition.asked("operator", "certificate", "verify", ended["id"])
    assert verified["valid"], verified
    say(f"certified and verified: {verified['claim']}, level {verified['level_granted']}")
    before = version()
    composition.until("versions after it", lambda: version() > before)
    assert composition.asked("operator", "ledger", "verify")["holds"]
    say(f"version {version()}, the ledger holds")


def main() -> int:
    """The exit code."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # moto tells every call
    with tempfile.TemporaryDirectory(prefix="letheon-composed-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        with composed(folder) as composition:
            tell(composition)
    return 0


if __name__ == "__main__":
    sys.exit(main())
