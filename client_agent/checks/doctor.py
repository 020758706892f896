"""Every check of a set-up, in the order in which one thing needs the other.

Nothing is changed: no site is registered, no split fixed, no directory made. Runs with as much of
the configuration as can be used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from client_agent.checks.connection import check_name, connect
from client_agent.checks.federation import Answers, ask, judge
from client_agent.checks.finding import Finding, Obstacle, Status, failed, ok, skipped, warning
from client_agent.checks.log import check_log
from client_agent.checks.machine import check_disk, check_memory
from client_agent.checks.partial_config import PartialConfig, salvage
from client_agent.checks.records import check_training
from client_agent.checks.tls import check_own_certificate, check_plain, check_tls
from client_agent.config import AgentConfig
from client_agent.network_config import route_to
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit import config as configuration
from letheon.servicekit.clock import Clock, SystemClock
from letheon.servicekit.route import Route

_FROM_THE_COORDINATOR = ("coordinator", "clock", "identity")


class Doctor:
    """One examination; iterate over it once."""

    def __init__(
        self,
        path: Path,
        *,
        limit_s: float = 120.0,
        clock: Clock | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._path = path
        self._limit_s = limit_s
        self._clock = clock or SystemClock()
        self._environ = environ
        self._answers: Answers | None = None

    def __iter__(self) -> Iterator[Finding]:
        try:
            usable, finding = self._configuration()
        except BadConfig as error:
            obstacle = Obstacle(error.message, "letheon-agent enroll writes one.")
            yield failed("config", obstacle)
            yield check_memory(None)
            return
        yield finding
        yield from self._connection(usable)
        config = usable.config
        if usable.has("state_dir"):
            size = 0 if self._answers is None else self._answers.status.model_size_bytes
            yield check_disk(config.state_dir, size, config.outbox.max_deltas)
        else:
            yield skipped("disk", "state_dir cannot be used")
        yield check_memory(config.training.memory_limit_bytes)
        plan = None if self._answers is None else self._answers.plan
        has_data = usable.has("data")
        yield from check_training(config, plan, has_data=has_data, limit_s=self._limit_s)

    def _configuration(self) -> tuple[PartialConfig, Finding]:
        _, problems, values = configuration.examine(self._path, AgentConfig, self._environ)
        usable = salvage(values)
        if problems:
            sentence = "; ".join(str(one) for one in problems)
            advice = "letheon-agent check-config says in which lines."
            return usable, failed("config", Obstacle(sentence, advice))
        return usable, ok("config", f"{self._path} is complete")

    def _connection(self, usable: PartialConfig) -> Iterator[Finding]:
        config = usable.config
        reached = False
        if not usable.has("coordinator"):
            yield skipped("dns", "coordinator cannot be used")
        else:
            try:
                route = route_to(config.coordinator, config.tls, config.network, self._environ)
            except BadConfig as error:
                yield failed("network", Obstacle(error.message, "Correct the file it names."))
            else:
                for finding in self._way(config.coordinator, route):
                    yield finding
                    reached = finding.check == "tls" and finding.status is not Status.FAILED
        if reached:
            yield from self._federation(usable, route)
        else:
            for check in _FROM_THE_COORDINATOR:
                yield skipped(check, "there is no connection to the coordinator")

    def _way(self, address: str, route: Route) -> Iterator[Finding]:
        """Name, TCP or proxy, own certificate, TLS; the last one is `tls` if all went well."""
        host, _, port = address.rpartition(":")
        proxy = route.proxy
        name = check_name(
            host if proxy is None else proxy.host, of="proxy" if proxy else "coordinator"
        )
        yield name
        if name.status is Status.FAILED:
            return
        to_coordinator = partial(connect, host, int(port), proxy)
        reach = "tcp" if proxy is None else "proxy"
        try:
            to_coordinator().close()
        except Obstacle as obstacle:
            yield failed(reach, obstacle)
            return
        way = "" if proxy is None else f" through the proxy {proxy.host}:{proxy.port}"
        yield ok(reach, f"{address} can be reached{way}")
        if route.tls is None:
            yield self._attempt("tls", partial(check_plain, to_coordinator))
            return
        own = check_own_certificate(route.tls, self._clock.now())
        if own is not None:
            yield own
        if own is None or own.status is not Status.FAILED:
            yield self._attempt("tls", partial(check_tls, route.tls, host, to_coordinator))

    @staticmethod
    def _attempt(check: str, work: partial[Finding]) -> Finding:
        try:
            return work()
        except Obstacle as obstacle:
            return failed(check, obstacle)

    def _federation(self, usable: PartialConfig, route: Route) -> Iterator[Finding]:
        config = usable.config
        site = config.site if usable.has("site") else None
        try:
            self._answers = ask(config.coordinator, route, site, self._clock)
        except LetheonError as error:
            obstacle = Obstacle(
                f"it is there and does not answer: {error.message}", "Ask its operator."
            )
            yield failed("coordinator", obstacle)
            yield skipped("clock", "the coordinator does not answer")
            yield skipped("identity", "the coordinator does not answer")
            return
        yield from judge(self._answers, site)
        found = check_log(config, route)
        if found is not None:
            yield found
        if site is None:
            yield warning("identity", "there is no usable site", "Correct the key site.")
