"""`python agent_child.py CONFIG FOLDER`: the agent's own `main` with the quick trainer."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from quick_trainer import QuickTrainer

from client_agent import __main__ as program
from client_agent import bootstrap

if __name__ == "__main__":
    trainer = QuickTrainer(Path(sys.argv[2]))
    build = functools.partial(bootstrap.build, trainer=trainer)
    setattr(program.bootstrap, "build", build)  # noqa: B010 - a test's trainer in a real process
    sys.exit(program.main(["--config", sys.argv[1]]))
