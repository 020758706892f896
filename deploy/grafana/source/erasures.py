"""Erasures, the queue between coordinator and calibrator, and what proves the result."""

from __future__ import annotations

from colours import ENTRIES, OUTCOMES, STATES, VERDICTS, Colours
from panels import Dashboard, Panel, Query, Row, Thresholds
from queries import rate


def _stat(
    title: str,
    what: str,
    unit: str,
    expr: str,
    thresholds: Thresholds = (),
    values: tuple[tuple[str, str], ...] = (),
) -> Panel:
    return Panel(
        title,
        what,
        unit,
        (Query(expr),),
        kind="stat",
        width=4,
        height=4,
        thresholds=thresholds,
        values=values,
    )


def _line(
    title: str, what: str, unit: str, *queries: Query, colours: Colours | None = None
) -> Panel:
    return Panel(title, what, unit, queries, height=7, minimum=0, colours=colours or {})


PAGE = Dashboard(
    uid="letheon-erasures",
    title="Letheon / erasures and queue",
    description="From the request to the certificate, and everything that can hold it up.",
    rows=(
        Row(
            "Now",
            (
                _stat(
                    "Open",
                    "Erasures that are neither certified, failed nor cancelled.",
                    "none",
                    'sum(letheon_erasures{state!~"certified|failed|cancelled"})',
                ),
                _stat(
                    "Certified",
                    "Since the beginning.",
                    "none",
                    'sum(letheon_erasures{state="certified"})',
                ),
                _stat(
                    "Failed",
                    "Their subjects stay fenced; a human decides.",
                    "none",
                    'sum(letheon_erasures{state="failed"})',
                    (("red", 1),),
                ),
                _stat(
                    "Certified late",
                    "After their deadline, since the beginning.",
                    "none",
                    'sum(letheon_erasures_late{end="certified"})',
                    (("yellow", 1),),
                ),
                _stat(
                    "Dead letters",
                    "Entries of the stream that nobody can act on.",
                    "none",
                    "max(letheon_erasure_dead_letters)",
                    (("red", 1),),
                ),
                _stat(
                    "Ledger",
                    "What the newest verification found.",
                    "none",
                    "min(letheon_ledger_verification_holds)",
                    values=(("0", "BROKEN"), ("1", "holds")),
                ),
            ),
        ),
        Row(
            "Time",
            (
                _line(
                    "Oldest open erasure",
                    "Age from the request, 0 for none.",
                    "s",
                    Query("max(letheon_erasure_oldest_open_age_seconds)", "age"),
                ),
                _line(
                    "Oldest unclaimed request",
                    "Time in which nothing is removed yet. Pages at five minutes.",
                    "s",
                    Query("max(letheon_erasure_queue_age_seconds)", "age"),
                ),
                _line(
                    "Nearest deadline",
                    "What is left of it; nothing while no erasure is open.",
                    "s",
                    Query("min(letheon_erasure_deadline_left_seconds) < +Inf", "left"),
                ),
            ),
        ),
        Row(
            "Queue",
            (
                _line(
                    "Stream",
                    "Entries waiting or in hand, and erasures that have not reached it.",
                    "none",
                    Query("max(letheon_erasure_queue_depth)", "stream"),
                    Query("max(letheon_erasure_outbox_depth)", "outbox"),
                ),
                _line(
                    "Calibrators",
                    "Erasures in hand, by calibrator.",
                    "none",
                    Query("letheon_calibrator_jobs", "{{instance}}"),
                ),
                _line(
                    "Entries by outcome",
                    "What became of the entries that were taken, within five minutes.",
                    "none",
                    Query(
                        "sum by (outcome) (increase(letheon_calibrator_entries_total[5m])) > 0",
                        "{{outcome}}",
                    ),
                    colours=ENTRIES,
                ),
            ),
        ),
        Row(
            "Work",
            (
                _line(
                    "States",
                    "Every erasure by state.",
                    "none",
                    Query("sum by (state) (letheon_erasures)", "{{state}}"),
                    colours=STATES,
                ),
                _line(
                    "Oldest in hand",
                    "Age of the oldest request that a calibrator works on.",
                    "s",
                    Query("letheon_calibrator_oldest_job_age_seconds", "{{instance}}"),
                ),
                _line(
                    "Runs of the gate",
                    "By verdict, since the calibrator started.",
                    "none",
                    Query(
                        "sum by (verdict) (letheon_calibrator_gate_verdicts_total)", "{{verdict}}"
                    ),
                    colours=VERDICTS,
                ),
                _line(
                    "Retries and restarts",
                    "Steps repeated because nobody answered, methods started over because a later "
                    "removal voided them, claims lost: per second.",
                    "ops",
                    Query(rate("letheon_calibrator_retries_total", "job"), "retries"),
                    Query(rate("letheon_calibrator_restarts_total", "job"), "restarts"),
                    Query(rate("letheon_calibrator_claims_lost_total", "job"), "claims lost"),
                ),
                _line(
                    "Overtaken tasks",
                    "Train tasks and deltas that an epoch made worthless, per second: at most one "
                    "a site and erasure.",
                    "ops",
                    Query(
                        rate(
                            "letheon_updates_total",
                            "outcome",
                            'outcome=~"superseded|fenced|voided"',
                        ),
                        "{{outcome}}",
                    ),
                    colours=OUTCOMES,
                ),
                _line(
                    "Epoch",
                    "Erasures that changed the weights.",
                    "none",
                    Query("max(letheon_epoch)", "epoch"),
                ),
            ),
        ),
        Row(
            "Ledger",
            (
                _line(
                    "Verified",
                    "Time since the ledger was verified last; a ticket is opened at a week.",
                    "s",
                    Query(
                        "time() - (letheon_ledger_verification_timestamp_seconds > 0)",
                        "since the last",
                    ),
                ),
                _line(
                    "Verification takes",
                    "What the newest one took.",
                    "s",
                    Query("letheon_ledger_verification_seconds", "seconds"),
                ),
                _line(
                    "Verifications that did not hold",
                    "Since the coordinator started: must stay 0.",
                    "none",
                    Query("letheon_ledger_verification_failures_total", "failures"),
                ),
            ),
        ),
    ),
)
