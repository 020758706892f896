"""The way to the coordinator below gRPC: name, TCP, proxy. Each failure names its cause."""

from __future__ import annotations

import errno
import socket

from client_agent.checks.finding import Finding, Obstacle, failed, ok, within
from letheon.servicekit.route import HttpProxy

STEP_S = 5.0
_HEAD_BYTES = 64 * 1024


def check_name(host: str, *, of: str) -> Finding:
    """Whether the host name can be resolved."""
    try:
        found = within(STEP_S, lambda: socket.getaddrinfo(host.strip("[]"), None))
    except socket.gaierror:
        obstacle = Obstacle(
            f"the name {host} of the {of} is not known here",
            "Correct it in the configuration, or have it added to the hospital's DNS.",
        )
        return failed("dns", obstacle)
    except TimeoutError:
        sentence = f"no name server answered within {STEP_S:.0f} s for {host}"
        return failed("dns", Obstacle(sentence, "Look at /etc/resolv.conf and the firewall (53)."))
    addresses = sorted({str(entry[4][0]) for entry in found})
    return ok("dns", f"{host} ({of}) is {', '.join(addresses)}")


def connect(host: str, port: int, proxy: HttpProxy | None) -> socket.socket:
    """A connection to the coordinator, through the proxy if there is one. Raises Obstacle."""
    if proxy is None:
        return _open(host, port, f"the coordinator {host}:{port}")
    connection = _open(proxy.host, proxy.port, f"the proxy {proxy.host}:{proxy.port}")
    try:
        _ask_for_tunnel(connection, host, port, proxy)
    except BaseException:
        connection.close()
        raise
    return connection


def _open(host: str, port: int, what: str) -> socket.socket:
    try:
        return socket.create_connection((host.strip("[]"), port), timeout=STEP_S)
    except TimeoutError:
        raise Obstacle(
            f"{what} does not answer within {STEP_S:.0f} s",
            f"Ask the firewall's administrator to let this machine out to {host}, TCP port {port}.",
        ) from None
    except ConnectionRefusedError:
        raise Obstacle(
            f"{what} refuses the connection: nothing listens there",
            "Check host and port in the configuration; ask whether the service runs.",
        ) from None
    except OSError as error:
        unreachable = error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
        reason = "no route leads there" if unreachable else (error.strerror or str(error))
        raise Obstacle(
            f"{what} cannot be reached: {reason}", "Check the network of this machine."
        ) from error


def _ask_for_tunnel(connection: socket.socket, host: str, port: int, proxy: HttpProxy) -> None:
    what = f"the proxy {proxy.host}:{proxy.port}"
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    request = f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{login}\r\n"
    head = b""
    try:
        connection.sendall(request.encode())
        while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES:
            data = connection.recv(4096)
            if not data:
                break
            head += data
    except OSError as error:
        raise Obstacle(
            f"{what} does not answer CONNECT: {error.strerror or 'no answer in time'}",
            "Check that it is an HTTP proxy, and its port.",
        ) from error
    words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
    status = words[1] if len(words) > 1 and words[0].startswith("HTTP/") else ""
    if status == "200":
        return
    if status == "407":
        given = f"user {proxy.user!r}" if proxy.user else "no user"
        raise Obstacle(
            f"{what} wants other credentials than it was given ({given})",
            "Correct the user in network.proxy and the file network.proxy_password_file; for NTLM"
            " or Kerberos run a local CONNECT helper and name that one.",
        )
    if not status:
        raise Obstacle(f"{what} speaks no HTTP", "Check network.proxy: is it this port?")
    raise Obstacle(
        f"{what} refuses to connect to {host}:{port} (HTTP {status})",
        f"Ask the proxy's administrator to allow CONNECT to {host}:{port}, without inspection.",
    )
