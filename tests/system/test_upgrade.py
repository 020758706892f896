"""A rolling upgrade: the previous release and this one side by side, agents of both going on.

The previous release is a wheel, built from an older revision of this repository.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from builders import Client, a_federation
from running_coordinator import Running, free_port, until

from letheon.servicekit.byte_relay import ByteRelay
from letheon.servicekit.processes import Child
from letheon.v1 import ledger_pb2, sites_pb2

# The last revision before the one that begins this release; a tag will take its place.
PREVIOUS = "825d44d8980f0ee24a440c68f2044516478f1873"
ROOT = Path(__file__).parents[2]
OLD, NEW = "north", "south"

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


@dataclass(frozen=True)
class Release:
    """Where a release is installed, and where its tests are."""

    site_packages: Path | None  # None: this checkout
    tests: Path

    def environment(self) -> dict[str, str]:
        """Its code before this one's."""
        path = {} if self.site_packages is None else {"PYTHONPATH": str(self.site_packages)}
        return {**os.environ, "OMP_NUM_THREADS": "1", **path}


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Release:
    known = subprocess.run(
        ["git", "cat-file", "-e", f"{PREVIOUS}^{{commit}}"], cwd=ROOT, capture_output=True
    )
    if known.returncode != 0:
        pytest.skip(f"revision {PREVIOUS[:12]} is not in this clone: it is a shallow one")
    folder = tmp_path_factory.mktemp("previous")
    archive = folder / "source.tar"
    subprocess.run(
        ["git", "archive", "--output", archive, PREVIOUS], cwd=ROOT, check=True, timeout=60
    )
    source = folder / "source"
    with tarfile.open(archive) as content:
        content.extractall(source, filter="data")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    plain = ["--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "wheel", *plain, "--wheel-dir", folder, source], check=True, timeout=120)
    (wheel,) = folder.glob("letheon-*.whl")
    installed = folder / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-index", "--target", installed, wheel],
        check=True,
        timeout=120,
    )
    tests = folder / "run"
    tests.mkdir()
    (source / "tests").rename(tests / "tests")
    return Release(installed, tests)


@contextmanager
def an_agent(release: Release, directory: Path, site: str, coordinator: str) -> Iterator[Child]:
    directory.mkdir(parents=True)
    config = directory / "agent.toml"
    config.write_text(
        f'coordinator = "{coordinator}"\nsite = "{site}"\nstate_dir = "{directory / "state"}"\n'
        f'[data]\nplugin = "synthetic"\narguments = {{ seed = {len(site)}, seconds = 0.05 }}\n'
        "[poll]\nminimum_seconds = 0.05\nbackoff_cap_seconds = 0.5\n"
    )
    agent = Child(
        [sys.executable, "-m", "tests.system.chaos.toy_agent", "--config", config],
        log_path=directory / "log",
        name=site,
        env=release.environment(),
        cwd=release.tests,
    )
    agent.start()
    try:
        yield agent
    finally:
        agent.stop(10.0)


def accepted(client: Client) -> dict[str, int]:
    """Accepted updates of each site."""
    answer = client.sites.ListSites(sites_pb2.ListSitesRequest(), timeout=60)
    return {each.name.removeprefix("sites/"): each.accepted_deltas for each in answer.sites}


def until_both_go_on(client: Client, more: int, told: list[Path]) -> None:
    before = accepted(client)

    def both() -> bool:
        now = accepted(client)
        return all(now.get(site, 0) >= before.get(site, 0) + more for site in (OLD, NEW))

    until(both, lambda: "\n".join(path.read_text()[-3000:] for path in told))


def test_agents_of_both_releases_go_on_through_a_rolling_upgrade(
    previous: Release, postgres_url: str, tmp_path: Path
) -> None:
    plan = a_federation(tmp_path / "federation")
    shared = tmp_path / "shared"
    shared.mkdir()
    told = [tmp_path / OLD / "log", tmp_path / NEW / "log"]
    leader = f"127.0.0.1:{free_port()}"
    common = {"federation_dir": str(tmp_path / "federation")}
    storage = f'[storage]\nurl = "file://{shared}"\n'
    address = [leader]
    balancer = ByteRelay("127.0.0.1:0", lambda: address[0])
    front = balancer.start()
    older = newer = None
    try:
        older = Running(
            tmp_path / "older",
            postgres_url,
            "older",
            3.0,
            listen=leader,
            top=common,
            tables=storage,
            env=previous.environment(),
            cwd=previous.tests,
            knows_probes=False,
        )
        older.until_serving()
        client = Client(front, plan)
        this = Release(None, ROOT)
        with (
            an_agent(previous, tmp_path / OLD, OLD, front),
            an_agent(this, tmp_path / NEW, NEW, front),
        ):
            # A newer agent and an older one at an older coordinator.
            until_both_go_on(client, 3, told)
            second = f"127.0.0.1:{free_port()}"
            newer = Running(
                tmp_path / "newer",
                postgres_url,
                second,
                3.0,
                listen=second,
                top=common,
                tables=storage + "[standby]\nrelay = true\n",
            )
            # It has migrated the database, stands by, and the older one goes on with it.
            newer.until_well("readiness")
            assert "waiting_for_lease" in newer.log()
            until_both_go_on(client, 3, told)
            assert older.process.poll() is None
            assert older.stop() == 0, older.log()
            newer.until_well("leader")
            address[0] = second
            client.close()
            client = Client(front, plan)
            # Both at the newer coordinator.
            until_both_go_on(client, 3, told)
        *_, last = client.ledger.VerifyLedger(ledger_pb2.VerifyLedgerRequest(), timeout=60)
        assert last.verdict.holds, last.verdict.reason
        client.close()
    finally:
        for each in (older, newer):
            if each is not None:
                each.end()
        balancer.stop()


def test_the_wheel_of_the_previous_release_is_what_runs(previous: Release) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import coordinator.process as p; print(p.__file__)"],
        capture_output=True,
        text=True,
        env=previous.environment(),
        cwd=previous.tests,
        check=True,
        timeout=60,
    )
    assert done.stdout.startswith(str(previous.site_packages))
