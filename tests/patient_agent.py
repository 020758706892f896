"""`python patient_agent.py CONFIG`: the agent's own `main` with a trainer that has patients."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from records_trainer import RecordsTrainer

from client_agent import __main__ as program
from client_agent import bootstrap
from client_agent.config import AgentConfig
from letheon.servicekit.config import load

PATIENTS = {f"patient-{i:03}": 2 for i in range(20)}

if __name__ == "__main__":
    config = load(Path(sys.argv[1]), AgentConfig)
    trainer = RecordsTrainer(config.state_dir, PATIENTS)
    build = functools.partial(bootstrap.build, trainer=trainer)
    setattr(program.bootstrap, "build", build)  # noqa: B010 - a test's trainer in a real process
    sys.exit(program.main(["--config", sys.argv[1]]))
