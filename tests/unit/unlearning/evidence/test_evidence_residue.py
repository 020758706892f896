import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from letheon.errors import BadData
from letheon.unlearning.bounds import Interval
from letheon.unlearning.evidence.finding import Finding, Verdict
from letheon.unlearning.evidence.residue import judge_residue
from letheon.unlearning.evidence.shares import difference, share_interval

CLEAR = Interval(0.9, 0.85, 0.95, 0.0)

values = st.floats(0, 1)
intervals = st.tuples(values, values, values).map(
    lambda drawn: Interval(*(sorted(drawn)[i] for i in (1, 0, 2)), 0.0)
)


def judged(candidate: Interval, before: Interval | None = CLEAR, **changes) -> Finding:
    arguments = {"null": 0.5, "margin": 0.05, "records": 10, "unit": "AUC"} | changes
    return judge_residue("probe", candidate, before, **arguments)


def test_what_is_gone_passes_what_stays_fails_and_what_cannot_be_seen_is_inconclusive() -> None:
    gone, there = Interval(0.5, 0.46, 0.54, 0.0), Interval(0.8, 0.75, 0.85, 0.0)
    assert judged(gone).verdict is Verdict.PASS
    assert judged(there).verdict is Verdict.FAIL
    assert judged(gone, Interval(0.52, 0.47, 0.57, 0.0)).verdict is Verdict.INCONCLUSIVE
    assert judged(gone, None).verdict is Verdict.INCONCLUSIVE
    assert judged(gone, None).control_fired is None


def test_a_wide_interval_is_no_pass() -> None:
    assert judged(Interval(0.52, 0.4, 0.9, 0.0)).verdict is Verdict.INCONCLUSIVE
    assert judged(Interval(0.58, 0.45, 0.7, 0.0)).verdict is Verdict.INCONCLUSIVE


@given(candidate=intervals, before=intervals, null=values, margin=st.floats(0, 0.2))
def test_no_pass_without_a_control_that_fired_and_a_drop(candidate, before, null, margin) -> None:
    finding = judged(candidate, before, null=null, margin=margin)
    if finding.verdict is Verdict.PASS:
        assert finding.control_fired
        assert finding.high < before.low
        assert finding.value <= finding.null_high


@given(candidate=intervals, null=values, margin=st.floats(0, 0.2))
def test_a_model_never_passes_against_itself(candidate, null, margin) -> None:
    assert judged(candidate, candidate, null=null, margin=margin).verdict is not Verdict.PASS


def test_an_interval_without_width_is_judged_with_the_error_under_the_null() -> None:
    finding = judged(Interval(0.5, 0.5, 0.5, 0.1), Interval(1.0, 1.0, 1.0, 0.3))
    assert not finding.control_fired
    assert finding.high == pytest.approx(0.696, abs=1e-3)


def test_over_forgetting_is_said() -> None:
    finding = judged(Interval(0.2, 0.1, 0.3, 0.0))
    assert finding.verdict is Verdict.PASS
    assert "over-forgotten" in finding.detail


def test_a_finding_is_plain_json() -> None:
    document = judged(Interval(0.5, 0.45, math.inf, 0.0)).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["high"] is None
    assert document["verdict"] == "inconclusive"
    assert type(document["verdict"]) is str


def test_a_null_or_margin_that_is_none_is_refused() -> None:
    with pytest.raises(BadData, match="margin -1"):
        judged(CLEAR, margin=-1)
    with pytest.raises(BadData, match="null nan"):
        judged(CLEAR, null=math.nan)


def test_the_difference_of_two_shares_has_the_interval_of_newcombe() -> None:
    """The example of the paper's table II, 56/70 - 48/80."""
    result = difference(share_interval(56 / 70, 70), share_interval(48 / 80, 80))
    assert (result.value, result.low, result.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


@given(shares=st.tuples(values, values), records=st.tuples(st.integers(1, 99), st.integers(1, 99)))
def test_differences_of_shares_are_mirrored_and_stay_in_their_range(shares, records) -> None:
    one, other = (share_interval(p, n) for p, n in zip(shares, records, strict=True))
    there, back = difference(one, other), difference(other, one)
    assert (there.value, there.low, there.high) == pytest.approx(
        (-back.value, -back.high, -back.low)
    )
    assert -1 - 1e-9 <= there.low <= there.value <= there.high <= 1 + 1e-9


@pytest.mark.parametrize(("share", "records"), [(1.1, 5), (-0.1, 5), (0.5, 0), (math.nan, 5)])
def test_what_is_no_share_is_refused(share: float, records: int) -> None:
    with pytest.raises(BadData, match="no share"):
        share_interval(share, records)
