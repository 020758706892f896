"""Finding a site's own training code, and running it once for a task.

`[training] code` is one of:

    train.py           a script, run anew for each task: it calls receive() and send(), or defines
                       one function marked with @letheon.train
    train.py:NAME      loaded once; NAME is a function train(model, records, config), a ClientAlgo
                       of MONAI, or a class or function without arguments that makes one
    NAME               an entry point of group `letheon.trainers`: as NAME of a file

It is the site's own file, named in the site's own configuration. Nothing of it comes from the wire.
"""

from __future__ import annotations

import errno
import importlib.util
import inspect
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from letheon import registry
from letheon.errors import BadConfig, LetheonError, TrainingCodeFailed
from letheon.site.checks import checked
from letheon.site.handover import MARK, at_hand
from letheon.site.job import Job, Sent
from letheon.site.repeatable import repeatable
from letheon.site.traces import place_of


class TrainingCode(Protocol):
    """Code that is ready to run."""

    def __call__(self, job: Job) -> Sent | None:
        """Trains once. None: it sent nothing.

        Raises what the code raises; LetheonError for what it sent.
        """


def load_code(told: str) -> TrainingCode:
    """The code of a configuration. Raises BadConfig with the place, or UnknownPlugin."""
    file, colon, name = told.rpartition(":")
    path = Path(file if colon else told).expanduser()
    if path.suffix != ".py":
        return _ready(registry.find(registry.TRAINERS, told), told)
    if not path.is_file():
        raise BadConfig(f"there is no training code {path}", path=path)
    if colon:
        return _ready(_attribute(_module(path), name, path), told)
    _compiled(path)
    return Script(path)


def run_code(code: TrainingCode, job: Job) -> Sent:
    """Runs the code once: seeded, deterministic kernels, in training mode.

    Raises MalformedUpdate for weights that are not the model's, MemoryError, OSError for a full
    disk, and TrainingCodeFailed for all else; its cause is what the code raised.
    """
    with repeatable(job.config.seed):
        job.module.train()
        try:
            sent = code(job)
        except (LetheonError, MemoryError):
            raise
        except Exception as error:
            if "can't allocate memory" in str(error):
                raise MemoryError from error
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # of the site's disk, not of the code
            # Its text may quote a record, and errors are logged: the place must do.
            place = place_of(error)
            raise TrainingCodeFailed(
                f"the site's training code raised {type(error).__name__} at {place}", place=place
            ) from error
    if sent is None:
        raise TrainingCodeFailed("the training code ended without calling letheon.site.send()")
    return sent


@dataclass(frozen=True)
class Script:
    """A file that is run anew for each task, so that nothing of one task reaches the next."""

    path: Path

    def __call__(self, job: Job) -> Sent | None:
        """Runs the file; then the marked function, if it defines one."""
        with at_hand(job) as handover, _as_main(self.path):
            try:
                defined = runpy.run_path(str(self.path), run_name="__main__")
            except SystemExit as end:
                if end.code not in (None, 0):
                    raise TrainingCodeFailed(f"the training code ended with {end.code!r}") from end
                defined = {}
            marked = [each for each in defined.values() if getattr(each, MARK, False)]
            if handover.sent is None and len(marked) == 1:
                return Function(marked[0])(job)
            if len(marked) > 1:
                raise TrainingCodeFailed(f"{self.path.name} marks several functions: keep one")
        return handover.sent


@dataclass(frozen=True)
class Function:
    """`train(model, records, config)`: trains the model in place."""

    function: Callable[..., Any]

    def __call__(self, job: Job) -> Sent:
        """Calls it; the model's parameters are what it sends."""
        with at_hand(job):
            told = self.function(job.module, job.records, job.config)
        if told is not None and not isinstance(told, Mapping):
            raise TrainingCodeFailed(
                f"train() returned a {type(told).__name__}; it trains the model in place and "
                "returns None or a mapping of numbers"
            )
        weights = dict(job.module.named_parameters())
        return checked(weights, job.base, records=len(job.records), num_examples=None, metrics=told)


def _ready(found: Any, told: str) -> TrainingCode:  # noqa: ANN401 - whatever the site's file defines
    """The callable for what a name stands for. Raises BadConfig."""
    from letheon.site.monai_algo import MonaiTraining, is_algo

    if is_algo(found):
        return MonaiTraining(lambda: found)
    if not callable(found):
        raise BadConfig(f"training code {told!r} is a {type(found).__name__}, not a function")
    if getattr(found, MARK, False) or _takes_a_job(found):
        return Function(found)
    with _failing_at_start(told):
        made = found()
    if not is_algo(made):
        raise BadConfig(
            f"training code {told!r} takes no (model, records, config) and makes no ClientAlgo"
        )
    return MonaiTraining(found)


def _takes_a_job(found: Callable[..., Any]) -> bool:
    try:
        inspect.signature(found).bind(None, None, None)
    except (TypeError, ValueError):
        return False
    return not inspect.isclass(found)


def _module(path: Path) -> Any:  # noqa: ANN401 - a module
    name = f"letheon_site_code_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadConfig(f"training code {path} cannot be loaded", path=path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as an import does: dataclasses and pickle look there
    sys.path.insert(0, str(path.parent.absolute()))
    with _failing_at_start(str(path)):
        spec.loader.exec_module(module)
    return module


def _attribute(module: Any, name: str, path: Path) -> Any:  # noqa: ANN401 - whatever is defined
    if not hasattr(module, name):
        raise BadConfig(f"training code {path} defines no {name!r}", path=path)
    return getattr(module, name)


def _compiled(path: Path) -> None:
    with _failing_at_start(str(path)):
        compile(path.read_bytes(), str(path), "exec")


@contextmanager
def _failing_at_start(told: str) -> Iterator[None]:
    try:
        yield
    except LetheonError:
        raise
    except Exception as error:
        raise BadConfig(
            f"training code {told} cannot be loaded: {type(error).__name__} at {place_of(error)}: "
            f"{error}"
        ) from error


@contextmanager
def _as_main(path: Path) -> Iterator[None]:
    """Arguments and import path as for `python path`; both as before afterwards."""
    arguments, paths = sys.argv, list(sys.path)
    sys.argv = [str(path)]
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        yield
    finally:
        sys.argv, sys.path[:] = arguments, paths
