"""`python -m letheon.cli` is the `letheon` command."""

from letheon.cli.main import run

run()
