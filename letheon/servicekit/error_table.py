"""The one table between the errors of the federation and gRPC status codes."""

from __future__ import annotations

from grpc import StatusCode

from letheon import errors
from letheon.errors import LetheonError

CODES: dict[type[LetheonError], StatusCode] = {
    errors.BadInput: StatusCode.INVALID_ARGUMENT,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.AlreadyExists: StatusCode.ALREADY_EXISTS,
    errors.Refused: StatusCode.FAILED_PRECONDITION,
    errors.NotAuthenticated: StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: StatusCode.PERMISSION_DENIED,
    errors.StartOver: StatusCode.ABORTED,
    errors.OffsetMismatch: StatusCode.OUT_OF_RANGE,
    errors.Busy: StatusCode.RESOURCE_EXHAUSTED,
    # The holder must let go first; its RetryInfo says when it pays to look again.
    errors.ClaimHeld: StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.Corrupt: StatusCode.DATA_LOSS,
    errors.InternalFault: StatusCode.INTERNAL,
    LetheonError: StatusCode.INTERNAL,
}


def code_of(error: type[LetheonError]) -> StatusCode:
    """The status code of an error class: its own, else that of its nearest parent."""
    return next(CODES[parent] for parent in error.__mro__ if parent in CODES)


def class_of_reason(reason: str) -> type[LetheonError] | None:
    """The class behind a reason such as `SITE_FENCED`; None if this release has none."""
    waiting = [LetheonError]
    while waiting:
        candidate = waiting.pop()
        if candidate.reason == reason:
            return candidate
        waiting.extend(candidate.__subclasses__())
    return None


def class_of_code(code: StatusCode) -> type[LetheonError]:
    """The most general class of a status code, for an answer that carries no reason."""
    for candidate, known in CODES.items():
        if known is code and candidate is not LetheonError:
            return candidate
    return errors.InternalFault
