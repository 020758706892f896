"""Entry point of the `letheon` command, also where only a verifier's packages are installed."""

from __future__ import annotations

import sys


def run() -> None:
    """The whole command line; without its packages, `letheon certificate verify FILE` only."""
    try:
        from letheon.cli.main import run as run_all
    except ModuleNotFoundError as error:
        if sys.argv[1:3] != ["certificate", "verify"]:
            sys.stderr.write(
                f"letheon: {error}. Install the whole of it with `pip install letheon`; without it "
                "there is `letheon certificate verify FILE`.\n"
            )
            raise SystemExit(78) from error
        from letheon.proof.verifier import main

        raise SystemExit(main(sys.argv[3:])) from None
    run_all()
