"""What the services use and how far background work is behind."""

from __future__ import annotations

from panels import Dashboard, Panel, Query, Row
from queries import rate


def _line(title: str, what: str, unit: str, *queries: Query, **more: object) -> Panel:
    return Panel(title, what, unit, queries, width=8, height=7, minimum=0, **more)  # type: ignore[arg-type]


PAGE = Dashboard(
    uid="letheon-resources",
    title="Letheon / resources",
    description="Processes, disks, memory, slots and what background work has still to do.",
    rows=(
        Row(
            "Processes",
            (
                _line(
                    "Scraped",
                    "1 while Prometheus reaches it.",
                    "none",
                    Query("up", "{{job}} {{instance}}"),
                    maximum=1,
                ),
                _line(
                    "Memory",
                    "Resident memory of each process; an agent's training process is not in it.",
                    "bytes",
                    Query("letheon_process_resident_memory_bytes", "{{job}} {{instance}}"),
                ),
                _line(
                    "Address space",
                    "Virtual memory: grows with mapped payloads, which are no memory in use.",
                    "bytes",
                    Query("letheon_process_virtual_memory_bytes", "{{job}} {{instance}}"),
                ),
                _line(
                    "Processor",
                    "Cores in use.",
                    "none",
                    Query(
                        rate("letheon_process_cpu_seconds_total", "job, instance"),
                        "{{job}} {{instance}}",
                    ),
                ),
                _line(
                    "Open files",
                    "Share of the files that a process may open.",
                    "percentunit",
                    Query(
                        "letheon_process_open_fds / letheon_process_max_fds", "{{job}} {{instance}}"
                    ),
                ),
                _line(
                    "Running for",
                    "Since the start of each process: a drop is a restart.",
                    "s",
                    Query("time() - letheon_process_start_time_seconds", "{{job}} {{instance}}"),
                ),
            ),
        ),
        Row(
            "Disk",
            (
                _line(
                    "Free",
                    "Share of each disk. A ticket is opened at a tenth, a page at 3 %.",
                    "percentunit",
                    Query(
                        "letheon_disk_free_bytes / letheon_disk_size_bytes", "{{job}} {{instance}}"
                    ),
                    maximum=1,
                    thresholds=(("red", 0.0), ("yellow", 0.03), ("green", 0.1)),
                ),
                _line(
                    "Kept by the coordinator",
                    "Payloads, checkpoints, contributions and model files.",
                    "bytes",
                    Query("sum by (area) (letheon_disk_bytes)", "{{area}}"),
                    stacked=True,
                ),
                _line(
                    "Files without a row",
                    "Removed by the sweep: what a crash or a cut upload left.",
                    "none",
                    Query("sum by (area) (letheon_orphans_removed_total)", "{{area}}"),
                ),
            ),
        ),
        Row(
            "Coordinator",
            (
                _line(
                    "Calls being served",
                    "Each holds a worker (`limits.workers`).",
                    "none",
                    Query("letheon_rpc_running", "calls"),
                ),
                _line(
                    "Transfer slots",
                    "Payloads travelling, and how many may.",
                    "none",
                    Query("letheon_transfers", "taken"),
                    Query("letheon_transfer_slots", "slots"),
                ),
                _line(
                    "Leader",
                    "1 on the coordinator that may write.",
                    "none",
                    Query("letheon_leader", "{{instance}}"),
                    maximum=1,
                ),
            ),
        ),
        Row(
            "Background work",
            (
                _line(
                    "Lag of folding",
                    "Deltas not yet in the stored contribution of the site that has most of them.",
                    "none",
                    Query("letheon_fold_lag_entries", "rows"),
                ),
                _line(
                    "Lag of the checkpoint",
                    "Ledger rows that a restart would replay. At 1000 deltas wait.",
                    "none",
                    Query("letheon_checkpoint_lag_entries", "rows"),
                ),
                _line(
                    "Chores that failed",
                    "Within 15 minutes, by chore; each is tried again.",
                    "none",
                    Query(
                        "sum by (chore) (increase(letheon_chore_failures_total[15m])) > 0",
                        "{{chore}}",
                    ),
                ),
                _line(
                    "Last recovery",
                    "Seconds from the start of the process to the head.",
                    "s",
                    Query("letheon_recovery_seconds", "seconds"),
                ),
                _line(
                    "Rows replayed",
                    "By the last recovery.",
                    "none",
                    Query("letheon_recovery_entries", "rows"),
                ),
                Panel(
                    "Releases",
                    "Which release each process runs.",
                    "none",
                    (Query("count by (service, version) (letheon_build_info)"),),
                    kind="table",
                    width=8,
                    height=7,
                ),
            ),
        ),
    ),
)
