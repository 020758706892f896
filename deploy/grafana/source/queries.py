"""PromQL that several dashboards write the same way."""

from __future__ import annotations

from panels import Panel, Query

WINDOW = "$__rate_interval"
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def rate(metric: str, by: str, match: str = "") -> str:
    """The sum per second of a counter, by labels."""
    return f"sum by ({by}) (rate({metric}{{{match}}}[{WINDOW}]))"


def percentiles(histogram: str, match: str = "") -> tuple[Query, ...]:
    """p50, p90 and p99 of one histogram, with exemplars."""
    buckets = f"sum by (le) (rate({histogram}_bucket{{{match}}}[{WINDOW}]))"
    return tuple(
        Query(f"histogram_quantile({share}, {buckets})", name, exemplar=name == "p99")
        for name, share in _QUANTILES
    )


def quantile_by(label: str, histogram: str, share: float, match: str = "") -> Query:
    """One quantile for each value of a label, with exemplars."""
    buckets = f"sum by (le, {label}) (rate({histogram}_bucket{{{match}}}[{WINDOW}]))"
    legend = f"{{{{{label}}}}}"
    return Query(f"histogram_quantile({share}, {buckets})", legend, exemplar=True)


def heat(
    title: str,
    description: str,
    histogram: str,
    match: str = "",
    *,
    unit: str = "s",
    width: int = 8,
    height: int = 8,
) -> Panel:
    """A heat map of observations per second in each bucket, with exemplars."""
    expr = f"sum by (le) (rate({histogram}_bucket{{{match}}}[{WINDOW}]))"
    query = Query(expr, "{{le}}", exemplar=True)
    return Panel(title, description, unit, (query,), kind="heatmap", width=width, height=height)
