"""From a few words to the JSON of a Grafana dashboard: stable ids, no overlap, nothing left out.

A dashboard is rows of panels; a row is as high as its highest panel and 24 columns wide at most.
Every panel has a unit and a description, every query its data source by variable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

WIDTH = 24
SCHEMA_VERSION = 39  # Grafana 10.4 and later read it; newer ones migrate it when they load it
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "heatmap", "bargauge", "table"]
# Green, then yellow and red from these values on.
Thresholds = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Query:
    """A PromQL expression; `legend` may name labels as {{site}}."""

    expr: str
    legend: str = ""
    exemplar: bool = False


@dataclass(frozen=True)
class Panel:
    """What is drawn. `unit` is one of Grafana's names; width in columns, height in rows."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    log: bool = False
    minimum: float | None = None
    maximum: float | None = None
    decimals: int | None = None
    thresholds: Thresholds = ()
    values: tuple[tuple[str, str], ...] = ()  # what a value is called, such as 1: yes
    colours: Mapping[str, str] = field(default_factory=dict)  # of series, by what they are called


@dataclass(frozen=True)
class Row:
    """Panels side by side under a title; more than fit go to the next line."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    by_site: bool = False  # offers a choice of sites as $site
    tags: tuple[str, ...] = field(default=("letheon",))


def dashboard_json(page: Dashboard) -> Json:
    """The dashboard as Grafana stores it."""
    return {
        "uid": page.uid,
        "title": page.title,
        "description": page.description,
        "tags": list(page.tags),
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "annotations": {"list": [_erasures_as_annotations()]},
        "links": [
            {
                "title": "Letheon",
                "type": "dashboards",
                "tags": ["letheon"],
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "icon": "external link",
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "templating": {"list": _variables(page)},
        "panels": _panels(page.rows),
    }


def _erasures_as_annotations() -> Json:
    return {
        "name": "Removals",
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "red",
        "expr": "changes(letheon_epoch[1m]) > 0",
        "titleFormat": "an erasure changed the weights",
        "step": "30s",
    }


def _variables(page: Dashboard) -> list[Json]:
    source: Json = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
    }
    if not page.by_site:
        return [source]
    ask = "label_values(letheon_site_active, site)"
    sites: Json = {
        "name": "site",
        "label": "Site",
        "type": "query",
        "datasource": SOURCE,
        "definition": ask,
        "query": {"query": ask, "refId": "sites"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "allValue": ".*",
        "hide": 0,
        "includeAll": True,
        "multi": True,
        "options": [],
        "refresh": 2,
        "regex": "",
        "sort": 1,
    }
    return [source, sites]


def _panels(rows: Sequence[Row]) -> list[Json]:
    made: list[Json] = []
    y = 0
    for row in rows:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": row.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = line = 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                y, x, line = y + line, 0, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            made.append(_panel(panel, len(made) + 1, place))
            x, line = x + panel.width, max(line, panel.height)
        y += line
    return made


def _panel(panel: Panel, number: int, place: dict[str, int]) -> Json:
    form = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    defaults: Json = {"unit": panel.unit, "mappings": _mappings(panel), "custom": _custom(panel)}
    for name, value in (
        ("min", panel.minimum),
        ("max", panel.maximum),
        ("decimals", panel.decimals),
    ):
        if value is not None:
            defaults[name] = value
    steps: list[Json] = [{"color": "green", "value": None}]
    steps += [{"color": color, "value": value} for color, value in panel.thresholds]
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    defaults["color"] = {
        "mode": "thresholds" if panel.kind in ("stat", "bargauge") else "palette-classic"
    }
    targets = [
        {
            "refId": chr(ord("A") + position),
            "datasource": SOURCE,
            "expr": query.expr,
            "legendFormat": "{{le}}" if panel.kind == "heatmap" else query.legend or "__auto",
            "format": form,
            "exemplar": query.exemplar,
            "instant": panel.kind in ("table", "bargauge"),
            "range": panel.kind not in ("table", "bargauge"),
        }
        for position, query in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": _overrides(panel)},
        "options": _options(panel),
        "targets": targets,
    }


def _overrides(panel: Panel) -> list[Json]:
    return [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours.items()
    ]


def _mappings(panel: Panel) -> list[Json]:
    if not panel.values:
        return []
    called = {value: {"text": text, "index": n} for n, (value, text) in enumerate(panel.values)}
    return [{"type": "value", "options": called}]


def _custom(panel: Panel) -> Json:
    if panel.kind != "timeseries":
        return {}
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "scaleDistribution": {"type": "log", "log": 10} if panel.log else {"type": "linear"},
        "thresholdsStyle": {"mode": "line" if panel.thresholds else "off"},
    }


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"displayMode": "list", "placement": "bottom", "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "heatmap":
            return {
                "calculate": False,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5},
                "exemplars": {"color": "rgba(31,120,193,0.9)"},
                "filterValues": {"le": 1e-9},
                "legend": {"show": True},
                "rowsFrame": {"layout": "auto"},
                "tooltip": {"mode": "single", "yHistogram": True},
                "yAxis": {"axisPlacement": "left", "unit": panel.unit, "reverse": False},
            }
        case "table":
            return {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
        case _:
            reduced = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            options: Json = {"reduceOptions": reduced, "orientation": "auto"}
            if panel.kind == "stat":
                options |= {"colorMode": "value", "graphMode": "area", "textMode": "auto"}
                options |= {"justifyMode": "auto"}
            else:
                options |= {"displayMode": "basic", "showUnfilled": True}
            return options
