"""The dashboards in deploy/grafana: made from code, whole, and about metrics that exist."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_tools import DASHBOARDS, ROOT, metrics_of, promtool, rules

from calibrator.metrics import OUTCOMES as ENTRIES
from calibrator.metrics import VERDICTS
from coordinator.domain.erasure import ErasureState
from coordinator.metrics import OUTCOMES

sys.path.insert(0, str(ROOT / "deploy" / "grafana" / "source"))
import colours
from metrics_table import declared

PAGES = {path.stem: json.loads(path.read_text()) for path in sorted(DASHBOARDS.glob("*.json"))}
KINDS = {"row", "timeseries", "stat", "heatmap", "bargauge", "table"}
# Names of Grafana's own list of units.
UNITS = {"s", "bytes", "Bps", "ops", "reqps", "percentunit", "none"}
# Allowed to be missing, each with its reason: none is.
NOT_DECLARED_HERE: set[str] = set()
ON_NO_PAGE: set[str] = set()


def panels(page: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in page["panels"] if panel["type"] != "row")


def expressions() -> Iterator[tuple[str, str]]:
    for name, page in PAGES.items():
        for panel in panels(page):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]
        for annotation in page["annotations"]["list"]:
            yield f"{name}: {annotation['name']}", annotation["expr"]


def test_what_is_committed_is_what_the_builder_writes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "grafana" / "source", "--check"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_there_are_five_pages_with_names_of_their_own() -> None:
    assert len(PAGES) == 5
    assert {page["uid"] for page in PAGES.values()} == set(PAGES)
    assert len({page["title"] for page in PAGES.values()}) == 5


@pytest.mark.parametrize("name", PAGES)
def test_every_panel_has_a_known_kind_a_unit_a_description_and_a_query(name: str) -> None:
    titles = set()
    for panel in PAGES[name]["panels"]:
        assert panel["type"] in KINDS
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["title"] not in titles
        titles.add(panel["title"])
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["targets"], panel["title"]


@pytest.mark.parametrize("name", PAGES)
def test_every_query_asks_the_chosen_prometheus(name: str) -> None:
    page = PAGES[name]
    assert next(v["type"] for v in page["templating"]["list"]) == "datasource"
    for panel in panels(page):
        for asked in (panel, *panel["targets"]):
            assert asked["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
    uses_site = any("$site" in t["expr"] for p in panels(page) for t in p["targets"])
    assert uses_site == any(v["name"] == "site" for v in page["templating"]["list"])


@pytest.mark.parametrize(
    ("known", "named"),
    [
        (colours.CODES, {code.name for code in grpc.StatusCode}),
        (colours.OUTCOMES, set(OUTCOMES)),
        (colours.STATES, {state.value for state in ErasureState}),
        (colours.VERDICTS, set(VERDICTS)),
        (colours.ENTRIES, set(ENTRIES)),
    ],
    ids=["codes", "outcomes", "states", "verdicts", "entries"],
)
def test_whatever_means_well_or_ill_has_a_colour_of_its_own(
    known: dict[str, str], named: set[str]
) -> None:
    assert set(known) == named
    assert len(set(known.values())) == len(known)


def test_what_ended_well_is_green_and_what_failed_is_red_on_every_page() -> None:
    fixed = [
        (override["matcher"]["options"], override["properties"][0]["value"]["fixedColor"])
        for page in PAGES.values()
        for panel in panels(page)
        for override in panel["fieldConfig"]["overrides"]
    ]
    assert len(dict(fixed)) == len(set(fixed)), "one name, two colours"
    for good in ("OK", "merged", "certified", "pass"):
        assert dict(fixed)[good] == "green"
    for bad in ("INTERNAL", "rejected", "failed", "fail"):
        assert dict(fixed)[bad] == "red"


@pytest.mark.parametrize("name", PAGES)
def test_ids_are_unique_and_no_two_panels_overlap(name: str) -> None:
    made = PAGES[name]["panels"]
    assert len({panel["id"] for panel in made}) == len(made)
    for panel in made:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        assert place["h"] >= 1
    for one, other in itertools.combinations(made, 2):
        a, b = one["gridPos"], other["gridPos"]
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, f"{one['title']} and {other['title']}"


def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    found = [
        {"record": f"panel:n{number}", "expr": plain(expression)}
        for number, (_, expression) in enumerate(expressions())
    ]
    assert len(found) > 100
    path = tmp_path / "expressions.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))
    done = promtool("check", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def plain(expression: str) -> str:
    """The expression without Grafana's variables."""
    return expression.replace("$__rate_interval", "1m").replace("$site", ".*")


def test_every_metric_that_is_asked_for_exists() -> None:
    there = {one.name for one in declared()} | {rule["record"] for rule in rules("slo.yml")}
    asked = [*expressions()]
    asked += [(r["alert"], r["expr"]) for r in rules("alerts.yml")]
    asked += [(r["record"], r["expr"]) for r in rules("slo.yml")]
    for where, expression in asked:
        missing = metrics_of(expression) - there - NOT_DECLARED_HERE
        assert not missing, f"{where} asks for {missing}"


def test_every_metric_is_on_a_page() -> None:
    shown = set().union(*(metrics_of(expression) for _, expression in expressions()))
    assert {one.name for one in declared()} - shown == ON_NO_PAGE


def test_durations_on_pages_link_to_traces() -> None:
    linked = {
        name
        for page in PAGES.values()
        for panel in panels(page)
        for target in panel["targets"]
        if target["exemplar"]
        for name in metrics_of(target["expr"])
    }
    durations = {
        one.name for one in declared() if one.kind == "histogram" and one.name.endswith("_seconds")
    }
    assert durations <= linked
