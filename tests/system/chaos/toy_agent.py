"""The real agent with the toy trainer in place of the training process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from client_agent import bootstrap
from client_agent.config import AgentConfig
from letheon.servicekit import config as configuration
from letheon.servicekit import logs
from letheon.servicekit.stop_signal import on_stop_signal

from .toy_trainer import ToyTrainer


def main() -> int:
    """As `python -m client_agent`; arguments of the data source are those of the toy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    config = configuration.load(parser.parse_args().config, AgentConfig)
    logs.configure("letheon-agent", config.log_level)
    config.state_dir.mkdir(parents=True, exist_ok=True)
    trainer = ToyTrainer(config.state_dir, **config.data.arguments)
    running = bootstrap.build(config, trainer=trainer)
    on_stop_signal(running.stop)
    try:
        running.agent.run()
    finally:
        running.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
