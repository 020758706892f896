"""Whether the coordinator's transparency log continues what this agent has seen of it."""

from __future__ import annotations

from client_agent.checks.finding import Finding, Obstacle, failed, ok
from client_agent.config import AgentConfig
from client_agent.services.coordinator_trust import CoordinatorTrust, read_pinned
from client_agent.services.watch_log import LogFiles, LogRefused, compare
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.channel import open_channel
from letheon.servicekit.route import Route
from letheon.v1 import transparency_pb2, transparency_pb2_grpc

_DEADLINE_S = 10.0
_ADVICE = (
    "Keep the files in the folder log of state_dir: two checkpoints that contradict each other "
    "prove it. Ask the coordinator's operator, and whoever oversees the federation."
)


class _Reader:
    """The log, read by the doctor; nothing is written."""

    def __init__(self, stub: transparency_pb2_grpc.TransparencyStub) -> None:
        self._stub = stub

    def checkpoint(self) -> str:
        """The newest note."""
        return self._stub.GetCheckpoint(transparency_pb2.GetCheckpointRequest()).note

    def consistency(self, first: int, second: int) -> tuple[bytes, ...]:
        """The proof that the log only grew."""
        request = transparency_pb2.GetConsistencyRequest(first=first, second=second)
        return tuple(self._stub.GetConsistency(request).proof)

    def keys(self) -> bytes:
        """The coordinator's list of keys."""
        return self._stub.GetKeys(transparency_pb2.GetKeysRequest()).key_list


def check_log(config: AgentConfig, route: Route) -> Finding | None:
    """The finding; None for an agent that was given no key of the coordinator."""
    if config.coordinator_key is None:
        return None
    try:
        pinned, listed = read_pinned(config.coordinator_key)
    except BadConfig as error:
        return failed("log", Obstacle(error.message, "Put the coordinator's public key there."))
    channel = open_channel(config.coordinator, route=route, deadline_s=_DEADLINE_S)
    try:
        reader = _Reader(transparency_pb2_grpc.TransparencyStub(channel))
        trust = CoordinatorTrust(pinned, reader.keys, listed=listed)
        present, before = compare(
            reader.checkpoint(), LogFiles(config.state_dir / "log"), reader, trust
        )
    except LogRefused as error:
        return failed("log", Obstacle(error.message, _ADVICE))
    except LetheonError as error:
        return failed("log", Obstacle(error.message, "Ask the coordinator's operator."))
    finally:
        channel.close()
    since = "" if before is None else f", and it continues the {before.size} seen before"
    return ok("log", f"the transparency log has {present.size} entries{since}")
