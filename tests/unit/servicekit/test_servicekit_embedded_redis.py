import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import redis

from letheon.errors import BadConfig
from letheon.servicekit.embedded_redis import EmbeddedRedis, find_server


@pytest.fixture(scope="module", autouse=True)
def _server_program() -> None:
    try:
        find_server()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)


def test_what_was_added_survives_a_kill_and_a_restart(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as first:
        client = redis.Redis.from_url(first.url, decode_responses=True)
        client.xadd("stream", {"erasure": "e1"})
        client.config_set("appendfsync", "always")
        client.xadd("stream", {"erasure": "e2"})
        first.child.kill()
    with EmbeddedRedis(tmp_path) as second:
        client = redis.Redis.from_url(second.url, decode_responses=True)
        assert [f["erasure"] for _, f in client.xrange("stream")] == ["e1", "e2"]


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BadConfig, match=str(port)):
            EmbeddedRedis(tmp_path, port).start()


def test_another_redis_on_the_port_is_not_taken_for_ours(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "one") as other:
        port = int(other.url.rpartition(":")[2].removesuffix("/0"))
        with pytest.raises(BadConfig, match=str(port)):
            EmbeddedRedis(tmp_path / "two", port).start()


def test_stopping_it_twice_is_harmless(tmp_path: Path) -> None:
    server = EmbeddedRedis(tmp_path).start()
    server.stop()
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_killing_the_parent_ends_the_redis_server(tmp_path: Path) -> None:
    script = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from letheon.servicekit.embedded_redis import EmbeddedRedis

        print(EmbeddedRedis(Path({str(tmp_path)!r})).start().child.pid, flush=True)
        sys.stdin.read()
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        server = psutil.Process(int(parent.stdout.readline()))
        assert server.is_running()
        os.kill(parent.pid, signal.SIGKILL)
        gone, _ = psutil.wait_procs([server], timeout=20)
        assert gone == [server]
