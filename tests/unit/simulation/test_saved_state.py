"""A federation as a file goes on as if it had never been written."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation_builders import FEDBUFF, a_central, a_federation, advance

from letheon.errors import BadData
from letheon.simulation.saved_state import load_state, save_state


def trained(until, strategy, *, rounds=False, erased_at=None):
    central = a_central(strategy=strategy)
    federation = a_federation(
        {"north": 1.0, "south": 1.7, "west": 2.9},
        central=central,
        distribution="lognormal",
        drop_out=0.1,
    )
    if erased_at is not None:
        advance(federation, erased_at)
        federation.central.remove("south", federation.now, subtract=True)
        federation.supersede()
    if rounds:
        federation.synchronise()
        federation.resume()
    advance(federation, until)
    return federation


@settings(max_examples=25, deadline=None)
@given(
    until=st.floats(0.0, 15.0),
    strategy=st.sampled_from([FEDBUFF, {"plugin": "fedasync"}]),
    rounds=st.booleans(),
    erased_at=st.none() | st.floats(0.0, 10.0),
)
def test_a_federation_that_was_saved_goes_on_to_the_same_bits(until, strategy, rounds, erased_at):
    federation = trained(until, strategy, rounds=rounds, erased_at=erased_at)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / "state.npz"
        save_state(path, federation)
        assert [file.name for file in path.parent.iterdir()] == ["state.npz"]
        loaded = load_state(path, federation.setting, federation.central.rules)
    for each in (federation, loaded):
        advance(each, until + 12.0)
        each.central.remove("west", each.now, subtract=True)
    assert loaded.central.entries == federation.central.entries
    assert np.array_equal(loaded.central.head, federation.central.head)
    assert loaded.counts == federation.counts
    assert loaded.last_local.keys() == federation.last_local.keys()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive at all"])
def test_a_file_that_is_no_saved_simulation_is_named(tmp_path, content):
    path = tmp_path / "state.npz"
    path.write_bytes(content)
    federation = trained(1.0, FEDBUFF)
    with pytest.raises(BadData, match="is no saved simulation"):
        load_state(path, federation.setting, federation.central.rules)


def test_an_archive_of_something_else_is_named(tmp_path):
    path = tmp_path / "state.npz"
    np.savez(path, head=np.zeros(3))
    federation = trained(1.0, FEDBUFF)
    with pytest.raises(BadData, match="is no saved simulation"):
        load_state(path, federation.setting, federation.central.rules)
