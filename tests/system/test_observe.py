"""A short federation under a real Prometheus: no panel is empty, a trace goes through."""

from __future__ import annotations

from pathlib import Path

import pytest
from observe.__main__ import run
from observe.empty import problems, table
from observe.pictures import draw
from prometheus_tools import require

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def test_every_panel_of_every_dashboard_finds_something(tmp_path: Path) -> None:
    require("prometheus")
    pytest.importorskip("opentelemetry.sdk")
    boards = run(tmp_path / "out", sites=3, before=8, after=4)
    assert not problems(boards), table(boards)
    durations = {a.title: a for b in boards for a in b.answers if a.title == "Update: receive"}
    assert durations["Update: receive"].exemplars, "no duration links to a trace"
    draw(boards[0], tmp_path / "overview.png")
    assert (tmp_path / "overview.png").stat().st_size > 10_000
