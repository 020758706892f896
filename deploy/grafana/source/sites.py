"""Each site: whether it is there, how fresh its work is, what travels, what is refused."""

from __future__ import annotations

from colours import UPLOADS, Colours
from panels import Dashboard, Panel, Query, Row
from queries import heat, rate

_SITE = 'site=~"$site"'
_ACTIVE = f"on (site) (letheon_site_active{{{_SITE}}} == 1)"


def _lines(title: str, what: str, unit: str, expr: str, **more: object) -> Panel:
    return Panel(title, what, unit, (Query(expr, "{{site}}"),), minimum=0, **more)  # type: ignore[arg-type]


def _agents(
    title: str, what: str, unit: str, expr: str, legend: str, colours: Colours | None = None
) -> Panel:
    query = Query(expr, legend)
    return Panel(title, what, unit, (query,), width=6, height=7, minimum=0, colours=colours or {})


PAGE = Dashboard(
    uid="letheon-sites",
    title="Letheon / sites",
    description="Last seen, staleness, bytes and refusals, by site. Names are those of enrolment.",
    by_site=True,
    rows=(
        Row(
            "Presence",
            (
                Panel(
                    "Silent for",
                    "Time since each active site was last heard of. A ticket is opened at an hour.",
                    "s",
                    (
                        Query(
                            f"letheon_agent_last_seen_age_seconds{{{_SITE}}} and {_ACTIVE}",
                            "{{site}}",
                        ),
                    ),
                    kind="bargauge",
                    thresholds=(("yellow", 300), ("red", 3600)),
                    minimum=0,
                ),
                _lines(
                    "Last seen",
                    "Time since a site's agent was last heard of. An erased site's grows for ever.",
                    "s",
                    # Nothing is no point of a logarithmic scale.
                    f"clamp_min(letheon_agent_last_seen_age_seconds{{{_SITE}}}, 0.1)",
                    log=True,
                ),
                _lines(
                    "Takes part",
                    "1 while a site takes part, 0 once an erasure names it.",
                    "none",
                    f"letheon_site_active{{{_SITE}}}",
                    maximum=1,
                ),
            ),
        ),
        Row(
            "Work",
            (
                _lines(
                    "Accepted deltas",
                    "Merged or buffered, per second.",
                    "ops",
                    rate(
                        "letheon_site_updates_total", "site", f'{_SITE}, outcome=~"merged|buffered"'
                    ),
                    stacked=True,
                ),
                _lines(
                    "Staleness",
                    "Versions between base and head of the newest accepted delta.",
                    "none",
                    f"letheon_site_staleness_versions{{{_SITE}}}",
                ),
                heat(
                    "Staleness, heat map",
                    "Of every site together: accepted deltas per second in each bucket.",
                    "letheon_update_staleness_versions",
                    unit="none",
                ),
            ),
        ),
        Row(
            "Bytes",
            (
                _lines(
                    "Received from sites",
                    "Payload bytes per second, bytes that were sent again included.",
                    "Bps",
                    rate("letheon_site_received_bytes_total", "site", _SITE),
                    width=12,
                    stacked=True,
                ),
                _lines(
                    "Sent to sites",
                    "Bytes of models and of what an exchange needs, per second.",
                    "Bps",
                    rate("letheon_site_sent_bytes_total", "site", _SITE),
                    width=12,
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Refusals",
            (
                _lines(
                    "Rejected",
                    "Uploads that broke a rule, by site, per second.",
                    "ops",
                    rate("letheon_site_updates_total", "site", f'{_SITE}, outcome="rejected"'),
                    width=6,
                ),
                Panel(
                    "Rejected, by rule",
                    "Of all sites. finite: NaN or infinity; norm: beyond the plan's bound; names, "
                    "shape, dtype, count: another network.",
                    "ops",
                    (Query(rate("letheon_update_rejections_total", "rule"), "{{rule}}"),),
                    width=6,
                    minimum=0,
                ),
                Panel(
                    "Quarantined",
                    "Updates that screening set aside and nobody has decided on: "
                    "letheon updates quarantined.",
                    "none",
                    (Query("letheon_quarantined_updates", "waiting"),),
                    width=6,
                    minimum=0,
                ),
                _lines(
                    "Overtaken or fenced",
                    "Tasks that an erasure made worthless, and uploads of its subject, per second.",
                    "ops",
                    rate(
                        "letheon_site_updates_total",
                        "site",
                        f'{_SITE}, outcome=~"superseded|fenced"',
                    ),
                    width=6,
                ),
            ),
        ),
        Row(
            "As the agents see it (needs the agents' metrics)",
            (
                _agents(
                    "Tasks",
                    "By kind and how they ended, per second.",
                    "ops",
                    rate("letheon_agent_tasks_total", "kind, outcome"),
                    "{{kind}} {{outcome}}",
                ),
                _agents(
                    "Outbox",
                    "Uploads that have not arrived yet.",
                    "none",
                    "max by (job) (letheon_agent_outbox_depth)",
                    "{{job}}",
                ),
                _agents(
                    "Held for the hours of upload",
                    "Deltas that wait until the site may send.",
                    "none",
                    "max by (job) (letheon_agent_uploads_held)",
                    "{{job}}",
                ),
                _agents(
                    "Last answer of the coordinator",
                    "Seconds since it answered last.",
                    "s",
                    "time() - max by (job) (letheon_agent_last_contact_timestamp_seconds > 0)",
                    "{{job}}",
                ),
                _agents(
                    "Uploads",
                    "By what became of them, per second.",
                    "ops",
                    rate("letheon_agent_uploads_total", "outcome"),
                    "{{outcome}}",
                    UPLOADS,
                ),
                _agents(
                    "Acknowledged bytes",
                    "Payload bytes per second that the coordinator acknowledged.",
                    "Bps",
                    rate("letheon_agent_upload_bytes_total", "job"),
                    "{{job}}",
                ),
                _agents(
                    "Records",
                    "By use; they never leave the site.",
                    "none",
                    "max by (job, part) (letheon_agent_records)",
                    "{{job}} {{part}}",
                ),
                _agents(
                    "Records left out",
                    "By reason of the data source.",
                    "none",
                    "max by (job, reason) (letheon_agent_records_skipped)",
                    "{{job}} {{reason}}",
                ),
                _agents(
                    "Coordinator not reached",
                    "Turns that ended so, by cause, within the last hour.",
                    "none",
                    "sum by (job, cause) "
                    "(increase(letheon_agent_connection_failures_total[1h])) > 0",
                    "{{job}} {{cause}}",
                ),
                _agents(
                    "Troubles of the machine",
                    "Deaths of the training process, a full disk, a GPU without memory.",
                    "none",
                    "sum by (job) (increase(letheon_agent_child_restarts_total[1h])"
                    " + increase(letheon_agent_storage_failures_total[1h])"
                    " + increase(letheon_agent_gpu_out_of_memory_total[1h]))",
                    "{{job}}",
                ),
                _agents(
                    "Privacy spent",
                    "Epsilon of a site's updates as a share of its budget, where it trains "
                    "privately; it ends at 100 %.",
                    "percentunit",
                    "letheon_agent_privacy_epsilon / letheon_agent_privacy_epsilon_budget",
                    "{{job}} {{unit}}",
                ),
                _agents(
                    "Privacy budget spent",
                    "1 once a site trains no more because its privacy budget is spent.",
                    "none",
                    "letheon_agent_privacy_budget_spent",
                    "{{job}}",
                ),
                _agents(
                    "Epoch",
                    "The newest epoch each agent has heard of, beside the coordinator's.",
                    "none",
                    "max by (job) (letheon_agent_epoch or letheon_epoch)",
                    "{{job}}",
                ),
                _agents(
                    "Certificate ends in",
                    "Of each process's own certificate; without TLS there is none.",
                    "s",
                    "min by (job) (letheon_agent_certificate_not_after_timestamp_seconds > 0"
                    " or letheon_certificate_expiry_timestamp_seconds > 0) - time()",
                    "{{job}}",
                ),
            ),
        ),
        Row(
            "Trust",
            (
                _agents(
                    "Refused calls",
                    "Calls that permissions, rate limits or certificates did not let through.",
                    "ops",
                    rate("letheon_refused_calls_total", "role, reason"),
                    "{{role}} {{reason}}",
                ),
                _agents(
                    "Not believed by agents",
                    "What the coordinator sent and an agent did not believe, within an hour.",
                    "none",
                    "sum by (job, kind) "
                    "(increase(letheon_agent_coordinator_refused_total[1h])) > 0",
                    "{{job}} {{kind}}",
                ),
                _agents(
                    "Log contradicted",
                    "1 while the transparency log contradicts what an agent has pinned.",
                    "none",
                    "max by (job) (letheon_agent_log_refused)",
                    "{{job}}",
                ),
                _agents(
                    "Log pinned",
                    "Entries of the transparency log that each agent has pinned.",
                    "none",
                    "max by (job) (letheon_agent_log_pinned_entries)",
                    "{{job}}",
                ),
            ),
        ),
    ),
)
