"""Who makes the call that is being served.

An interceptor sets it before a servicer runs; services and the audit log read it with
`current_caller()`, which needs no argument to be passed through and no gRPC.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What a caller is in the federation."""

    SITE = "site"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    CALIBRATOR = "calibrator"
    CONSENT = "consent"
    MONITOR = "monitor"
    LOCAL = "local"  # a plain connection on the loopback: whoever can log in to this machine


@dataclass(frozen=True)
class Caller:
    """An identity that was proved by a certificate, or a local one.

    Of a site `name` is its identifier, of an operator the person's; of a local caller it is the
    site that the call names, or empty. `serial` is that of the certificate in lower-case
    hexadecimal digits, empty for a local caller.
    """

    role: Role
    name: str = ""
    serial: str = ""

    def __str__(self) -> str:
        return f"{self.role}/{self.name}" if self.name else str(self.role)


# Outside of a served call it is the process itself that acts: a chore, or a test of a service.
_NOBODY_ELSE = Caller(Role.LOCAL)
_current: ContextVar[Caller] = ContextVar("caller", default=_NOBODY_ELSE)


def current_caller() -> Caller:
    """The caller of the call that this thread serves; outside of a call a local one, unnamed."""
    return _current.get()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    """Within it, `current_caller` is this one."""
    before = _current.get()
    _current.set(caller)
    try:
        yield
    finally:
        # A stream that was given up may be closed by another thread, whose own caller stays.
        if _current.get() is caller:
            _current.set(before)
