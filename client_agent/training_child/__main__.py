"""`python -m client_agent.training_child PARENT_PID [MEMORY_LIMIT_BYTES]`, run by the daemon."""

from __future__ import annotations

import errno
import logging
import os
import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from typing import IO, Any

from client_agent.domain.tasks import GpuOutOfMemory, SiteDiskFailed, TaskAbandoned
from client_agent.training_child.lines import (
    OUT_OF_MEMORY,
    Abandon,
    Abandoned,
    Command,
    Failure,
    Reply,
    Result,
    parse_order,
    reply_line,
)
from client_agent.training_child.process_limits import die_with_parent, limit_memory
from client_agent.training_child.workbench import Workbench
from letheon.errors import InternalFault, LetheonError, MalformedRequest
from letheon.servicekit import logs

log = logging.getLogger(__name__)


class Orders:
    """Reads stdin in its own thread, so that an abandon is seen while a command runs."""

    def __init__(self, source: IO[str]) -> None:
        self._source = source
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._abandoned = 0
        threading.Thread(target=self._read, name="orders", daemon=True).start()

    def next(self) -> Command:
        """Waits for the next command."""
        return self._commands.get()

    def is_abandoned(self, command: Command) -> bool:
        """Whether the daemon gave this command up. Cheap: asked at every step."""
        return self._abandoned >= command.id

    def _read(self) -> None:
        for line in self._source:
            order = parse_order(line)
            if isinstance(order, Abandon):
                self._abandoned = max(self._abandoned, order.id)
            else:
                self._commands.put(order)
        # The daemon is gone or stops: whatever runs here is of no use, and nothing is promised
        # before the reply, so the quickest end is the right one.
        os._exit(0)


def main(arguments: list[str]) -> None:
    """Serves commands until stdin ends."""
    die_with_parent(int(arguments[0]))
    if len(arguments) > 1:
        limit_memory(int(arguments[1]))
    replies = _claim_stdout()
    logs.configure("letheon-agent-training", os.environ.get("LETHEON_LOG_LEVEL", "INFO"))
    orders = Orders(sys.stdin)
    workbench = Workbench()
    while True:
        command = orders.next()
        replies.write(reply_line(_serve(workbench, command, orders)))
        replies.flush()


def _serve(workbench: Workbench, command: Command, orders: Orders) -> Reply:
    try:
        result = _do(workbench, command, orders)
    except TaskAbandoned:
        return Abandoned(command.id)
    except LetheonError as error:
        return Failure(command.id, error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _unforeseen(command, error)
        return Failure(command.id, SiteDiskFailed("the disk of the agent has no room left"))
    except MemoryError:
        _leave_for_want_of_memory(command)
    except Exception as error:  # noqa: BLE001 - reported to the daemon, which decides
        if _is_for_want_of_gpu_memory(error):
            return Failure(command.id, _gpu_out_of_memory(command))
        if "can't allocate memory" in str(error):
            _leave_for_want_of_memory(command)
        return _unforeseen(command, error)
    return Result(command.id, result)


def _unforeseen(command: Command, error: Exception) -> Failure:
    # The text of an unforeseen error may quote a record, so only its place is logged.
    place = "".join(traceback.format_tb(error.__traceback__))
    fields = {"command": command.name, "error": type(error).__name__, "stack": place}
    log.error("command_failed", extra=fields)
    return Failure(command.id, InternalFault(f"{command.name} failed: {type(error).__name__}"))


def _is_for_want_of_gpu_memory(error: Exception) -> bool:
    # The class is torch's, and torch is loaded only when something is trained.
    return type(error).__name__ == "OutOfMemoryError" and type(error).__module__ == "torch"


def _gpu_out_of_memory(command: Command) -> GpuOutOfMemory:
    import torch

    log.error("gpu_out_of_memory", extra={"command": command.name})
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return GpuOutOfMemory(
        f"the GPU has no memory left for {command.name}: end what else uses it, ask the federation"
        ' for a smaller batch_size, or set training.device = "cpu"'
    )


def _do(workbench: Workbench, command: Command, orders: Orders) -> Mapping[str, Any]:
    arguments = command.arguments
    match command.name:
        case "device":
            return workbench.device(arguments)
        case "open":
            return workbench.open(arguments)
        case "exclude":
            return workbench.exclude(arguments)
        case "adopt":
            return workbench.adopt(arguments)
        case "quote":
            return workbench.quote(arguments)
        case "train":
            return workbench.train(arguments, lambda: orders.is_abandoned(command))
        case "evaluate":
            return workbench.evaluate(arguments)
        case "audit":
            return workbench.audit(arguments)
        case "erase":
            return workbench.erase(arguments)
        case _:
            raise MalformedRequest(f"no such command: {command.name}")


def _leave_for_want_of_memory(command: Command) -> None:
    log.error("out_of_memory", extra={"command": command.name})
    os._exit(OUT_OF_MEMORY)


def _claim_stdout() -> IO[str]:
    """Keeps the pipe for replies; whatever else prints, from C too, lands on stderr."""
    pipe = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return pipe


if __name__ == "__main__":
    main(sys.argv[1:])
