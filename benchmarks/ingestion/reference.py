"""The pipeline Letheon is measured against: the least that any server has to do.

A gRPC client stream of raw 1 MiB messages. `pipeline` takes SHA-256 of them, writes them to one
file and makes it durable; `stream` drops them. No rules, no rows, no checks. `Fetch` streams a
file back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import threading
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc

from letheon.servicekit.stop_signal import on_stop_signal

MESSAGE_BYTES = 1 << 20
PUSH, DROP, FETCH = "/reference.Bytes/Push", "/reference.Bytes/Drop", "/reference.Bytes/Fetch"
OPTIONS = (
    ("grpc.max_receive_message_length", 2 * MESSAGE_BYTES),
    ("grpc.max_send_message_length", 2 * MESSAGE_BYTES),
)


class Bytes(grpc.GenericRpcHandler):
    """Three methods of bytes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        match details.method:
            case "/reference.Bytes/Push":
                return grpc.stream_unary_rpc_method_handler(self._push)
            case "/reference.Bytes/Drop":
                return grpc.stream_unary_rpc_method_handler(drop)
            case "/reference.Bytes/Fetch":
                return grpc.unary_stream_rpc_method_handler(fetch)
        return None

    def _push(self, messages: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
        hasher = hashlib.sha256()
        path = self._directory / uuid.uuid4().hex
        with path.open("wb", buffering=0) as file:
            for message in messages:
                hasher.update(message)
                file.write(message)
            os.fsync(file.fileno())
        digest = hasher.digest()
        # Its time is not the client's, who waits for the return.
        threading.Thread(target=path.unlink).start()
        return digest


def drop(messages: Iterator[bytes], _: grpc.ServicerContext) -> bytes:
    """The number of bytes that came."""
    return str(sum(len(message) for message in messages)).encode()


def fetch(request: bytes, _: grpc.ServicerContext) -> Iterator[bytes]:
    """The file of that name."""
    with Path(request.decode()).open("rb") as file:
        while block := file.read(MESSAGE_BYTES):
            yield block


def server_credentials(identity: Path) -> grpc.ServerCredentials:
    """Of the folder; clients need a certificate of the same authority."""
    authority, key, certificate = read_identity(identity)
    return grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authority, require_client_auth=True
    )


def read_identity(folder: Path) -> tuple[bytes, bytes, bytes]:
    """Certificates of the authority, the key, and its certificate, in PEM."""
    authority, key, certificate = (
        (folder / name).read_bytes() for name in ("ca.pem", "key.pem", "certificate.pem")
    )
    return authority, key, certificate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--address-file", type=Path, required=True)
    parser.add_argument("--identity", type=Path, help="a folder of certificates: mutual TLS")
    options = parser.parse_args()
    ending = threading.Event()
    on_stop_signal(ending.set)
    server = grpc.server(
        futures.ThreadPoolExecutor(32), handlers=[Bytes(options.directory)], options=OPTIONS
    )
    if options.identity is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", server_credentials(options.identity))
    server.start()
    unfinished = options.address_file.with_suffix(".new")
    unfinished.write_text(f"127.0.0.1:{port}")
    unfinished.replace(options.address_file)
    ending.wait()
    server.stop(0.2).wait()


if __name__ == "__main__":
    main()
