"""`python -m letheon.cli.demo`"""

from letheon.cli.demo.command import run

run()
