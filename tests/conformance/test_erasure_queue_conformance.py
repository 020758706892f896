"""One suite for every erasure queue: in memory, and Redis with a real server."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import redis

from letheon.errors import BadConfig, ClaimLost, StorageUnavailable
from letheon.servicekit.embedded_redis import EmbeddedRedis
from letheon.servicekit.erasure_queue import (
    ConsentRequest,
    Entry,
    ErasureQueue,
    MemoryErasureQueue,
    RedisErasureQueue,
)
from letheon.servicekit.redis_erasure_queue import DEAD_LETTERS_KEPT

STREAM = "letheon:erasures"
DEAD = "letheon:erasures:dead"
RECLAIM_S = 0.15
REQUEST = {"request_id": "r1", "site": "sites/north", "basis": "GDPR-17-1-b"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    try:
        started = EmbeddedRedis(tmp_path_factory.mktemp("redis")).start()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    yield started
    started.stop()


@pytest.fixture
def client(server: EmbeddedRedis) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


Add = Callable[[Mapping[str, str]], None]
Make = Callable[[float], tuple[ErasureQueue, Add]]


@pytest.fixture(params=["memory", "redis"])
def make(request: pytest.FixtureRequest) -> Make:
    """Builds a queue with a reclaim time in seconds, and what adds raw fields to it."""
    if request.param == "memory":

        def memory(reclaim_after_s: float) -> tuple[ErasureQueue, Add]:
            queue = MemoryErasureQueue(reclaim_after_s=reclaim_after_s)
            return queue, queue.add

        return memory
    client: redis.Redis = request.getfixturevalue("client")
    url = request.getfixturevalue("server").url

    def on_redis(reclaim_after_s: float) -> tuple[ErasureQueue, Add]:
        def add(fields: Mapping[str, str]) -> None:
            client.xadd(STREAM, dict(fields))  # type: ignore[arg-type]

        return RedisErasureQueue(url, reclaim_after_s=reclaim_after_s), add

    return on_redis


def taken(queue: ErasureQueue, consumer: str) -> Entry:
    """Takes an entry, waiting for one that is about to count as abandoned."""
    for _ in range(200):
        entry = queue.take(consumer, 0.05)
        if entry is not None:
            return entry
    raise AssertionError("nothing to take")


def test_an_empty_queue_has_nothing_to_take(make: Make) -> None:
    queue, _ = make(60)
    assert queue.take("a") is None
    assert queue.take("a", 0.01) is None
    assert queue.depth() == 0
    assert queue.dead_letters() == ()


def test_entries_are_taken_in_the_order_they_were_announced(make: Make) -> None:
    queue, _ = make(60)
    for erasure in ("e1", "e2", "e3"):
        queue.announce(erasure)
    assert [taken(queue, "a").erasure for _ in range(3)] == ["e1", "e2", "e3"]


def test_an_entry_is_in_one_pair_of_hands(make: Make) -> None:
    queue, _ = make(60)
    queue.announce("e1")
    assert taken(queue, "a").deliveries == 1
    assert queue.take("b") is None


def test_a_waiting_consumer_wakes_when_an_entry_comes(make: Make) -> None:
    queue, _ = make(60)
    found: list[Entry | None] = []
    waiter = threading.Thread(target=lambda: found.append(queue.take("a", 15)))
    waiter.start()
    queue.announce("e1")
    waiter.join(20)
    assert [e.erasure for e in found if e] == ["e1"]


def test_an_entry_counts_until_it_is_acknowledged(make: Make) -> None:
    queue, _ = make(60)
    queue.announce("e1")
    entry = taken(queue, "a")
    assert queue.depth() == 1
    queue.acknowledge(entry)
    queue.acknowledge(entry)
    assert queue.depth() == 0
    assert queue.take("b") is None


def test_an_abandoned_entry_goes_to_another_consumer(make: Make) -> None:
    queue, _ = make(RECLAIM_S)
    queue.announce("e1")
    first = taken(queue, "a")
    second = taken(queue, "b")
    assert (second.entry, second.erasure, second.consumer) == (first.entry, "e1", "b")
    assert second.deliveries == 2


def test_an_acknowledged_entry_is_never_reclaimed(make: Make) -> None:
    queue, _ = make(0.0)
    queue.announce("e1")
    queue.acknowledge(taken(queue, "a"))
    assert queue.take("b", 0.05) is None


def test_renewing_keeps_an_entry_and_counts_no_delivery(make: Make) -> None:
    queue, _ = make(1.0)
    queue.announce("e1")
    entry = taken(queue, "a")
    for _ in range(6):  # 1.2 s in all, longer than the time to reclaim
        assert queue.take("b", 0.2) is None
        queue.renew(entry)
    assert taken(queue, "b").deliveries == 2


def test_a_consumer_learns_that_another_one_took_over(make: Make) -> None:
    queue, _ = make(RECLAIM_S)
    queue.announce("e1")
    first = taken(queue, "a")
    second = taken(queue, "b")
    with pytest.raises(ClaimLost, match="b took over"):
        queue.renew(first)
    queue.renew(second)


def test_an_entry_that_was_put_back_at_once_is_taken_at_once_and_counts_no_delivery(
    make: Make,
) -> None:
    queue, _ = make(60)
    queue.announce("e1")
    first = taken(queue, "a")
    queue.put_back(first, at_once=True)
    second = queue.take("b")
    assert second is not None
    assert (second.entry, second.deliveries) == (first.entry, 1)
    queue.put_back(first, at_once=True)  # of another consumer by now: harmless
    assert queue.take("c") is None
    queue.acknowledge(second)
    queue.put_back(second, at_once=True)
    assert queue.take("c") is None


def test_an_entry_that_was_put_back_for_later_comes_after_the_usual_silence(make: Make) -> None:
    queue, _ = make(RECLAIM_S)
    queue.announce("e1")
    for _ in range(3):
        entry = taken(queue, "a")
        assert entry.deliveries == 1
        queue.put_back(entry, at_once=False)
        assert queue.take("b") is None


def test_renewing_what_is_done_is_harmless(make: Make) -> None:
    queue, _ = make(60)
    queue.announce("e1")
    entry = taken(queue, "a")
    queue.acknowledge(entry)
    queue.renew(entry)


def test_a_buried_entry_is_a_dead_letter_with_its_reason(make: Make) -> None:
    queue, _ = make(60)
    queue.announce("gone")
    entry = taken(queue, "a")
    queue.bury(entry, "no such erasure")
    (letter,) = queue.dead_letters()
    assert (letter.entry, letter.reason) == (entry.entry, "no such erasure")
    assert letter.fields == {"erasure": "gone", "schema": "1"}
    assert queue.depth() == 0


def test_a_request_of_a_consent_system_is_read(make: Make) -> None:
    queue, add = make(60)
    add({"request": json.dumps(REQUEST), "schema": "1"})
    entry = taken(queue, "a")
    assert entry.erasure is None
    assert entry.request == ConsentRequest("r1", "sites/north", "GDPR-17-1-b")
    queue.bury(entry, "refused")
    assert json.loads(queue.dead_letters()[0].fields["request"]) == REQUEST


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"erasure": "e1"}, "schema"),
        ({"erasure": "e1", "schema": "2"}, "schema"),
        ({"schema": "1"}, "exactly one"),
        ({"erasure": "e1", "request": "{}", "schema": "1"}, "exactly one"),
        ({"request": "no json", "schema": "1"}, "not JSON"),
        ({"request": "[]", "schema": "1"}, "must hold exactly"),
        ({"request": json.dumps({**REQUEST, "patient": "p"}), "schema": "1"}, "must hold exactly"),
        ({"request": json.dumps({**REQUEST, "site": 7}), "schema": "1"}, "must be texts"),
        ({"\udcff".encode(errors="replace").decode(): "x"}, "schema"),
    ],
)
def test_a_malformed_entry_is_buried_and_the_next_one_is_taken(
    make: Make, fields: dict[str, str], reason: str
) -> None:
    queue, add = make(60)
    add(fields)
    queue.announce("good")
    assert taken(queue, "a").erasure == "good"
    (letter,) = queue.dead_letters()
    assert reason in letter.reason
    assert letter.fields == fields
    assert queue.depth() == 1


def test_many_consumers_take_every_entry_once(make: Make) -> None:
    queue, _ = make(60)
    erasures = {f"e{n}" for n in range(24)}
    for erasure in erasures:
        queue.announce(erasure)
    seen: list[str] = []

    def consume(name: str) -> None:
        while (entry := queue.take(name)) is not None:
            seen.append(str(entry.erasure))
            queue.acknowledge(entry)

    threads = [threading.Thread(target=consume, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == sorted(erasures)


def test_redis_may_be_flushed_at_any_moment(server: EmbeddedRedis, client: redis.Redis) -> None:
    queue = RedisErasureQueue(server.url)
    queue.announce("e1")
    entry = taken(queue, "a")
    client.flushall()
    queue.renew(entry)
    queue.acknowledge(entry)
    assert queue.take("a") is None
    client.flushall()
    queue.announce("e1")
    assert taken(queue, "a").erasure == "e1"


def test_a_consumer_that_waits_survives_a_flush(server: EmbeddedRedis, client: redis.Redis) -> None:
    queue = RedisErasureQueue(server.url)
    assert queue.take("a") is None  # the group exists now
    found: list[str | None] = []
    waiter = threading.Thread(target=lambda: found.append(taken(queue, "a").erasure))
    waiter.start()
    client.flushall()
    queue.announce("e2")
    waiter.join(20)
    assert found == ["e2"]


def test_a_deleted_entry_does_not_stay_pending(server: EmbeddedRedis, client: redis.Redis) -> None:
    queue = RedisErasureQueue(server.url, reclaim_after_s=0.0)
    queue.announce("e1")
    queue.announce("e2")
    deleted = taken(queue, "a")
    client.xdel(STREAM, deleted.entry)
    assert taken(queue, "b").erasure == "e2"
    pending = client.xpending_range(STREAM, "calibrators", "-", "+", 10)
    assert deleted.entry not in [p["message_id"] for p in pending]


def test_a_field_that_is_no_text_is_buried(server: EmbeddedRedis, client: redis.Redis) -> None:
    queue = RedisErasureQueue(server.url)
    client.execute_command("XADD", STREAM, "*", b"\xff\xfe", b"\xff")
    queue.announce("good")
    assert taken(queue, "a").erasure == "good"
    assert "schema" in queue.dead_letters()[0].reason


def test_while_redis_is_absent_every_call_says_so_and_afterwards_works(tmp_path: Path) -> None:
    try:
        server = EmbeddedRedis(tmp_path).start()
    except BadConfig as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(error.message)
    port = int(server.url.rsplit(":", 1)[1].removesuffix("/0"))
    queue = RedisErasureQueue(server.url)
    queue.announce("e1")
    entry = taken(queue, "a")
    server.stop()
    calls: list[Callable[[], object]] = [
        lambda: queue.announce("e2"),
        lambda: queue.take("a", 1),
        lambda: queue.renew(entry),
        lambda: queue.put_back(entry, at_once=True),
        lambda: queue.acknowledge(entry),
        lambda: queue.bury(entry, "why"),
        queue.depth,
        queue.dead_letters,
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable):
            call()
    with EmbeddedRedis(tmp_path, port):
        queue.acknowledge(entry)
        assert queue.depth() == 0


def test_dead_letters_are_bounded(server: EmbeddedRedis, client: redis.Redis) -> None:
    queue = RedisErasureQueue(server.url)
    for number in range(DEAD_LETTERS_KEPT + 300):
        client.xadd(DEAD, {"entry": str(number), "reason": "old", "fields": "{}"})
    queue.announce("e1")
    queue.bury(taken(queue, "a"), "newest")
    letters = queue.dead_letters()
    assert len(letters) <= DEAD_LETTERS_KEPT + 100  # Redis trims whole nodes
    assert letters[-1].reason == "newest"


def test_a_letter_that_cannot_be_written_leaves_its_entry_in_the_queue(
    server: EmbeddedRedis, client: redis.Redis
) -> None:
    queue = RedisErasureQueue(server.url, reclaim_after_s=0.0)
    queue.announce("e1")
    entry = taken(queue, "a")
    client.set(DEAD, "taken by something else")
    with pytest.raises(StorageUnavailable, match="WRONGTYPE"):
        queue.bury(entry, "why")
    assert queue.depth() == 1
    client.delete(DEAD)
    queue.bury(taken(queue, "b"), "why")
    assert queue.depth() == 0


Trouble = tuple[Callable[[redis.Redis], object], Callable[[redis.Redis], object], str]
TROUBLES: dict[str, Trouble] = {
    "read-only replica": (
        lambda client: client.execute_command("REPLICAOF", "127.0.0.1", "1"),
        lambda client: client.execute_command("REPLICAOF", "NO", "ONE"),
        "read only replica",
    ),
    "out of memory": (
        lambda client: client.config_set("maxmemory", "1"),
        lambda client: client.config_set("maxmemory", "0"),
        "maxmemory",
    ),
    "wrong type": (
        lambda client: client.set(STREAM, "taken by something else"),
        lambda client: client.delete(STREAM),
        "WRONGTYPE",
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_redis_in_trouble_says_why_and_works_again_afterwards(
    server: EmbeddedRedis, client: redis.Redis, trouble: str
) -> None:
    begin, end, says = TROUBLES[trouble]
    queue = RedisErasureQueue(server.url)
    begin(client)
    try:
        for call in (lambda: queue.announce("e1"), lambda: queue.take("a")):
            with pytest.raises(StorageUnavailable, match=says):
                call()
    finally:
        end(client)
    queue.announce("e1")
    assert taken(queue, "a").erasure == "e1"
