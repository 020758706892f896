"""`letheon-verify`: checks a certificate on a machine that has Python and `cryptography` only.

`letheon certificate verify` does the same where the whole command line is installed. Exit codes:
0 it holds, 1 it does not, 2 the command line is wrong, 78 a file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from letheon.errors import CertificateInvalid
from letheon.proof.certificate import Verified, trust, verify_file
from letheon.proof.words import document_of, lines_of

HOLDS, DOES_NOT_HOLD, CONFIGURATION = 0, 1, 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks one file; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        content = options.certificate.read_bytes()
        key = options.key.read_bytes() if options.key else None
        log_key = options.log_key.read_bytes() if options.log_key else None
    except OSError as error:
        sys.stderr.write(f"letheon-verify: {error.filename} cannot be read: {error.strerror}.\n")
        return CONFIGURATION
    try:
        verified = verify_file(content, trust(key, log_key, options.federation))
    except CertificateInvalid as error:
        _print_invalid(error, as_json=options.format == "json")
        return DOES_NOT_HOLD
    _print_valid(verified, as_json=options.format == "json")
    return HOLDS


def run() -> None:
    """Entry point of the console script."""
    raise SystemExit(main())


def _print_valid(verified: Verified, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(document_of(verified), indent=2) + "\n")
        return
    sys.stdout.write("".join(f"{line}\n" for line in lines_of(verified)))


def _print_invalid(error: CertificateInvalid, *, as_json: bool) -> None:
    if as_json:
        told = {"valid": False, "reason": error.message, "rule": error.facts.get("rule")}
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
        return
    sys.stdout.write(f"THE CERTIFICATE DOES NOT HOLD: {error.message}.\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="letheon-verify",
        description="Check the certificate of an erasure, offline.",
    )
    parser.add_argument("certificate", type=Path, metavar="CERTIFICATE")
    parser.add_argument("--key", type=Path, help="the calibrator's public key, or list of keys")
    parser.add_argument(
        "--log-key", type=Path, help="the coordinator's public key, or list of keys"
    )
    parser.add_argument("--federation", help="the origin that the certificate must name")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    return parser


if __name__ == "__main__":
    run()
