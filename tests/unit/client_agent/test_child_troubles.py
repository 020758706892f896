"""What the training process answers when a disk or a GPU has no room left."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_vector_files import VECTOR, a_plan
from workbench_arguments import opening

from client_agent.domain.tasks import GpuOutOfMemory
from client_agent.training_child.__main__ import Orders, _serve
from client_agent.training_child.devices import choose_device, describe
from client_agent.training_child.held_records import skip_counts
from client_agent.training_child.lines import (
    Command,
    Failure,
    Reply,
    Result,
    parse_reply,
    reply_line,
)
from client_agent.training_child.vector_files import write_payload
from client_agent.training_child.workbench import Workbench
from letheon.errors import BadConfig, StorageUnavailable
from letheon.imaging.sources.synthetic import SyntheticSource


class Bench(Workbench):
    """A workbench whose training does what a test says."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__()
        self._work = work

    def train(self, arguments: object, should_abandon: object) -> dict[str, object]:
        self._work()
        return {}


def answer_to(work: Callable[[], object]) -> Reply:
    command = Command(1, "train", {})
    reply = _serve(Bench(work), command, Orders(_Open()))
    return parse_reply(reply_line(reply))  # as the daemon reads it


class _Open(io.StringIO):
    """A stdin on which nothing comes and that does not end."""

    def __iter__(self) -> _Open:
        return self

    def __next__(self) -> str:
        import threading

        threading.Event().wait()
        raise StopIteration


def test_a_gpu_out_of_memory_fails_the_task_with_a_sentence_and_the_process_lives() -> None:
    def train() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    reply = answer_to(train)
    assert isinstance(reply, Failure)
    assert isinstance(reply.error, GpuOutOfMemory)
    assert "batch_size" in reply.error.message
    assert isinstance(answer_to(lambda: None), Result)


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    full = Path("/dev/full")  # every write to it ends with ENOSPC
    reply = answer_to(
        lambda: write_payload(VECTOR, a_plan(), full, encoding="float32", max_norm=None)
    )
    assert isinstance(reply, Failure)
    assert isinstance(reply.error, StorageUnavailable)
    assert "no room left" in reply.error.message


def test_reasons_that_could_name_a_patient_never_become_a_label() -> None:
    told = {"truncated": 2, "MUELLER^HANS.dcm": 1, "scan 7": 1}
    assert skip_counts(told) == {"truncated": 2, "other": 2}
    letters = "abcdefghijklmnopqrstuvwxyz"
    many = {f"reason_{one}{other}": 1 for one in letters for other in letters}
    assert len(skip_counts(many)) <= 33
    assert sum(skip_counts(many).values()) == len(many)


class Report:
    def to_dict(self) -> dict[str, object]:
        return {"skipped": {"truncated": 3}}


class TellingSource:
    """A source with a report, as those for DICOM and NIfTI have one."""

    def load_with_report(self) -> object:
        made = SyntheticSource(records=40, classes=2, channels=1, height=8, width=8)
        return SimpleNamespace(records=made.load(), report=Report())


def test_what_a_source_left_out_is_among_the_holdings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letheon.registry.find", lambda group, name: TellingSource)
    told = Workbench().open(opening(tmp_path, "telling", {}))
    assert told["skipped"] == {"truncated": 3}
    assert told["train_records"] > 0


def test_a_gpu_that_is_not_there_is_refused_by_its_key() -> None:
    with pytest.raises(BadConfig, match=r'training\.device = "cuda:99".*sees \d+ GPUs'):
        choose_device("cuda:99")


def test_auto_takes_a_gpu_if_there_is_one() -> None:
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device("auto").type == kind
    assert describe("cpu")["device"] == "cpu"


def test_mixed_precision_trains_to_nearly_the_same_weights() -> None:
    from letheon.imaging.local_training import LocalTraining, train_locally
    from letheon.imaging.models.model import ImageSpec
    from letheon.imaging.models.weights import initialise, read_weights

    records = SyntheticSource(records=40, classes=2, channels=1, height=8, width=8).load()

    def trained(mixed: bool) -> np.ndarray:
        module = initialise("small_cnn", {"width": 4}, ImageSpec(1, 8, 8), 2, seed=1)
        settings = LocalTraining(steps=4, batch_size=8, mixed_precision=mixed)
        train_locally(module, records, settings, seed=3)
        return np.concatenate([w.ravel() for w in read_weights(module).values()])

    full, mixed = trained(False), trained(True)
    assert not np.array_equal(full, mixed)
    np.testing.assert_allclose(full, mixed, atol=0.05)
