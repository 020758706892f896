"""A peer in a virtual environment of its own, from its package index, or why it is not there."""

from __future__ import annotations

import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ingestion.figures import say

INSTALL_S = 1800.0


@dataclass(frozen=True)
class Peer:
    """What to install, step by step, and the harness that runs it."""

    name: str
    harness: str
    steps: tuple[tuple[str, ...], ...]  # arguments of pip install
    layouts: tuple[int, ...] = (8, 160)
    variants: tuple[tuple[str, tuple[str, ...]], ...] = (("", ()),)  # name, options of the harness


PEERS = {
    "flower": Peer(
        "Flower",
        "flower.py",
        (("flwr==1.42.0",),),
        variants=(
            ("in memory", ()),
            ("SQLite", ("--database",)),
            ("SQLite, as shipped", ("--database", "--shipped")),
        ),
    ),
    "nvflare": Peer(
        "NVFlare",
        "nvflare_run.py",
        (("nvflare==2.9.0",),),
        layouts=(1,),
        variants=(("simulator", ()), ("provisioned, mTLS", ("--poc",))),
    ),
    # Its full set of dependencies would bring a torch for CUDA.
    "appfl": Peer(
        "APPFL",
        "appfl_run.py",
        (
            (
                "torch==2.13.0",
                *("numpy", "omegaconf", "grpcio", "protobuf", "pyyaml", "requests", "wandb"),
                *("colorama", "matplotlib", "seaborn", "scikit-learn", "globus-sdk", "boto3"),
                *("proxystore", "pillow"),
            ),
            ("--no-deps", "torchvision==0.28.0", "piq", "opacus", "appfl==1.12.0"),
        ),
        variants=(("as shipped", ()), ("without forced collections", ("--lean",))),
    ),
}


def ready(key: str, folder: Path) -> Path | None:
    """The Python of the peer's environment, made now if need be; None, with a sentence, if not."""
    peer, home = PEERS[key], folder / key
    python, done = home / "bin" / "python", home / "installed"
    if done.exists():
        return python.absolute()
    say(f"{peer.name}: installing into {home}")
    if not python.exists():
        venv.create(home, with_pip=True)
    for step in peer.steps:
        command = [str(python), "-m", "pip", "install", "--quiet", *step]
        try:
            found = subprocess.run(
                command, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
        except subprocess.TimeoutExpired:
            say(f"{peer.name} is left out: its installation took more than {INSTALL_S:.0f} s")
            return None
        if found.returncode:
            errors = [line for line in found.stderr.splitlines() if line.startswith("ERROR")]
            why = errors[0] if errors else f"pip ended with {found.returncode}"
            say(f"{peer.name} is left out: it cannot be installed here: {why}")
            return None
    done.touch()
    return python.absolute()
