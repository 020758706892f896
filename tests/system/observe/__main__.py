"""`make observe`: a federation under a real Prometheus, every panel asked, every dashboard drawn.

Exit code 1 if a panel found nothing that is not allowed to, or no trace crossed the services.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # builders

from .board import Board, ask, pages
from .empty import problems, table
from .story import tell, watched

LONGEST_TRACE = {"letheon-agent", "letheon-coordinator", "letheon-calibrator"}


def run(out: Path, *, sites: int, before: int, after: int, say: object = print) -> list[Board]:
    """The boards of a run. Raises AssertionError if the erasure or the traces fall short."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    tell_line = say if callable(say) else print
    with watched(out, sites=sites, say=tell_line) as world:
        world.until("the first version", lambda: world.version() >= 1, 120.0)
        start = time.time()
        state = tell(world, before=before, after=after)
        end = time.time()
        boards = [ask(world.prometheus, page, start, end) for page in pages()]
        receiver = world.receiver
    assert state == "CERTIFIED", state
    spans = receiver.spans  # complete: every process has stopped and sent what it had
    crossed = [
        trace for trace in {s.trace for s in spans} if receiver.services_of(trace) >= LONGEST_TRACE
    ]
    tell_line(f"{len(spans)} spans in {len({s.trace for s in spans})} traces; "
              f"{len(crossed)} went through agent, coordinator and calibrator")  # fmt: skip
    assert crossed, "no trace went through all three services"
    return boards


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/observe"))
    parser.add_argument("--keep", type=Path, help="folder that gets the pictures, too")
    options = parser.parse_args()
    boards = run(options.out, sites=4, before=40, after=40)
    from .pictures import draw

    for board in boards:
        path = options.out / f"{board.page['uid']}.png"
        draw(board, path)
        if options.keep is not None:
            options.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, options.keep)
    sys.stdout.write(table(boards))
    wrong = problems(boards)
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
