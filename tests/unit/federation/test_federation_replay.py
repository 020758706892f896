from typing import Any

import numpy as np
import pytest
from federation_builders import LiveFederation, a_vector
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import LedgerBroken
from letheon.federation.arithmetic import relative_error
from letheon.federation.ledger import Entry, EntryKind, changes_weights, verify_chain, waiting
from letheon.federation.parameters import Vector
from letheon.federation.replay import (
    ReplayState,
    apply,
    fold,
    merge_delta,
    remove_contribution,
    removed_sites,
    replay,
)

SIZE = 37
Step = tuple[str, str, int, float]
SITES = ("north", "south", "east")
KINDS = ("delta", "buffer", "flush", "void", "remove", "suppress", "patch", "calibrate", "mark")

steps = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(SITES),
        st.integers(0, 10_000),
        st.floats(0, 2, width=32),
    ),
    max_size=30,
)


def take(live: LiveFederation, kind: str, site: str, seed: int, coefficient: float) -> None:
    payload = a_vector(live.head.size, seed)
    match kind:
        case "delta":
            live.delta(site, payload, coefficient)
        case "buffer":
            live.buffer(site, payload)
        case "flush":
            live.flush(coefficient)
        case "void":
            live.void(site)
        case "remove":
            live.remove(site, coefficient)
        case "suppress":
            live.remove(site, coefficient, subtracted=False)
        case "patch":
            live.patch(payload, site=site)
        case "calibrate":
            live.patch(payload, kind=EntryKind.CALIBRATION)
        case _:
            live.promote()
            live.anchor()


def a_history(size: int = SIZE) -> LiveFederation:
    live = LiveFederation(a_vector(size, 1))
    live.delta("north", a_vector(size, 2), 0.6)
    live.buffer("south", a_vector(size, 3))
    live.buffer("north", a_vector(size, 4))
    live.flush(0.5)
    live.buffer("south", a_vector(size, 5))
    live.remove("north")
    live.delta("south", a_vector(size, 6), 0.3)
    return live


def from_start(live: LiveFederation, **arguments: Any) -> ReplayState:
    return replay(ReplayState.before_first(live.head.size), live.rows, live.read, **arguments)


def assert_same_bits(a: Vector, b: Vector) -> None:
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@settings(max_examples=150, deadline=None)
@given(steps)
def test_replay_equals_the_head_bit_for_bit(history: list[Step]) -> None:
    live = LiveFederation(a_vector(SIZE, 99))
    for step in history:
        take(live, *step)
    state = from_start(live)
    assert_same_bits(state.head, live.head)
    assert (state.version, state.epoch) == (live.version, live.epoch)
    assert state.contributions.keys() == live.contributions.keys()
    for site, total in live.contributions.items():
        assert_same_bits(state.contributions[site], total)
    assert state.buffered == live.buffered == waiting(live.rows)
    verify_chain(live.rows, tip=live.rows[-1].hash)


@settings(max_examples=60, deadline=None)
@given(steps, st.integers(0, 30))
def test_replay_from_any_row_on_equals_replay_from_the_first(history: list[Step], cut: int) -> None:
    live = LiveFederation(a_vector(SIZE, 99))
    for step in history:
        take(live, *step)
    cut = min(cut, len(live.rows) - 1)
    middle = ReplayState.before_first(SIZE)
    for row in live.rows[:cut]:
        apply(middle, row, live.read)
    before = middle.head.tobytes()
    assert_same_bits(replay(middle, live.rows[cut:], live.read).head, live.head)
    assert middle.head.tobytes() == before


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_version_goes_up_by_one_exactly_where_weights_may_change(history: list[Step]) -> None:
    live = LiveFederation(a_vector(SIZE, 99))
    for step in history:
        take(live, *step)
    state = ReplayState.before_first(SIZE)
    for row in live.rows:
        version, before = state.version, state.head.tobytes()
        apply(state, row, live.read)
        assert state.version == version + changes_weights(row)
        if state.version == version:
            assert state.head.tobytes() == before


@settings(max_examples=60, deadline=None)
@given(steps)
def test_the_counterfactual_reads_no_payload_of_the_site(history: list[Step]) -> None:
    live = LiveFederation(a_vector(SIZE, 99))
    for step in history:
        take(live, *step)

    def read(row: Entry) -> Vector:
        assert row.site != "north"
        return live.read(row)

    state = replay(ReplayState.before_first(SIZE), live.rows, read, without=frozenset({"north"}))
    assert "north" not in state.contributions
    assert (state.version, state.epoch) == (live.version, live.epoch)


def test_the_head_less_a_contribution_is_the_replay_without_the_site_to_rounding() -> None:
    size = 50_000
    live = LiveFederation(a_vector(size, 0, 0.05))
    for i in range(240):
        site = SITES[i % 3]
        if i % 5:
            live.delta(site, a_vector(size, i, 0.01), 0.6 / (1 + i % 4) ** 0.5)
        else:
            live.buffer(site, a_vector(size, i, 0.01))
            live.flush(0.25)
    counterfactual = from_start(live, without=frozenset({"north"}))
    live.remove("north")
    assert relative_error(live.head, counterfactual.head) <= 1e-5
    assert_same_bits(from_start(live).head, live.head)


def test_the_counterfactual_passes_over_the_removal_of_the_site() -> None:
    live = a_history()
    state = from_start(live, without=frozenset({"north"}))
    expected = a_vector(SIZE, 1) + np.float32(0.5) * a_vector(SIZE, 3)
    expected = expected + np.float32(0.5) * a_vector(SIZE, 5)
    expected = expected + np.float32(0.3) * a_vector(SIZE, 6)
    assert_same_bits(state.head, expected)
    assert (state.version, state.epoch) == (live.version, live.epoch)
    assert relative_error(live.head, state.head) <= 1e-5


def test_a_removal_without_subtraction_keeps_the_contribution_for_a_later_one() -> None:
    live = LiveFederation(a_vector(SIZE, 1))
    live.delta("north", a_vector(SIZE, 2), 0.6)
    live.remove("north", subtracted=False)
    live.patch(a_vector(SIZE, 3), site="north")
    live.remove("north")
    state = from_start(live)
    assert_same_bits(state.head, live.head)
    assert state.contributions == {}
    assert state.version == 3


def test_a_replay_keeps_only_the_contributions_it_is_asked_to_track() -> None:
    live = a_history()
    tracked = removed_sites(live.rows)
    assert tracked == {"north"}
    state = replay(ReplayState.before_first(SIZE, tracked=tracked), live.rows, live.read)
    assert_same_bits(state.head, live.head)
    assert state.contributions == {}


def test_a_subtraction_of_an_untracked_contribution_is_refused() -> None:
    live = a_history()
    start = ReplayState.before_first(SIZE, tracked=frozenset())
    with pytest.raises(LedgerBroken, match="did not keep"):
        replay(start, live.rows, live.read)


def test_a_replay_starts_from_read_only_arrays() -> None:
    live = a_history()
    cut = 4
    state = replay(ReplayState.before_first(SIZE), live.rows[:cut], live.read)
    state.head.flags.writeable = False
    for total in state.contributions.values():
        total.flags.writeable = False
    assert_same_bits(replay(state, live.rows[cut:], live.read).head, live.head)


def test_the_removal_of_a_site_that_never_contributed_changes_no_weight() -> None:
    live = LiveFederation(a_vector(SIZE, 1))
    before = live.head.tobytes()
    live.remove("north")
    state = from_start(live)
    assert state.head.tobytes() == before
    assert state.epoch == 1


def test_a_row_out_of_order_is_named() -> None:
    live = a_history()
    with pytest.raises(LedgerBroken) as broken:
        replay(ReplayState.before_first(SIZE), [live.rows[0], live.rows[2]], live.read)
    assert broken.value.facts["entry"] == "2"


def test_a_removal_that_records_another_contribution_is_named() -> None:
    live = LiveFederation(a_vector(SIZE, 1))
    live.delta("north", a_vector(SIZE, 2), 0.6)
    row = live.remove("north", sha256="ab" * 32)
    with pytest.raises(LedgerBroken, match="another contribution") as broken:
        from_start(live)
    assert broken.value.facts["entry"] == str(row.entry)


def test_rows_that_contradict_the_state_are_refused() -> None:
    def broken(kind: EntryKind, message: str, **fields: Any) -> None:
        live = LiveFederation(a_vector(SIZE, 1))
        live.record(kind, **fields)
        with pytest.raises(LedgerBroken, match=message):
            from_start(live)

    payload = a_vector(SIZE, 2)
    broken(EntryKind.DELTA, "lacks its coefficient", changes=True, site="a", payload=payload)
    broken(EntryKind.DELTA, "version 0", site="a", coefficient=1.0, payload=payload)
    broken(EntryKind.PATCH, "shape", changes=True, payload=a_vector(3))
    broken(EntryKind.PATCH, "not 1", changes=True, payload=payload, coefficient=0.5)
    broken(EntryKind.VOID, "does not wait", details={"entries": [7]})
    merged = {"merged": [[7, (0.5).hex()]]}
    broken(EntryKind.FLUSH, "does not wait", changes=True, details=merged)
    broken(EntryKind.FLUSH, "what it merged", details={"merged": [["x"]]})
    broken(EntryKind.REMOVAL, "epoch 0", site="a", details={"subtracted": False})


def test_a_removal_that_does_not_say_whether_it_subtracted_is_refused() -> None:
    live = LiveFederation(a_vector(SIZE, 1))
    live.epoch = 1
    live.record(EntryKind.REMOVAL, site="north")
    with pytest.raises(LedgerBroken, match="whether it subtracted"):
        from_start(live)


def test_the_functions_of_the_live_head_are_those_of_replay() -> None:
    live = LiveFederation(a_vector(SIZE, 1))
    head, delta = live.head.copy(), a_vector(SIZE, 2)
    merge_delta(head, 0.6, delta)
    contribution = fold(None, 0.6, delta)
    live.delta("north", delta, 0.6)
    assert_same_bits(head, live.head)
    assert_same_bits(contribution, live.contributions["north"])
    remove_contribution(head, contribution)
    live.remove("north")
    assert_same_bits(head, from_start(live).head)
    remove_contribution(head, None)
    assert_same_bits(head, live.head)
