"""The calibrator as a real process: config file, Redis, SIGTERM, kill -9."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from erasure_world import ScriptedCoordinator

from letheon.errors import LetheonError
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.erasure_queue import RedisErasureQueue
from letheon.v1 import erasures_pb2 as pb

pytestmark = pytest.mark.system
DEADLINE_S = 60.0


class AnnouncingWorld(ScriptedCoordinator):
    """Tells a test when a call came in, and lets the retained sites work when asked."""

    def __init__(self):
        super().__init__()
        self.seen = threading.Condition()
        self.sites_work = True

    def enter(self, call):
        super().enter(call)
        if call == "federation" and self.sites_work:
            self.deltas(2)
        with self.seen:
            self.seen.notify_all()

    def wait_for(self, condition):
        with self.seen:
            assert self.seen.wait_for(condition, DEADLINE_S)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    try:
        redis = EmbeddedRedis(tmp_path_factory.mktemp("redis")).start()
    except LetheonError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Redis server: {error.message}")
    yield redis.url
    redis.stop()


@pytest.fixture
def world():
    made = AnnouncingWorld()
    server, made.address = made.start()
    yield made
    server.stop(0)


def start(world, redis_url, directory, more=""):
    config = directory / "calibrator.toml"
    config.write_text(
        f'coordinator = "{world.address}"\nredis_url = "{redis_url}"\nname = "calibrator-1"\n'
        f'state_dir = "{directory}/state"\npoll_seconds = 0.05\nblock_seconds = 0.2\n'
        f"reclaim_seconds = 0.5\nrenew_seconds = 0.1\n{more}"
    )
    command = [sys.executable, "-m", "calibrator", "--config", str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_killed_in_the_middle_and_started_again_it_certifies_and_stops_on_sigterm(
    world, redis_url, tmp_path
):
    queue = RedisErasureQueue(redis_url)
    world.sites_work = False
    queue.announce("e1")
    first = start(world, redis_url, tmp_path)
    world.wait_for(lambda: world.calls["federation"] > 2)  # it waits for retained deltas
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=DEADLINE_S)

    world.sites_work = True
    second = start(world, redis_url, tmp_path)
    world.wait_for(lambda: world.calls["conclude"] > 0)
    second.send_signal(signal.SIGTERM)
    _, log = second.communicate(timeout=DEADLINE_S)

    assert second.returncode == 0, log
    assert world.erasure.state == pb.Erasure.CERTIFIED
    assert world.calls["remove"] == 1
    assert '"event": "erasure_certified"' in log
    queue.close()


def test_a_job_that_hangs_does_not_keep_the_process_beyond_its_grace(world, redis_url, tmp_path):
    queue = RedisErasureQueue(redis_url)
    hangs, go_on = threading.Event(), threading.Event()
    enter = world.enter

    def hang(call):
        enter(call)
        if call == "remove":
            hangs.set()
            go_on.wait(DEADLINE_S)

    world.enter = hang
    queue.announce("e1")
    process = start(world, redis_url, tmp_path, "stop_grace_seconds = 0.5\n")
    assert hangs.wait(DEADLINE_S)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=DEADLINE_S)
    took_s = time.monotonic() - began
    go_on.set()
    assert process.returncode == 1
    assert took_s < 5.0
    queue.close()


def test_overlapping_images_are_refused_before_anything_is_taken(world, redis_url, tmp_path):
    source = 'plugin = "synthetic"\n[{0}.arguments]\nrecords = 8\nclasses = 2\nchannels = 1\n'
    size = "height = 12\nwidth = 12\nseed = 4\n"
    more = "".join(f"[{name}]\n{source.format(name)}{size}" for name in ("calibration", "audit"))
    process = start(world, redis_url, tmp_path, more)
    _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 78
    assert "share record ids" in log
    assert not world.calls["claim"]
