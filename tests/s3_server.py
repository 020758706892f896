"""A real S3 server on loopback, for tests: moto behind werkzeug, with a fresh bucket each."""

from __future__ import annotations

import json
import socket
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import boto3
import botocore.config
from moto.server import ThreadedMotoServer

KEY, SECRET, REGION = "letheon-test", "letheon-test-secret", "eu-central-1"


class S3Server:
    """Starts on a free port and keeps it: `stop` and `start` are an outage that loses nothing."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._server: ThreadedMotoServer | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serves; what was stored before is there."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Refuses connections from now on."""
        if self._server is not None:
            self._server.stop()
            # moto leaves the socket open: callers would wait in its backlog.
            self._server._server.server_close()
            self._server = None

    def options(self, secret: str = SECRET) -> dict[str, str]:
        """What `storage.options` holds."""
        return {
            "key": KEY,
            "secret": secret,
            "endpoint_url": self.endpoint,
            "client_kwargs": json.dumps({"region_name": REGION}),
        }

    @cached_property  # making one takes longer than most tests
    def client(self) -> Any:
        """A client of another library, to look at the bucket and to damage it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name=REGION,
            config=botocore.config.Config(retries={"max_attempts": 1}),
        )

    def new_bucket(self, *, versioned: bool = False) -> str:
        """The name of a fresh, empty bucket."""
        name = f"letheon-{uuid.uuid4().hex}"
        client = self.client
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    def keys(self, bucket: str) -> set[str]:
        """Every object of a bucket."""
        return {
            one["Key"] for one in self.client.list_objects_v2(Bucket=bucket).get("Contents", ())
        }

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Checks who calls: nobody is known, so everybody is refused."""
        self._ask_for_identity_after(0)
        try:
            yield
        finally:
            self._ask_for_identity_after(1 << 30)

    def _ask_for_identity_after(self, calls: int) -> None:
        request = urllib.request.Request(  # noqa: S310 (loopback)
            f"{self.endpoint}/moto-api/reset-auth",
            data=str(calls).encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=5).close()  # noqa: S310
