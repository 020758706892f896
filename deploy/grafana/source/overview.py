"""The page to open first: is anything wrong, and how much of the error budget is left."""

from __future__ import annotations

from colours import CODES, OUTCOMES, PERCENTILES, STATES
from panels import Dashboard, Panel, Query, Row, Thresholds
from queries import percentiles, quantile_by, rate

_BUDGET: Thresholds = (("red", -1e9), ("yellow", 0.1), ("green", 0.3))
_HEARD = "count(letheon_agent_last_seen_age_seconds < 300 and on (site) letheon_site_active == 1)"


def _stat(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    width: int = 3,
    height: int = 4,
    thresholds: Thresholds = (),
    values: tuple[tuple[str, str], ...] = (),
) -> Panel:
    return Panel(
        title,
        description,
        unit,
        (Query(expr),),
        kind="stat",
        width=width,
        height=height,
        thresholds=thresholds,
        values=values,
    )


PAGE = Dashboard(
    uid="letheon-overview",
    title="Letheon / overview",
    description="Objectives and their error budgets, training, erasures, and what is firing.",
    rows=(
        Row(
            "Now",
            (
                _stat(
                    "Alerts firing",
                    "Of any severity. docs/runbook.md has a section for each.",
                    "none",
                    'count(ALERTS{alertstate="firing", alertname=~"Letheon.*"}) or vector(0)',
                    thresholds=(("red", 1),),
                ),
                _stat(
                    "Leader",
                    "Coordinators that may write: exactly one.",
                    "none",
                    "sum(letheon_leader)",
                    thresholds=(("red", 2),),
                    values=(("0", "none"), ("1", "one")),
                ),
                _stat(
                    "Sites heard of",
                    "Active sites whose agent was heard of within five minutes.",
                    "none",
                    f"{_HEARD} or vector(0)",
                ),
                _stat(
                    "Head version",
                    "The newest model version.",
                    "none",
                    "max(letheon_head_version)",
                ),
                _stat(
                    "Serving version",
                    "What consumers get; -1 while the policy serves none.",
                    "none",
                    "max(letheon_serving_version)",
                    values=(("-1", "none"),),
                ),
                _stat(
                    "Erasures open",
                    "Requested and neither certified, failed nor cancelled.",
                    "none",
                    'sum(letheon_erasures{state!~"certified|failed|cancelled"})',
                ),
                _stat(
                    "Erasures late",
                    "Open beyond their deadline.",
                    "none",
                    'sum(letheon_erasures_late{end="open"})',
                    thresholds=(("red", 1),),
                ),
                _stat(
                    "Ledger",
                    "What the newest verification of the ledger found.",
                    "none",
                    "min(letheon_ledger_verification_holds)",
                    values=(("0", "BROKEN"), ("1", "holds")),
                ),
            ),
        ),
        Row(
            "Objectives",
            (
                _stat(
                    "Error budget of calls, 30 days",
                    "What is left of the one call in a hundred that may take longer than 250 ms.",
                    "percentunit",
                    "1 - avg_over_time(letheon:rpc_slow:ratio_rate1h[30d]) / 0.01",
                    width=4,
                    height=8,
                    thresholds=_BUDGET,
                ),
                Panel(
                    "Slow calls",
                    "Share of calls beyond 250 ms; the line is the objective. Calls that carry a "
                    "payload, replay the ledger or do a step of an erasure are not counted.",
                    "percentunit",
                    (
                        Query("letheon:rpc_slow:ratio_rate5m", "5 minutes"),
                        Query("letheon:rpc_slow:ratio_rate1h", "1 hour"),
                        Query("letheon:rpc_slow:ratio_rate3d", "3 days"),
                    ),
                    minimum=0,
                    thresholds=(("red", 0.01),),
                ),
                _stat(
                    "Error budget of uploads, 30 days",
                    "What is left of the five uploads in a thousand that may fail in the service.",
                    "percentunit",
                    "1 - avg_over_time(letheon:commit_failed:ratio_rate1h[30d]) / 0.005",
                    width=4,
                    height=8,
                    thresholds=_BUDGET,
                ),
                Panel(
                    "Failed uploads",
                    "Share of upload streams that the coordinator itself failed; refusals are "
                    "not counted. The line is the objective.",
                    "percentunit",
                    (
                        Query("letheon:commit_failed:ratio_rate5m", "5 minutes"),
                        Query("letheon:commit_failed:ratio_rate1h", "1 hour"),
                        Query("letheon:commit_failed:ratio_rate3d", "3 days"),
                    ),
                    minimum=0,
                    thresholds=(("red", 0.005),),
                ),
            ),
        ),
        Row(
            "Training",
            (
                Panel(
                    "Uploads by outcome",
                    "merged and buffered count for the model; superseded were overtaken by an "
                    "erasure; rejected broke a rule; fenced came from a subject of an erasure.",
                    "ops",
                    (Query(rate("letheon_updates_total", "outcome"), "{{outcome}}"),),
                    stacked=True,
                    minimum=0,
                    colours=OUTCOMES,
                ),
                Panel(
                    "Versions",
                    "Head and serving version. The gap grows while an erasure is open.",
                    "none",
                    (
                        Query("max(letheon_head_version)", "head"),
                        Query("max(letheon_serving_version)", "serving"),
                    ),
                ),
                Panel(
                    "Staleness at acceptance",
                    "Versions between the base of a delta and the head that took it.",
                    "none",
                    percentiles("letheon_update_staleness_versions"),
                    minimum=0,
                    colours=PERCENTILES,
                ),
            ),
        ),
        Row(
            "Calls",
            (
                Panel(
                    "Calls by method",
                    "Served calls per second.",
                    "reqps",
                    (Query(rate("letheon_rpc_seconds_count", "method"), "{{method}}"),),
                    minimum=0,
                ),
                Panel(
                    "Calls by code",
                    "How they ended. Yellow and purple are refusals, red is trouble of the "
                    "service; docs/protocol.md has each.",
                    "reqps",
                    (Query(rate("letheon_rpc_seconds_count", "code"), "{{code}}"),),
                    stacked=True,
                    minimum=0,
                    colours=CODES,
                ),
                Panel(
                    "Duration of calls, p99",
                    "By method; points link to traces.",
                    "s",
                    (quantile_by("method", "letheon_rpc_seconds", 0.99),),
                    log=True,
                ),
            ),
        ),
        Row(
            "Erasures",
            (
                Panel(
                    "Open erasures by state",
                    "From received to verifying; nothing while none is open.",
                    "none",
                    (
                        Query(
                            "sum by (state) (letheon_erasures"
                            '{state!~"certified|failed|cancelled"})',
                            "{{state}}",
                        ),
                    ),
                    stacked=True,
                    minimum=0,
                    colours=STATES,
                ),
                Panel(
                    "Ended erasures",
                    "Since the beginning. Failed ones need a human.",
                    "none",
                    (
                        Query(
                            "sum by (state) (letheon_erasures"
                            '{state=~"certified|failed|cancelled"})',
                            "{{state}}",
                        ),
                    ),
                    minimum=0,
                    colours=STATES,
                ),
                Panel(
                    "Age of the oldest open erasure",
                    "From the request. A ticket is opened at six hours.",
                    "s",
                    (Query("max(letheon_erasure_oldest_open_age_seconds)", "age"),),
                    minimum=0,
                ),
            ),
        ),
    ),
)
