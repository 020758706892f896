"""`python agent_child.py CONFIG FOLDER`: the agent's own `main` with the quick trainer.

It trains privately where the configuration says so.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from private_trainer import PrivateTrainer
from quick_trainer import QuickTrainer

from client_agent import __main__ as program
from client_agent import bootstrap
from client_agent.config import AgentConfig
from letheon.servicekit.config import load

if __name__ == "__main__":
    trainer: QuickTrainer | PrivateTrainer = QuickTrainer(Path(sys.argv[2]))
    config = load(Path(sys.argv[1]), AgentConfig)
    if config.privacy is not None:
        trainer = PrivateTrainer(trainer, config.state_dir)
    build = functools.partial(bootstrap.build, trainer=trainer)
    setattr(program.bootstrap, "build", build)  # noqa: B010 - a test's trainer in a real process
    sys.exit(program.main(["--config", sys.argv[1]]))
