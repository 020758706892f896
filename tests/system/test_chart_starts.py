"""What the chart tells its pods, told to real processes: two coordinators and a calibrator.

Addresses of loopback stand for pods, so that both have the ports of the chart's containers, moved
to free ones; folders stand for volumes and secrets.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from builders import a_federation
from chart.rendering import matrix, one, render
from grpc_health.v1 import health_pb2, health_pb2_grpc
from running_coordinator import free_port, until

from letheon.errors import LetheonError
from letheon.servicekit.authority import FileAuthority
from letheon.servicekit.caller import Role
from letheon.servicekit.channel import open_channel
from letheon.servicekit.identity import Identity
from letheon.servicekit.identity_folder import files_in, write_identity
from letheon.servicekit.processes import Child
from letheon.servicekit.route import Route
from letheon.servicekit.signing import SigningKey
from letheon.v1 import federation_pb2, federation_pb2_grpc

pytestmark = [pytest.mark.system, pytest.mark.timeout(200)]

PODS = ("127.0.0.2", "127.0.0.3")
PORTS = (7300, 7301, 7302, 7303, 9464, 9465)
LIFE = timedelta(days=1)


@dataclass
class Cluster:
    """Folders, ports and secrets of one installation."""

    folder: Path
    database_url: str
    authority: FileAuthority
    ports: dict[int, int]
    redis_url: str

    def told(self, service: str, ip: str, text: str) -> Path:
        """The file of a pod: what the chart renders, with this test's places."""
        own = self.folder / f"{service}-{ip}"
        own.mkdir()
        for port, free in self.ports.items():
            text = text.replace(f'"0.0.0.0:{port}"', f'"{ip}:{free}"')
        text = text.replace("trial-letheon-coordinator.hospitals.svc:7300", self.address(PODS[0]))
        # What each pod has for itself, and what all of them mount.
        text = text.replace(f"/var/lib/letheon/{service}", str(own / "data"))
        text = text.replace("/etc/letheon/tls", str(self.folder / f"tls-{service}"))
        for shared in ("/var/lib/letheon", "/etc/letheon"):
            text = text.replace(shared, str(self.folder / "shared"))
        path = own / f"{service}.toml"
        path.write_text(text)
        return path

    def address(self, ip: str, port: int = 7300) -> str:
        """Of a pod's port."""
        return f"{ip}:{self.ports[port]}"

    def secret(self, name: str, who: Identity | None) -> None:
        """As cert-manager names the files."""
        now, place = datetime.now(UTC), self.folder / name
        write_identity(
            place,
            self.authority,
            lambda key: (
                self.authority.issue_server(list(PODS), key, now, LIFE)
                if who is None
                else self.authority.issue(who, key, now, LIFE)
            ),
        )
        for file, usual in (("ca", "ca.crt"), ("certificate", "tls.crt"), ("key", "tls.key")):
            shutil.copy(place / f"{file}.pem", place / usual)


@pytest.fixture
def cluster(tmp_path: Path, postgres_url: str) -> Cluster:
    if importlib.util.find_spec("helm_python") is None:
        reason = "helm_python is not installed (make setup)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    shared = tmp_path / "shared"
    a_federation(shared / "federation")
    for name in ("shared", "signing", "deny"):
        (shared / name).mkdir()
    (shared / "deny" / "deny.list").touch()
    for key in ("coordinator_key.pem", "signing_key.pem"):
        SigningKey.load_or_create(shared / "signing" / key)
    authority = FileAuthority.init(shared / "ca", "chest", datetime.now(UTC))
    ports = {port: free_port() for port in PORTS}
    made = Cluster(tmp_path, postgres_url, authority, ports, f"redis://127.0.0.1:{free_port()}/0")
    made.secret("tls-coordinator", None)
    made.secret("tls-calibrator", Identity("chest", Role.CALIBRATOR, "trial-letheon"))
    made.secret("operator", Identity("chest", Role.OPERATOR, "ada"))
    return made


@contextmanager
def a_pod(cluster: Cluster, service: str, ip: str, text: str) -> Iterator[Child]:
    environ = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "LETHEON_REDIS_URL": cluster.redis_url,
        "LETHEON_DATABASE__URL": cluster.database_url,
        "LETHEON_DATABASE__INSTANCE": cluster.address(ip),
        "LETHEON_NAME": "calibrator-pod",
    }
    config = cluster.told(service, ip, text)
    pod = Child(
        [sys.executable, "-m", service, "--config", config],
        log_path=config.with_suffix(".log"),
        env=environ,
    )
    pod.start()
    try:
        yield pod
    finally:
        pod.stop(5.0)


def is_well(address: str, service: str) -> bool:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = stub.Check(request, timeout=5, wait_for_ready=True)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_the_pods_of_the_chart_start_and_one_takes_over_from_the_other(cluster: Cluster) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed (make system-deps)")
    documents = render(matrix()["keda"])
    texts = {
        service: str(one(documents, "ConfigMap", service)["data"][f"{service}.toml"])
        for service in ("coordinator", "calibrator")
    }
    port = cluster.redis_url.split(":")[-1].split("/")[0]
    redis = ["redis-server", "--port", port, "--save", "", "--dir", cluster.folder]
    leader_ip, standby_ip = PODS
    with ExitStack() as running:
        server = Child(redis, log_path=cluster.folder / "redis.log").start()
        running.callback(server.kill)
        leader = running.enter_context(
            a_pod(cluster, "coordinator", leader_ip, texts["coordinator"])
        )
        until(lambda: is_well(cluster.address(leader_ip, 7301), "leader"), leader.log_tail)
        standby = running.enter_context(
            a_pod(cluster, "coordinator", standby_ip, texts["coordinator"])
        )
        until(lambda: is_well(cluster.address(standby_ip, 7301), "readiness"), standby.log_tail)
        assert not is_well(cluster.address(standby_ip, 7301), "leader")
        calibrator = running.enter_context(
            a_pod(cluster, "calibrator", leader_ip, texts["calibrator"])
        )
        until(lambda: is_well(cluster.address(leader_ip, 7302), "readiness"), calibrator.log_tail)

        route = Route(tls=files_in(cluster.folder / "operator"))
        channel = open_channel(cluster.address(standby_ip), route=route, deadline_s=10.0)
        running.callback(channel.close)
        stub = federation_pb2_grpc.FederationStub(channel)

        def answers() -> bool:
            try:
                stub.GetFederation(federation_pb2.GetFederationRequest())
            except LetheonError:
                return False
            return True

        until(answers, standby.log_tail)  # by the leader, through the standby
        leader.kill()
        until(lambda: is_well(cluster.address(standby_ip, 7301), "leader"), standby.log_tail)
        until(answers, standby.log_tail)
