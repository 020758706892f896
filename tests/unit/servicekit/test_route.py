"""TLS files and proxies of a channel, against real servers and a real CONNECT proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from connect_proxy import ConnectProxy
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tls_files import Authority, server_credentials

from letheon.errors import BadConfig, CoordinatorUnreachable
from letheon.servicekit.channel import open_channel
from letheon.servicekit.route import (
    HttpProxy,
    Route,
    TlsFiles,
    bypasses_proxy,
    check_pair,
    read_proxy,
)
from letheon.servicekit.server import Server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def address(authority: Authority) -> Iterator[str]:
    server = Server([], credentials=server_credentials(authority.issue("server"), authority))
    yield server.start().replace("127.0.0.1", "localhost")
    server.stop(0.0)


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    pair = authority.issue("north")
    return TlsFiles(authority.certificate, pair.certificate, pair.key)


def serving(address: str, route: Route) -> bool:
    channel = open_channel(address, route=route, deadline_s=10.0)
    try:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    finally:
        channel.close()


def proxied(proxy: ConnectProxy, user: str = "", password: str = "") -> HttpProxy:
    host, _, port = proxy.address.rpartition(":")
    return HttpProxy(host, int(port), user, password)


def test_both_sides_show_their_certificates(address: str, files: TlsFiles) -> None:
    assert serving(address, Route(tls=files))


def test_without_a_certificate_of_the_site_there_is_no_connection(
    address: str, files: TlsFiles
) -> None:
    with pytest.raises(CoordinatorUnreachable):
        serving(address, Route(tls=TlsFiles(ca=files.ca)))


def test_an_expired_server_is_not_trusted(authority: Authority) -> None:
    server = Server([], credentials=server_credentials(authority.issue("old", days=-1), None))
    try:
        with pytest.raises(CoordinatorUnreachable, match="certificate has expired"):
            serving(server.start(), Route(tls=TlsFiles(authority.certificate)))
    finally:
        server.stop(0.0)


def test_another_name_in_the_certificate_is_accepted_when_it_was_named(
    authority: Authority,
) -> None:
    pair = authority.issue("elsewhere", host="coordinator.internal")
    server = Server([], credentials=server_credentials(pair, None))
    address = server.start()
    ca = authority.certificate
    try:
        assert serving(address, Route(TlsFiles(ca, server_name="coordinator.internal")))
        with pytest.raises(CoordinatorUnreachable):
            serving(address, Route(TlsFiles(ca)))
    finally:
        server.stop(0.0)


def test_the_proxy_is_asked_to_connect_whatever_its_password_holds(
    address: str, files: TlsFiles
) -> None:
    password = "p@ss:/w%rd é"
    with ConnectProxy(login=f"max:{password}") as proxy:
        assert serving(address, Route(files, proxied(proxy, "max", password)))
        assert proxy.asked == [address]


def test_a_proxy_that_refuses_the_credentials_is_named_with_its_code(
    address: str, files: TlsFiles
) -> None:
    with (
        ConnectProxy(login="max:right") as proxy,
        pytest.raises(CoordinatorUnreachable, match="407"),
    ):
        serving(address, Route(files, proxied(proxy, "max", "wrong")))


def test_the_environment_decides_nothing(
    address: str, files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert serving(address, Route(tls=files))
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    with ConnectProxy() as proxy:
        assert serving(address, Route(files, proxied(proxy)))
        assert proxy.asked == [address]


def test_a_key_of_another_certificate_is_named(authority: Authority, files: TlsFiles) -> None:
    other = authority.issue("south")
    with pytest.raises(BadConfig, match=r"south\.key is not the key of the certificate"):
        check_pair(TlsFiles(files.ca, files.certificate, other.key))


def test_a_file_that_is_missing_or_no_pem_is_named(tmp_path: Path, files: TlsFiles) -> None:
    with pytest.raises(BadConfig, match=r"tls\.ca .*absent\.pem cannot be read"):
        check_pair(TlsFiles(tmp_path / "absent.pem"))
    (tmp_path / "text.pem").write_text("hello")
    with pytest.raises(BadConfig, match=r"tls\.certificate .*holds no PEM certificate"):
        check_pair(TlsFiles(files.ca, tmp_path / "text.pem", files.key))


def test_a_proxys_password_is_in_no_repr() -> None:
    assert "s3cret" not in repr(Route(proxy=HttpProxy("p", 3128, "max", "s3cret")))


@pytest.mark.parametrize(
    ("url", "rule"),
    [("https://p:1", "not supported"), ("socks5://p:1", "not supported"), ("p:3128", "http://"),
     ("http://max:secret@p:1", "write it to a file"), ("http://p:1/path", "nothing follows"),
     ("http://p:99999", "http://user@host:port"), ("http://:3128", "http://user@host:port")],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_refused_with_the_rule(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        read_proxy(url, None)


@pytest.mark.parametrize(
    ("host", "pattern", "direct"),
    [("a.example.org", ".example.org", True), ("a.example.org", "*.example.org", True),
     ("example.org", ".example.org", True), ("badexample.org", ".example.org", False),
     ("A.example.org.", "a.example.org", True), ("10.1.2.3", "10.0.0.0/8", True),
     ("11.1.2.3", "10.0.0.0/8", False), ("[::1]", "::1", True), ("a", "*", True),
     ("a.org", "b.org", False)],
)  # fmt: skip
def test_which_hosts_are_reached_without_the_proxy(host: str, pattern: str, direct: bool) -> None:
    assert bypasses_proxy(host, [pattern]) is direct
