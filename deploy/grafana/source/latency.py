"""How long every stage of an update and of an erasure takes."""

from __future__ import annotations

from colours import PERCENTILES
from panels import Dashboard, Panel, Row
from queries import heat, percentiles, quantile_by

_UPDATE = {
    "receive": "Bytes of one stream to the staging file, synced.",
    "validate": "SHA-256, decoding, finite values and norm.",
    "persist": "The transaction of ledger row and receipt.",
    "merge": "Taking the delta into the head.",
    "publish": "Writing a version out because somebody wants it.",
}


def _stage(stage: str, what: str) -> Panel:
    match = f'stage="{stage}"'
    return Panel(
        f"Update: {stage}",
        what,
        "s",
        percentiles("letheon_update_stage_seconds", match),
        width=8,
        height=7,
        log=True,
        colours=PERCENTILES,
    )


def _heat_of_stage(stage: str, what: str) -> Panel:
    return heat(
        f"Update: {stage}, heat map",
        f"{what} Observations per second in each bucket.",
        "letheon_update_stage_seconds",
        f'stage="{stage}"',
        height=7,
    )


def _agent(title: str, what: str, histogram: str) -> Panel:
    queries = percentiles(histogram)
    return Panel(title, what, "s", queries, width=8, height=7, log=True, colours=PERCENTILES)


PAGE = Dashboard(
    uid="letheon-latency",
    title="Letheon / latency",
    description="Percentiles and heat maps of every stage; points link to traces.",
    rows=(
        Row(
            "An update at the site (needs the agents' metrics)",
            (
                _agent(
                    "Agent: download",
                    "Fetching the model that a task trains from.",
                    "letheon_agent_download_seconds",
                ),
                _agent(
                    "Agent: train",
                    "Local training of one task, download not counted.",
                    "letheon_agent_train_seconds",
                ),
                _agent(
                    "Agent: upload",
                    "Sending one payload until its receipt came.",
                    "letheon_agent_upload_seconds",
                ),
            ),
        ),
        Row(
            "An update at the coordinator",
            (
                *(_stage(stage, what) for stage, what in _UPDATE.items()),
                Panel(
                    "Update: all stages, p99",
                    "Which stage dominates.",
                    "s",
                    (quantile_by("stage", "letheon_update_stage_seconds", 0.99),),
                    width=8,
                    height=7,
                    log=True,
                ),
            ),
        ),
        Row(
            "Heat maps of an update",
            (
                *(_heat_of_stage(stage, what) for stage, what in _UPDATE.items()),
                heat(
                    "All calls, heat map",
                    "Calls per second in each bucket of duration.",
                    "letheon_rpc_seconds",
                    height=7,
                ),
            ),
        ),
        Row(
            "An erasure",
            (
                Panel(
                    "Erasure: stages, p50",
                    "fence: call to answer; claim: fenced to claimed; remove: claimed to removed; "
                    "calibrate: the method at work; verify: removed to promoted; promote: proof "
                    "and destruction; conclude: promoted to certified.",
                    "s",
                    (quantile_by("stage", "letheon_erasure_stage_seconds", 0.5),),
                    width=8,
                    log=True,
                ),
                Panel(
                    "Erasure: stages, p99",
                    "As the panel beside it.",
                    "s",
                    (quantile_by("stage", "letheon_erasure_stage_seconds", 0.99),),
                    width=8,
                    log=True,
                ),
                Panel(
                    "Erasure: in the calibrator, p90",
                    "remove, method, gate and record, as the calibrator sees them.",
                    "s",
                    (quantile_by("stage", "letheon_calibrator_stage_seconds", 0.9),),
                    width=8,
                    log=True,
                ),
                heat(
                    "Erasure: fence, heat map",
                    "From the call to its answer: at most 50 ms beyond one commit is the promise.",
                    "letheon_erasure_stage_seconds",
                    'stage="fence"',
                    width=12,
                    height=7,
                ),
                heat(
                    "Erasure: request to end, heat map",
                    "The whole way of an erasure.",
                    "letheon_erasure_stage_seconds",
                    'stage="total"',
                    width=12,
                    height=7,
                ),
            ),
        ),
    ),
)
