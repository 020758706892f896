"""Models held on disk for a while: bounded, and never from before the newest erasure for long.

A coordinator that was restored from an older backup gives out version numbers once more, with
other weights. It is known by an epoch or a head below what is held; then nothing held can be
trusted and all of it is forgotten.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from client_agent.domain.tasks import ModelFile
from client_agent.ports import Coordinator
from letheon.servicekit.part_file import PartFile

log = logging.getLogger(__name__)

_NAME = re.compile(r"v(?P<version>\d+)-e(?P<epoch>\d+)\.f32")
INCOMING = "incoming"
_PART = ".part"


class ModelCache:
    """Files named by version and epoch; a file with a final name is complete and verified."""

    def __init__(self, folder: Path, coordinator: Coordinator, *, max_models: int = 4) -> None:
        self._folder = folder
        self._coordinator = coordinator
        self._max_models = max_models

    def head(self) -> ModelFile:
        """The newest version, downloaded now."""
        head = self._download(None)
        if any(held.version > head.version for held in self._held()):
            log.warning("history_lost", extra={"head": head.version})
            self._forget_all_but(head)
        return head

    def version(self, version: int) -> ModelFile:
        """One version, downloaded unless held."""
        for held in self._held():
            if held.version == version:
                return held
        return self._download(version)

    def forget_before(self, epoch: int) -> None:
        """Removes models of earlier epochs, parts included: they may carry an erased subject.

        `epoch` is the coordinator's: a model of a later one is of a lost history.
        """
        if any(held.epoch > epoch for held in self._held()):
            self.forget_all()
        for held in self._held():
            if held.epoch < epoch:
                held.path.unlink(missing_ok=True)
        for part in self._parts():
            header = part.header()
            if header is None or header.epoch != epoch:
                part.discard()

    def forget_versions(self, first: int, last: int) -> int:
        """Removes models of these versions, and parts of them; how many there were."""
        removed = 0
        for held in self._held():
            if first <= held.version <= last:
                held.path.unlink(missing_ok=True)
                removed += 1
        for part in self._parts():
            header = part.header()
            if header is None or first <= header.version <= last:
                part.discard()
                removed += 1
        return removed

    def forget_all(self) -> None:
        """Removes every model and part."""
        self._forget_all_but(None)

    def _forget_all_but(self, kept: ModelFile | None) -> None:
        for held in self._held():
            if held != kept:
                held.path.unlink(missing_ok=True)
        for part in self._parts():
            part.discard()

    def _parts(self) -> list[PartFile]:
        paths = self._folder.glob(f"{INCOMING}*{_PART}")
        return [PartFile(path.with_name(path.name.removesuffix(_PART))) for path in paths]

    def _download(self, version: int | None) -> ModelFile:
        name = INCOMING if version is None else f"{INCOMING}-{version}"
        arrived = self._coordinator.download(version, self._folder / name)
        path = self._folder / f"v{arrived.version}-e{arrived.epoch}.f32"
        arrived.path.replace(path)
        model = ModelFile(arrived.version, arrived.epoch, path)
        self._evict(keep=model)
        return model

    def _held(self) -> list[ModelFile]:
        models = []
        for path in self._folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                models.append(ModelFile(int(match["version"]), int(match["epoch"]), path))
        return models

    def _evict(self, keep: ModelFile) -> None:
        oldest_first = sorted(self._held(), key=lambda model: model.path.stat().st_mtime)
        spare = [model for model in oldest_first if model != keep]
        for model in spare[: max(0, len(spare) + 1 - self._max_models)]:
            model.path.unlink(missing_ok=True)
