"""What a series is called decides its colour where a name means well or ill, on every page alike.

Green went well, yellow was the caller's fault or waits, red is the service's fault or needs a
human, grey was called off. Names are Grafana's own; other series take its palette in their order.
"""

from __future__ import annotations

Colours = dict[str, str]

_GREY = "#8e8e8e"

PERCENTILES: Colours = {"p50": "light-blue", "p90": "blue", "p99": "dark-blue"}

CODES: Colours = {
    "OK": "green",
    "CANCELLED": _GREY,
    "INVALID_ARGUMENT": "yellow",
    "NOT_FOUND": "semi-dark-yellow",
    "ALREADY_EXISTS": "dark-yellow",
    "OUT_OF_RANGE": "light-yellow",
    "FAILED_PRECONDITION": "light-orange",
    "ABORTED": "orange",
    "UNIMPLEMENTED": "light-purple",
    "PERMISSION_DENIED": "purple",
    "UNAUTHENTICATED": "dark-purple",
    "RESOURCE_EXHAUSTED": "semi-dark-orange",
    "DEADLINE_EXCEEDED": "dark-orange",
    "UNAVAILABLE": "light-red",
    "INTERNAL": "red",
    "UNKNOWN": "semi-dark-red",
    "DATA_LOSS": "dark-red",
}

OUTCOMES: Colours = {
    "merged": "green",
    "buffered": "light-green",
    "stored": "dark-green",
    "superseded": _GREY,
    "voided": "light-purple",
    "fenced": "purple",
    "rejected": "red",
}

# Of the agents: a delta that was refused for good is dropped.
UPLOADS: Colours = OUTCOMES | {"dropped": "dark-red"}

STATES: Colours = {
    "awaiting_approval": "dark-purple",
    "received": "light-blue",
    "claimed": "blue",
    "erasing": "semi-dark-orange",
    "calibrating": "semi-dark-yellow",
    "verifying": "purple",
    "certified": "green",
    "failed": "red",
    "cancelled": _GREY,
}

VERDICTS: Colours = {"pass": "green", "inconclusive": "yellow", "fail": "red"}

ENTRIES: Colours = {
    "acknowledged": "green",
    "filed": "light-green",
    "checkpointed": "light-blue",
    "held": "yellow",
    "lost": "orange",
    "crashed": "red",
    "buried": "dark-red",
}
