import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import BadConfig, BadData
from letheon.imaging.sources.share import ShareSource
from letheon.imaging.sources.synthetic import SyntheticSource

PHANTOMS = {"records": 20, "classes": 2, "channels": 1, "height": 8, "width": 8}


@settings(max_examples=20, deadline=None)  # each loads the source a few times
@given(st.integers(1, 5), st.integers(0, 2**32))
def test_shares_are_whole_patients_and_together_everything(shares: int, seed: int) -> None:
    dealt = [
        ShareSource("synthetic", PHANTOMS, shares, share, seed).load()
        for share in range(1, shares + 1)
    ]
    everything = SyntheticSource(**PHANTOMS).load()
    ids = [record for part in dealt for record in part.record_ids]
    assert sorted(ids) == sorted(everything.record_ids)
    patients = [set(part.patients or ()) for part in dealt]
    assert sum(map(len, patients)) == len(set().union(*patients)) == 5
    assert max(map(len, patients)) - min(map(len, patients)) <= 1


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="share must be 1 to 3"):
        ShareSource("synthetic", PHANTOMS, shares=3, share=4)
    with pytest.raises(BadData, match="5 patients cannot be dealt into 6 shares"):
        ShareSource("synthetic", PHANTOMS, shares=6).load()
    with pytest.raises(BadConfig, match="refuses its arguments"):
        ShareSource("synthetic", {"records": 3}).load()
