"""`python deploy/grafana/source [--check]`: the dashboards' JSON and the metrics table in docs.

With --check nothing is written, and the exit code is 1 if something would change.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import erasures
import latency
import overview
import resources
import sites
from metrics_table import with_table
from panels import dashboard_json

ROOT = Path(__file__).parents[3]
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
MONITORING = ROOT / "docs" / "monitoring.md"
PAGES = (overview.PAGE, latency.PAGE, sites.PAGE, erasures.PAGE, resources.PAGE)


def files() -> dict[Path, str]:
    """What every generated file has to hold."""
    made = {
        DASHBOARDS / f"{page.uid}.json": json.dumps(dashboard_json(page), indent=2) + "\n"
        for page in PAGES
    }
    made[MONITORING] = with_table(MONITORING.read_text(encoding="utf-8"))
    return made


def main() -> int:
    """The exit code."""
    due = files()
    stale = [
        path
        for path, text in due.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    stale += [path for path in DASHBOARDS.glob("*.json") if path not in due]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is not up to date: run make dashboards\n")
        return 1 if stale else 0
    for path in stale:
        if path in due:
            path.write_text(due[path], encoding="utf-8")
        else:
            path.unlink()
    for page in PAGES:
        shown = [panel for row in page.rows for panel in row.panels]
        queries = sum(len(panel.queries) for panel in shown)
        sys.stdout.write(f"{page.uid}.json: {len(shown)} panels, {queries} queries\n")
    sys.stdout.write(f"written anew: {len(stale)} of {len(due)} files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
