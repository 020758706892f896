"""What the benchmarks compute around their measurements."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.ingestion.figures import Figure, interleaved, percentile  # noqa: E402
from benchmarks.ingestion.payloads import VALUES_PER_MB, Payloads, layout_of  # noqa: E402
from benchmarks.ingestion.report import ingestion_rows, table, write_page  # noqa: E402
from benchmarks.peers.results import Result, promises  # noqa: E402
from benchmarks.scale.behaviour import LARGEST_ERROR, Case, run  # noqa: E402


def a_figure(**more: object) -> Figure:
    fields = {"what": "w", "case": "c", "value": 2.0, "unit": "s", "bound": "b", "bound_value": 1.0}
    return Figure(**{**fields, **more})  # type: ignore[arg-type]


def test_a_share_is_smaller_the_worse_it_is_in_seconds_and_in_rates() -> None:
    assert a_figure(value=2.0, bound_value=1.0).share == 0.5
    assert a_figure(value=1.0, bound_value=2.0, more_is_better=True).share == 0.5


def test_a_promise_below_its_share_is_not_kept_and_the_table_says_so() -> None:
    broken, kept = a_figure(at_least=0.6), a_figure(at_least=0.5)
    assert (broken.is_kept, kept.is_kept) == (False, True)
    assert "NOT KEPT" in table([broken.document()])
    assert "NOT KEPT" not in table([kept.document()])


def test_contenders_take_turns_and_another_is_first_each_time() -> None:
    order: list[str] = []

    def contender(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = interleaved(
        {name: lambda _, name=name: contender(name) for name in "ab"}, repeats=2, warm_ups=1
    )
    assert "".join(order) == "abbaab"
    assert found == {"a": [4.0, 5.0], "b": [3.0, 6.0]}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_percentile_is_a_value_between_the_least_and_the_most(
    values: list[float], share: float
) -> None:
    assert percentile(values, share) in values
    assert percentile(values, 1.0) == max(values)


def harness() -> ModuleType:
    path = ROOT / "benchmarks" / "peers" / "harness" / "payload.py"
    spec = importlib.util.spec_from_file_location("harness_payload", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tensors", [1, 8, 160])
@pytest.mark.parametrize("megabytes", [1, 25, 100])
def test_peers_and_letheon_get_the_same_layout_of_the_whole_size(
    megabytes: int, tensors: int
) -> None:
    layout = layout_of(megabytes, tensors)
    assert layout.size == megabytes * VALUES_PER_MB
    assert [t.size for t in layout.tensors] == harness().shapes(megabytes, tensors)


def test_no_two_payloads_are_the_same(tmp_path: Path) -> None:
    payloads = Payloads(tmp_path, 4096)
    assert len({payloads.next().sha256 for _ in range(5)}) == 5


def test_the_page_gets_its_table_between_the_marks_and_keeps_the_rest(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- x: begin -->\nold\n<!-- x: end -->\nafter\n")
    about = {"commit": "c", "processor": "p", "cores": 2, "load_at_start": 0.1}
    document = {"date": "d", "machine": about, "figures": [a_figure().document()]}
    write_page("x", json.loads(json.dumps(document)), page)
    text = page.read_text()
    assert text.startswith("before\n<!-- x: begin -->\nCommit c, d, p, 2 cores")
    assert text.endswith("|\n<!-- x: end -->\nafter\n")
    assert "old" not in text
    with pytest.raises(SystemExit, match="no marks"):
        write_page("y", document, page)


def test_the_page_of_a_delta_has_one_line_for_each_case_and_leaves_no_figure_out() -> None:
    what, case = "delta to durable receipt", "1 MB, 8 tensors, 1 at once"
    found = [
        Figure(what, case, 0.02, "s", "reference pipeline", 0.01, 0.6),
        Figure(what, case, 0.02, "s", "bare stream", 0.004),
        Figure(what, case, 0.02, "s", "slowest stage alone: disk", 0.005),
        *(Figure(f"stage {n}", case, 0.001, "s", "all", 0.02) for n in ("receive", "merge")),
        a_figure(),
    ]
    rows = ingestion_rows({"figures": [figure.document() for figure in found]})
    assert f"| {case} | 20 ms | 0.50 (NOT KEPT: 0.6) | 0.20 | 0.25 | 1 ms, 1 ms |" in rows
    assert len(rows) == 3 + 1 + 3


def test_a_storm_of_erasures_under_a_virtual_clock_leaves_what_the_others_added() -> None:
    behaviour = run(Case(sites=20, deltas_each=4, erasures=2))
    assert behaviour == run(Case(sites=20, deltas_each=4, erasures=2))
    assert behaviour.largest_error <= LARGEST_ERROR
    assert behaviour.accepted >= 80
    assert behaviour.staleness_p50 <= behaviour.staleness_p99


def a_result(system: str, seconds: float, as_shipped: float | None, **more: object) -> Result:
    fields = {"version": "1", "variant": "", "megabytes": 25, "tensors": 8, "repeats": 1}
    told = {"without_waiting": seconds, "as_shipped": as_shipped, "spans": {}, "durable": False}
    return Result(system=system, **{**fields, **told, **more})  # type: ignore[arg-type]


def test_the_best_peer_counts_and_what_is_no_peer_of_that_size_does_not() -> None:
    found = promises(
        [
            a_result("Letheon", 0.1, 0.1),
            a_result("A", 0.2, 1.0),
            a_result("B", 0.14, None, variant="lean"),
            a_result("C", 0.05, 0.05, tensors=160),
        ]
    )
    assert [(p.what, p.best_peer, round(p.times, 2), p.is_kept) for p in found] == [
        ("as shipped", "A", 10.0, True),
        ("without waiting", "B lean", 1.4, False),
    ]
