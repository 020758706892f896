"""The lines between daemon and training process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_agent.training_child.lines import (
    Abandon,
    Abandoned,
    Command,
    Failure,
    Result,
    parse_order,
    parse_reply,
    reply_line,
)
from letheon.errors import BadData, InternalFault, LetheonError, UnknownPlugin, WrongPlan

numbers = st.integers(1, 2**31)
values = st.dictionaries(
    st.text(), st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text())
)


@given(numbers, st.text(), values)
def test_a_command_arrives_as_it_was_sent(number: int, name: str, arguments: dict) -> None:
    line = Command(number, name, arguments).line()
    assert line.count("\n") == 1
    assert line.endswith("\n")
    assert parse_order(line) == Command(number, name, arguments)


@given(numbers, values)
def test_a_result_arrives_as_it_was_sent(number: int, told: dict) -> None:
    assert parse_reply(reply_line(Result(number, told))) == Result(number, told)


def test_abandoning_travels_both_ways() -> None:
    assert parse_order(Abandon(4).line()) == Abandon(4)
    assert parse_reply(reply_line(Abandoned(4))) == Abandoned(4)


@pytest.mark.parametrize("kind", [BadData, UnknownPlugin, WrongPlan])
def test_an_error_arrives_as_the_class_it_was(kind: type[LetheonError]) -> None:
    reply = parse_reply(reply_line(Failure(1, kind("a sentence", name="x"))))
    assert isinstance(reply, Failure)
    assert type(reply.error) is kind
    assert (reply.error.message, reply.error.facts) == ("a sentence", {"name": "x"})


def test_an_error_of_no_known_class_is_an_internal_fault() -> None:
    line = '{"id": 1, "error": {"reason": "OUT_OF_TEA", "message": "m", "facts": {}}}'
    reply = parse_reply(line)
    assert isinstance(reply, Failure)
    assert type(reply.error) is InternalFault
