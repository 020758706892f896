"""What a task is: how labels are checked, what is minimised, and how a site is scored.

Everything that evidence and gate ask of a site goes through these few methods, so that they work
unchanged for every task: losses of single records for the forget statistic, correctness of single
records for the accuracy gap, and one score in [0, 1] for utility. A task is built from the plan's
`task` table and imports torch only where it computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from letheon import registry
from letheon.errors import BadConfig
from letheon.imaging.records import Records

if TYPE_CHECKING:
    import torch
    from torch import nn

    from letheon.imaging.scores import Bools, Floats, Utility

Shape = tuple[int, ...]  # of one record: (features,), (channels, height, width), with depth


@runtime_checkable
class Task(Protocol):
    """A task. Laws: the loss of a batch is finite and differentiable for finite outputs; losses
    of records are finite whatever the network answers; scores and correctness lie in [0, 1].
    """

    score: str  # in words, what `Utility.accuracy` holds
    one_class: bool  # each record has one class: what is written for classifiers applies

    def check_fit(
        self,
        records: Records,
        *,
        shape: Shape,
        classes: int,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Raises BadData unless a site can train on the records; BadConfig for a shape of record
        that the task does not take.
        """
        ...

    def check_labels(self, records: Records, classes: int) -> None:
        """Raises BadData for labels the plan does not know. For parts that are set aside: they
        may hold too little to train on.
        """
        ...

    def output_shape(self, shape: Shape, classes: int) -> Shape:
        """What a network answers for one record of that shape. Raises BadConfig."""
        ...

    def loss(self, outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over a batch: outputs [n, *output_shape], labels as in the records."""
        ...

    def judge_records(self, module: nn.Module, records: Records) -> tuple[Floats, Floats | Bools]:
        """Loss [n] of each record, and how right the network is about it [n], 0 to 1."""
        ...

    def utility(self, module: nn.Module, records: Records) -> Utility:
        """Scores over all records. Raises BadData without records."""
        ...

    def class_scores(self, module: nn.Module, records: Records) -> dict[str, float]:
        """The score of each class or label that the records can tell of, by name."""
        ...


def build_task(name: str, arguments: Mapping[str, Any]) -> Task:
    """The task of a plan. Raises UnknownPlugin, or BadConfig for arguments it does not take."""
    task = registry.build(registry.TASKS, name, arguments)
    if not isinstance(task, Task):
        raise BadConfig(f"plug-in {name!r} is no task")
    return task


def check_network(module: nn.Module, task: Task, shape: Shape, classes: int) -> None:
    """Sends one blank record through the network.

    Raises BadConfig if the answer has another shape than the task wants.
    """
    import torch

    wanted = (1, *task.output_shape(shape, classes))
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            outputs = module(torch.zeros(1, *shape))
    finally:
        module.train(was_training)
    got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if got != wanted:
        raise BadConfig(
            f"the network answers a record with {got}, the task wants {wanted}: "
            "choose a model that fits the task"
        )
