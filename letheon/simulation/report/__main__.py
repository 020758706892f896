"""`make results`: writes docs/results.md and its pictures, or compares them (CHECK=1)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from letheon.errors import LetheonError
from letheon.simulation.report.rendering import differing, render, write


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0; 1 if the committed files differ; 2 for inputs that break a rule."""
    told = _parser().parse_args(arguments)
    try:
        files = render(told.results, told.studies)
    except LetheonError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if not told.check:
        write(files, told.docs)
        return 0
    changed = differing(files, told.docs)
    for path in changed:
        sys.stderr.write(f"{told.docs / path} differs from the results: run make results\n")
    return 1 if changed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="results", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/unlearning"))
    parser.add_argument("--studies", type=Path, default=Path("benchmarks/studies"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
