"""Records the answer to an exclude, evaluate, audit or erase task; the first one counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from coordinator.domain.task import AnswerKind, TaskKind
from coordinator.ports import Store
from coordinator.services.notify_recipients import Amend
from letheon.errors import MalformedRequest, UnknownTask
from letheon.servicekit.clock import Clock
from letheon.servicekit.faults import reach


@dataclass(frozen=True)
class SubmitAnswer:
    """The use case of SubmitAnswer. `answered` is told afterwards."""

    store: Store
    clock: Clock
    answered: Callable[[], None]
    amend: Amend

    def __call__(
        self, site: str, task: str, *, kind: AnswerKind, answer: dict[str, object]
    ) -> None:
        """Raises UnknownSite, UnknownTask, or MalformedRequest for another kind of answer."""
        with self.store.write() as uow:
            uow.sites.get(site)
            asked = uow.tasks.get(task)
            if asked.site != site or asked.withdrawn_at is not None:
                raise UnknownTask(f"tasks/{task} is withdrawn or of another site", task=task)
            if kind is not AnswerKind.FAILURE and kind.value != asked.kind.value:
                raise MalformedRequest(
                    f"tasks/{task} asks to {asked.kind}, the answer is to {kind}", field="answer"
                )
            if asked.answered_at is not None:
                return
            if kind is AnswerKind.ERASE:
                receipt = uow.receipts.find(str(answer["update_id"]))
                if receipt is None or receipt.task != task:
                    raise MalformedRequest(
                        "no payload was pushed for this task under that update_id",
                        field="erase.update_id",
                    )
            now = self.clock.now()
            uow.tasks.save(replace(asked, answer_kind=kind, answer=answer, answered_at=now))
            if asked.kind is TaskKind.INVALIDATE:
                self.amend.if_settled(uow, asked.erasure, now)
            uow.commit()
        reach("answer.committed")
        self.answered()
