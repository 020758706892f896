import io
import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from letheon.servicekit import logs

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("agent", "debug", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_holds_the_event_and_its_fields(lines: Lines) -> None:
    logging.getLogger("x").info("update_accepted", extra={"staleness": 3})
    (line,) = lines()
    assert line["event"] == "update_accepted"
    assert (line["staleness"], line["service"], line["level"]) == (3, "agent", "info")


def test_bound_fields_are_on_every_line_inside_and_gone_after(lines: Lines) -> None:
    log = logging.getLogger("x")
    with logs.bind(site="north"), logs.bind(task="t1"):
        log.info("inside")
    log.info("outside")
    inside, outside = lines()
    assert (inside["site"], inside["task"]) == ("north", "t1")
    assert "site" not in outside


def test_another_thread_does_not_see_what_this_one_bound(lines: Lines) -> None:
    with logs.bind(site="north"):
        thread = threading.Thread(target=lambda: logging.getLogger("x").info("apart"))
        thread.start()
        thread.join()
    assert "site" not in lines()[0]


def test_a_stack_is_one_field_of_one_line(lines: Lines) -> None:
    try:
        int("boom")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = lines()
    assert "ValueError: invalid literal" in line["stack"]


def test_a_value_that_json_does_not_know_is_written_as_text(lines: Lines) -> None:
    logging.getLogger("x").info("odd", extra={"value": {1}})
    assert lines()[0]["value"] == "{1}"
