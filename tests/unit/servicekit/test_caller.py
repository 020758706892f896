"""Who makes the call that is being served."""

from __future__ import annotations

import threading

from letheon.servicekit.caller import Caller, Role, calling, current_caller


def test_outside_of_a_call_the_process_itself_acts() -> None:
    assert current_caller() == Caller(Role.LOCAL)


def test_within_a_call_its_caller_is_known_and_afterwards_no_more() -> None:
    north = Caller(Role.SITE, "north", "0a")
    with calling(north):
        assert current_caller() is north
    assert current_caller() == Caller(Role.LOCAL)


def test_a_caller_of_one_thread_is_not_seen_by_another() -> None:
    seen: list[Caller] = []
    with calling(Caller(Role.OPERATOR, "ada", "0b")):
        thread = threading.Thread(target=lambda: seen.append(current_caller()))
        thread.start()
        thread.join()
    assert seen == [Caller(Role.LOCAL)]


def test_a_caller_reads_as_role_and_name() -> None:
    assert str(Caller(Role.SITE, "north")) == "site/north"
    assert str(Caller(Role.MONITOR)) == "monitor"
