"""The built images as trees of files, and what they start by themselves."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """A container's tree, made from an image, and what the image says of its start."""

    tree: Path
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environ: dict[str, str]


@contextmanager
def mounted(name: str) -> Iterator[Image]:
    """A fresh container of `make images`. Raises RuntimeError with buildah's sentence."""
    container = _buildah("from", "--pull-never", name)
    try:
        tree = Path(_buildah("mount", container))
        said = json.loads(_buildah("inspect", "--type", "image", name))["OCIv1"]["config"]
        yield Image(
            tree,
            tuple(said.get("Entrypoint") or ()),
            tuple(said.get("Cmd") or ()),
            dict(each.split("=", 1) for each in said.get("Env") or ()),
        )
    finally:
        _buildah("umount", container)
        _buildah("rm", container)


def _buildah(*words: str) -> str:
    # As deploy/docker/images.sh keeps them.
    environ = {**os.environ, "STORAGE_DRIVER": "vfs"}
    done = subprocess.run(["buildah", *words], capture_output=True, text=True, env=environ)
    if done.returncode:
        raise RuntimeError(f"buildah {' '.join(words)}: {done.stderr.strip()} (make images)")
    return done.stdout.strip()
