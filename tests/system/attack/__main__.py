"""`python -m tests.system.attack`: attacks on a federation with everything switched on.

Exit code: 0 if every attack was stopped or detected, 1 if one was neither, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import (
    afterwards,
    backups,
    calls,
    certificates,
    erasures,
    poison,
    replays,
    silence,
    tampering,
)
from .attacks import ATTACKS, Done, Verdict, carry_out
from .table import PAGE, document, table, write_page
from .world import World

# Erasures are carried out late: what they destroy is gone for the others.
ORDER = [
    one.FAMILY
    for one in (
        calls, replays, poison, silence, erasures, tampering, certificates, backups, afterwards
    )
]  # fmt: skip


def main() -> int:
    """Carries the attacks out, one after the other, on one federation."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.attack", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the selection that CI runs")
    parser.add_argument("--only", help="attacks whose family or name holds this")
    parser.add_argument("--out", type=Path, default=Path("out/attack"), help="folder of the JSON")
    parser.add_argument("--page", action="store_true", help=f"write the table into {PAGE}")
    options = parser.parse_args()
    chosen = [
        one
        for one in sorted(ATTACKS, key=lambda one: ORDER.index(one.family))
        if (one.quick or not options.quick)
        and (not options.only or options.only in f"{one.family} {one.name}")
    ]
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="letheon-attack-"))
    done: list[Done] = []
    with World(root) as world:
        sys.stdout.write(f"{time.monotonic() - began:.1f} s: the federation is up in {root}\n")
        for one in chosen:
            done.append(carry_out(one, world))
            sys.stdout.write(_line(done[-1]))
            sys.stdout.flush()
    seconds = time.monotonic() - began
    sys.stdout.write(f"\n{table(done)}\n\n{_sum(done)} in {seconds:.0f} s\n")
    options.out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(document(done, seconds), indent=2) + "\n"
    (options.out / "attacks.json").write_text(content, encoding="utf-8")
    if options.page:
        write_page(done)
    failed = any(each.failed for each in done)
    if not failed:
        shutil.rmtree(root)
    return int(failed)


def _line(done: Done) -> str:
    one = done.attack
    outcome = done.outcome
    return (
        f"{done.seconds:5.1f} s {outcome.verdict:9} {one.family}: {one.name} -- "
        f"{outcome.happened}\n"
    )


def _sum(done: list[Done]) -> str:
    counts = dict.fromkeys(Verdict, 0)
    for each in done:
        counts[each.outcome.verdict] += 1
    return f"{len(done)} attacks: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


if __name__ == "__main__":
    sys.exit(main())
