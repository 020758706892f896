"""The one interceptor that knows who calls, and lets through what the table allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import grpc

from coordinator.ports import Store
from coordinator.rpc.permissions import TABLE, Limited, Reach, Rule
from letheon.errors import LetheonError, NotAuthenticated, NotPermitted, RateLimited
from letheon.servicekit.call_rate import CallRate, CallsAtOnce
from letheon.servicekit.caller import Caller, Role
from letheon.servicekit.clock import Clock
from letheon.servicekit.deny_list import DenyList
from letheon.servicekit.identity import caller_of, is_encrypted, peer_of
from letheon.servicekit.interception import Message, Method, around_requests, short_name
from letheon.servicekit.slow_calls import SlowCalls

_LOCAL = Caller(Role.LOCAL)


@dataclass(frozen=True)
class Identification:
    """How callers prove who they are: by certificates of a federation that are not denied."""

    federation: str | None  # None: whatever the authority has signed
    denied: DenyList
    clock: Clock

    def caller(self, context: grpc.ServicerContext) -> Caller | None:
        """The caller, or None if it showed no certificate. Raises NotAuthenticated."""
        found = peer_of(context)
        if found is None:
            return None
        if self.federation not in (None, found.identity.federation):
            raise NotAuthenticated(
                f"the certificate {found.serial} is of the federation "
                f"{found.identity.federation}, this one is {self.federation}",
                rule="federation",
            )
        caller = caller_of(found.identity, found.serial)
        if found.serial in self.denied:
            raise _by(
                caller,
                NotAuthenticated(
                    f"the certificate {found.serial} of {found.identity.uri} was revoked; ask the "
                    "coordinator's operator for a new one",
                    rule="revoked",
                ),
            )
        # The handshake looked at the dates; a connection may outlive them.
        if found.ends_at <= self.clock.now():
            raise _by(
                caller,
                NotAuthenticated(
                    f"the certificate {found.serial} of {found.identity.uri} has expired on "
                    f"{found.ends_at:%Y-%m-%d %H:%M} UTC",
                    rule="expired",
                ),
            )
        return caller


@dataclass(frozen=True)
class Rates:
    """How often one identity may call: at all, at once, and what is limited more."""

    calls: CallRate
    limited: Mapping[Limited, CallRate]
    at_once: CallsAtOnce

    def check(self, key: str, rule: Rule, context: grpc.ServicerContext) -> None:
        """Raises RateLimited, which says when to come again. The call counts until it ends."""
        self._take(self.calls, key, "calls")
        if rule.limited is not None:
            self._take(self.limited[rule.limited], key, rule.limited.value)
        if not self.at_once.take(key):
            raise RateLimited(
                f"{key} has {self.at_once.most} calls under way already: end one first",
                retry_after_s=1.0,
                limit="calls at once",
            )
        if not context.add_callback(lambda: self.at_once.give_back(key)):
            self.at_once.give_back(key)  # it has ended meanwhile

    def _take(self, rate: CallRate, key: str, what: str) -> None:
        wait_s = rate.take(key)
        if wait_s > 0.0:
            raise RateLimited(
                f"too many {what} of {key}: try again in {max(1, round(wait_s))} s",
                retry_after_s=wait_s,
                limit=what,
            )


class Guard(grpc.ServerInterceptor):
    """Refuses what the table does not allow, for all four kinds of call.

    Without `identification` connections are plain and come from this machine: every caller is a
    local one, to whom the whole table is open and no rate applies.
    """

    def __init__(
        self,
        store: Store,
        identification: Identification | None,
        rates: Rates | None,
        slow: SlowCalls,
        *,
        table: Mapping[str, Rule] = TABLE,
        refused: Callable[[Caller, str, LetheonError], None] = lambda _who, _method, _why: None,
    ) -> None:
        """`refused` is told of every call that is not let through, or was cut by `slow`."""
        self._store, self._identification, self._rates = store, identification, rates
        self._slow = slow
        self.table, self._refused = table, refused

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Method | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Method | None:
        """Wraps the method that gRPC found; an unknown method stays unknown."""
        full = handler_call_details.method
        rule = self.table.get(full.removeprefix("/"))

        def enter(
            context: grpc.ServicerContext,
        ) -> tuple[Caller, Callable[[Message], Caller]]:
            caller = self._telling(_LOCAL, full, lambda: self._admitted(context, full, rule))
            return caller, lambda first: self._telling(
                caller, full, lambda: self._authorised(caller, full, rule, first)
            )

        def cut(caller: Caller) -> LetheonError:
            error = RateLimited(
                f"{short_name(full)} was ended: nothing came for too long, or nothing was taken",
                limit="silence",
            )
            self._refused(caller, full, error)
            return error

        return around_requests(continuation(handler_call_details), enter, self._slow, cut)

    def _telling(self, caller: Caller, method: str, check: Callable[[], Caller]) -> Caller:
        try:
            return check()
        except (NotAuthenticated, NotPermitted, RateLimited) as error:
            who = getattr(error, "caller", caller)
            self._refused(who, method, error)
            raise

    def _admitted(self, context: grpc.ServicerContext, method: str, rule: Rule | None) -> Caller:
        """The caller, whose role may call this. Raises what _telling tells of."""
        caller = self._identified(context, rule)
        if rule is None:
            raise _by(caller, NotPermitted(f"{short_name(method)} is in no table of permissions"))
        if self._identification is None:
            return caller
        anonymous = caller is _LOCAL
        if not anonymous and caller.role not in rule.roles:
            allowed = ", ".join(sorted(rule.roles)) or "nobody"
            raise _by(
                caller,
                NotPermitted(
                    f"{caller} may not call {short_name(method)}: it is for {allowed}",
                    caller=caller,
                ),
            )
        if self._rates is not None:
            self._rates.check(_host(context) if anonymous else str(caller), rule, context)
        return caller

    def _identified(self, context: grpc.ServicerContext, rule: Rule | None) -> Caller:
        if self._identification is None:
            return _LOCAL
        caller = self._identification.caller(context) if is_encrypted(context) else None
        if caller is not None:
            return caller
        if rule is not None and rule.without_certificate:
            return _LOCAL
        raise NotAuthenticated(
            "a certificate of this federation is due: connect to the coordinator's main port, "
            "and show one"
        )

    def _authorised(self, caller: Caller, method: str, rule: Rule | None, first: Message) -> Caller:
        """The caller, whose reach covers what it names."""
        if rule is None or first is None:
            return caller  # an empty stream, of which the servicer says what is missing
        if caller.role is Role.LOCAL:
            return Caller(Role.LOCAL, _named(rule, first))
        reach = rule.roles[caller.role]
        if reach is Reach.ANY:
            return caller
        site = rule.site(first)
        if reach is Reach.CENTRAL:
            if site:
                raise NotPermitted(
                    f"{caller} may not call {short_name(method)} for sites/{site}", caller=caller
                )
            return caller
        erasure = rule.erasure(first)
        named = [site] if site else []
        if erasure:
            with self._store.read() as uow:
                named.append(uow.erasures.get(erasure).site)
        strangers = [each for each in named if each != caller.name]
        if strangers or not named:
            whose = f"sites/{strangers[0]}" if strangers else "nobody"
            raise NotPermitted(
                f"{caller} may call {short_name(method)} for itself only, and this is for {whose}",
                caller=caller,
            )
        return caller


def _named(rule: Rule, first: Message) -> str:
    try:
        return rule.site(first)
    except LetheonError:
        return ""  # the servicer says what is wrong with the name


def _by(caller: Caller, error: LetheonError) -> LetheonError:
    error.caller = caller  # type: ignore[attr-defined]
    return error


def _host(context: grpc.ServicerContext) -> str:
    """The address that an unidentified caller calls from, without its port."""
    return str(context.peer()).rpartition(":")[0]
