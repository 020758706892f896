"""A payload that is published before its row: kept from sweepers, taken back after a refusal."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import a_core, a_vector, enrol, take_delta

from coordinator.core import Core
from letheon.errors import SiteFenced, StorageUnavailable
from letheon.federation.encoding import encode

BYTES = encode(a_vector(1), "float32")
SHA = hashlib.sha256(BYTES).hexdigest()


@pytest.fixture
def core(tmp_path: Path) -> Core:
    made = a_core(tmp_path)
    enrol(made, "north", "south")
    return made


@contextmanager
def publishing(core: Core, update_id: str) -> Iterator[None]:
    with core.staging.open(update_id, len(BYTES)) as staging:
        staging.append(BYTES)
        with core.in_flight.published(staging, SHA):
            yield


def publish_and_fail(core: Core, update_id: str, error: Exception) -> None:
    def run() -> None:
        with publishing(core, update_id):
            assert SHA in core.blobs.payloads.all()
            raise error

    with pytest.raises(type(error)):
        run()


def test_a_refused_payload_is_taken_back_at_once(core: Core) -> None:
    publish_and_fail(core, "u1", SiteFenced("fenced"))
    assert SHA not in core.blobs.payloads.all()


def test_after_an_unknown_outcome_it_stays_until_somebody_looks(core: Core) -> None:
    publish_and_fail(core, "u1", StorageUnavailable("the database went away"))
    assert SHA in core.blobs.payloads.all()
    assert core.in_flight.digests() == frozenset()


def test_a_payload_that_a_row_names_is_never_taken_back(core: Core) -> None:
    take_delta(core, "north", a_vector(1))
    publish_and_fail(core, "u2", SiteFenced("fenced"))
    assert SHA in core.blobs.payloads.all()


def test_nobody_sweeps_a_payload_on_its_way_to_a_row(core: Core) -> None:
    with publishing(core, "u1"):
        assert core.in_flight.digests() == {SHA}
    assert SHA in core.blobs.payloads.all()


def test_one_refusal_does_not_take_the_same_bytes_of_another_upload(core: Core) -> None:
    first_is_in, second_is_out = threading.Event(), threading.Event()

    def first() -> None:
        with publishing(core, "u1"):
            first_is_in.set()
            second_is_out.wait(60)

    thread = threading.Thread(target=first)
    thread.start()
    assert first_is_in.wait(60)
    publish_and_fail(core, "u2", SiteFenced("fenced"))
    assert SHA in core.blobs.payloads.all()
    second_is_out.set()
    thread.join(10)
