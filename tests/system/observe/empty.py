"""Which panels may stay empty in a healthy run, and why; and whether exactly those did."""

from __future__ import annotations

from collections.abc import Sequence

from .board import Board

# uid: title -> reason. A panel of this list that finds something is a mistake of the list.
MAY_BE_EMPTY = {
    "letheon-sites": {
        "Refused calls": "nobody calls what he may not",
        "Not believed by agents": "the coordinator tells the truth",
        "Coordinator not reached": "no agent lost its way in the run",
        "Certificate ends in": "the run is on loopback without TLS",
        "Records left out": "the images of the run are whole",
        "Privacy spent": "no site of the run trains privately",
        "Privacy budget spent": "no site of the run trains privately",
    },
    "letheon-resources": {
        "Chores that failed": "nothing failed",
    },
}
# Filled by what may or may not happen in a run.
MAY_BE_EITHER = {
    "letheon-sites": {"Coordinator not reached", "Overtaken or fenced"},
    "letheon-resources": {"Chores that failed"},
    "letheon-erasures": {"Nearest deadline"},
}


def problems(boards: Sequence[Board]) -> list[str]:
    """A sentence for each panel that is empty and may not be, or filled and should not."""
    wrong = []
    for board in boards:
        uid = board.page["uid"]
        allowed, either = MAY_BE_EMPTY.get(uid, {}), MAY_BE_EITHER.get(uid, set())
        for answer in board.answers:
            if answer.title in either:
                continue
            if answer.found == 0 and answer.title not in allowed:
                wrong.append(f"{uid}: {answer.title} found nothing")
            if answer.found and answer.title in allowed:
                wrong.append(f"{uid}: {answer.title} is said to be empty and is not")
        unknown = {*allowed, *either} - {answer.title for answer in board.answers}
        wrong += [f"{uid} has no panel {title}" for title in sorted(unknown)]
    return wrong


def table(boards: Sequence[Board]) -> str:
    """Panel -> series found, exemplars found."""
    lines = [f"{'panel':60} {'series':>6} {'exemplars':>9}"]
    for board in boards:
        lines.append(board.page["title"])
        lines += [
            f"  {answer.title:58} {answer.found:6} {len(answer.exemplars):9}"
            for answer in board.answers
        ]
    return "\n".join(lines) + "\n"
