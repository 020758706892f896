"""`python -m tests.system.chaos`: federations of real processes, faults, and the checker.

Exit code: 0 if everything held, 1 for a violation, 2 for bad arguments. A run prints its seed;
the same seed gives the same faults, and what they hit as far as timing allows.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from .checker import check
from .databases import Databases, databases
from .driver import Driver
from .evidence import gather
from .faults import Fault, known_points, schedule
from .processes import processes_of
from .summary import Summary
from .world import Settings, World

_PER_FEDERATION = 40
_AT_LEAST = 5


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """A line, at once, with the seconds since the start."""
    sys.stdout.write(f"{time.monotonic() - _BEGAN:6.1f} {text}\n")
    sys.stdout.flush()


def main() -> int:
    """Runs federations until enough faults were injected, or one violation was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="to inject, at least")
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, printed")
    parser.add_argument("--first", type=int, default=0, help="federation to begin with")
    parser.add_argument("--only", type=int, default=None, help="that many of one federation")
    options = parser.parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    postgres = os.environ.get("LETHEON_TEST_POSTGRES") == "1"
    # PostgreSQL runs as a user of its own and has to reach its folder.
    folder = Path(tempfile.mkdtemp(prefix="letheon-chaos-"))
    folder.chmod(0o755)
    name = "PostgreSQL" if postgres else "SQLite"
    command = f"make chaos FAULTS={options.faults} SEED={seed}"
    if options.only is not None:
        command = f"python -m tests.system.chaos --seed {seed} --only {options.only}"
    summary = Summary(name, f"LETHEON_TEST_POSTGRES=1 {command}" if postgres else command)
    began = time.monotonic()
    say(f"chaos on {name}: {summary.command}, in {folder}")
    federation, held = options.first, True
    with databases(folder, postgres=postgres) as stores:
        while held and summary.faults < options.faults:
            count = options.only or min(_PER_FEDERATION, options.faults - summary.faults)
            held = _run(folder, seed, federation, max(_AT_LEAST, count), stores, summary)
            federation += 1
            if options.only is not None:
                break
    summary.seconds = time.monotonic() - began
    say(f"\n{summary.table()}")
    if held:
        shutil.rmtree(folder)
    return 0 if held else 1


def _run(
    folder: Path, seed: int, federation: int, count: int, stores: Databases, summary: Summary
) -> bool:
    """One federation; whether everything held."""
    points = known_points()
    # The schedule is drawn whole and cut off, so that it does not depend on how much is left.
    settings, faults = schedule(
        seed, federation, _PER_FEDERATION, points, postgres=stores.is_postgres
    )
    root = folder / f"federation-{federation}"
    say(f"federation {federation}: {settings}; {root}")
    began = time.monotonic()
    violations = _torment(root, settings, faults[:count], stores.make(federation), summary)
    if left := processes_of(root):
        violations += [f"leaked: process {process.pid} {process.name()}" for process in left]
    say(f"  {time.monotonic() - began:.0f} s, {summary.faults} faults so far")
    if not violations:
        shutil.rmtree(root)
        return True
    say(f"VIOLATION in federation {federation}, seed {seed}; everything is kept in {root}")
    for violation in violations:
        say(f"  - {violation}")
    say(f"again: python -m tests.system.chaos --seed {seed} --first {federation} --only {count}")
    return False


def _torment(
    root: Path, settings: Settings, faults: list[Fault], database, summary: Summary
) -> list[str]:
    world = World(root, settings, database)
    url = database.url or f"sqlite:///{world.data / 'coordinator.sqlite'}"
    driver = Driver(world, url, say)
    verdict = None
    try:
        world.start()
        driver.run(faults)
        driver.settle()
        world.fleet.stop_together(world.agents_and_calibrators)
        verdict = driver.final_verdict()
    except (AssertionError, OSError, TimeoutError) as error:
        driver.violations.append(f"the driver: {error!r} {traceback.format_exc()}")
    finally:
        world.close()
    summary.injected += driver.injected
    summary.missed += driver.missed
    evidence = gather(
        world, url=url, fences=tuple(driver.fences), verdict=verdict, hurt=driver.hurt
    )
    violations = driver.violations + check(evidence)
    summary.add(evidence, violations)
    return violations


if __name__ == "__main__":
    sys.exit(main())
