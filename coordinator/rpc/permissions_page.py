"""`docs/security/permissions.md`, written from the table by `make permissions`.

With `--check` it fails if the page would change.
"""

from __future__ import annotations

import sys
from pathlib import Path

from coordinator.rpc.permissions import EVERYBODY, TABLE, Reach, Rule

PAGE = Path(__file__).parents[2] / "docs" / "security" / "permissions.md"
_HEAD = """\
# Permissions

Who may call what, over mutual TLS. `make permissions` writes this page from
`coordinator/rpc/permissions.py`, the one table that the coordinator enforces; a test fails if they
differ, and a test makes every call as every role. An rpc that is not in the table is denied to
everybody.

- **yes**: may call it.
- **own**: only for what is of its own site: the site that the call names, or whose erasure or
  certificate it names. A call for another site is PERMISSION_DENIED.
- **central**: only for what is of no site: patches, and their uploads.
- **-**: PERMISSION_DENIED.

A local caller, on a plain connection of the loopback, may call everything: whoever can log in to
that machine can change its files as well. Beyond the table: a site cancels only a request of its
own; whoever asked for an erasure does not approve it; a signing request must be for the caller.

"""
_MARKS = {Reach.ANY: "yes", Reach.OWN: "own", Reach.CENTRAL: "central"}


def page() -> str:
    """The page, Markdown."""
    lines = [
        "| rpc | " + " | ".join(EVERYBODY) + " | no certificate | limited as |",
        "| --- " * (len(EVERYBODY) + 3) + "|",
    ]
    lines += [_row(name, rule) for name, rule in TABLE.items()]
    return _HEAD + "\n".join(lines) + "\n"


def _row(name: str, rule: Rule) -> str:
    marks = [_MARKS[rule.roles[role]] if role in rule.roles else "-" for role in EVERYBODY]
    without = "yes" if rule.without_certificate else "-"
    limited = rule.limited.value if rule.limited else "calls"
    short = name.removeprefix("letheon.v1.")
    return f"| `{short}` | " + " | ".join([*marks, without, limited]) + " |"


def main() -> int:
    """Exit code 1 if `--check` finds another page."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
            return 0
        sys.stderr.write("docs/security/permissions.md differs from the table: make permissions\n")
        return 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
