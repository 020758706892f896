"""Does to a federation what the schedule says, and lets it settle afterwards."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from sqlalchemy.exc import OperationalError

from letheon.errors import LetheonError
from letheon.v1 import ledger_pb2

from . import requests
from .damage import Damage
from .evidence import Fence, Verdict
from .faults import Fault
from .processes import until
from .proxy import Mode
from .world import CALIBRATORS, World

_ARMED_S = 20.0
_WORTH_AN_ERASURE_S = 2.5  # a point not reached by then may be one of an erasure
_SETTLE_S = 90.0
_LAST_POINTS_S = 4.0
_SLOW_BYTES_PER_S, _SLOW_LATENCY_S = 200_000.0, 0.1
_POISON: tuple[dict[str, str], ...] = (
    {"erasure": "no-such-erasure", "schema": "1"},
    {"erasure": "x", "schema": "99"},
    {"nonsense": "\x00\xff", "schema": "1"},
    {"request": "{not json", "schema": "1"},
)


@dataclass
class _Armed:
    fault: Fault
    processes: tuple[str, ...]
    since: float


class _Lift:
    """Ends a lasting fault, once: at its time, or when all faults end."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work: Callable[[], object] | None = work
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            work, self._work = self._work, None
            if work is not None:
                work()


@dataclass
class Driver:
    """One federation's tormentor. `injected` counts what really happened, by kind and point."""

    world: World
    url: str
    say: Callable[[str], None]
    injected: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    fences: list[Fence] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._armed: list[_Armed] = []
        self._lifts: list[_Lift] = []
        self.asked = requests.Requests(self.world, self.fences)
        self._damage = Damage(self.world, self.url, self.verdict, self.violations.append)

    def run(self, faults: list[Fault]) -> None:
        """All faults, one after the other; lasting ones overlap."""
        for number, fault in enumerate(faults, start=1):
            self.say(f"  {number:3d} {fault}")
            # Nobody answers while an earlier fault goes on.
            with contextlib.suppress(LetheonError, OperationalError):
                if self._inject(fault):
                    self._count(fault)
            self._wait(fault.pause_s)

    def settle(self) -> None:
        """No more faults; everything is restarted in order and open erasures come to an end."""
        end = time.monotonic() + _LAST_POINTS_S
        while self._armed and time.monotonic() < end:
            self._wait(0.2)
        self._wait(1.0)
        for lift in self._lifts:
            lift()
        for armed in self._armed:
            self._disarm(armed)
            self.missed[self._label(armed.fault)] += 1
        self._armed.clear()
        for clock in self.world.faults.glob("*.clock"):
            clock.unlink()
        self.world.fleet.stop_together(self.world.fleet.names)
        for name in self.world.fleet.names:
            self.world.fleet.start(name)
        before = [-1]

        def goes_on() -> bool:
            entries = self.world.status().entries
            if before[0] < 0:
                before[0] = entries
            return entries > before[0]

        if not until(goes_on, 40.0):
            self.violations.append("without faults no update is accepted within 40 s")
        began = time.monotonic()
        until(lambda: self.world.status().open_erasures == 0, _SETTLE_S)
        self.say(f"  settled in {time.monotonic() - began:.1f} s")

    def verdict(self) -> ledger_pb2.LedgerVerdict:
        """What the coordinator says of its ledger. Raises LetheonError."""
        request = ledger_pb2.VerifyLedgerRequest()
        *_, last = self.world.ledger.VerifyLedger(request, timeout=30.0, wait_for_ready=True)
        return last.verdict

    def final_verdict(self) -> Verdict | None:
        """The verdict once the agents have stopped, seen to be the same after a restart.

        The restart is also what sweeps files that an interrupted step left without a row.
        """
        before = self._patient_verdict()
        self.world.fleet.stop("coordinator")
        self.world.fleet.start("coordinator")
        after = self._patient_verdict()
        if before != after:
            self.violations.append(f"head: {before} before a restart, {after} after it")
        return after

    def _patient_verdict(self) -> Verdict | None:
        found: list[Verdict] = []

        def look() -> bool:
            v = self.verdict()
            found.append(Verdict(v.holds, v.version, v.sha256_head, v.reason))
            return True

        return found[-1] if until(look, 30.0) else None

    def _inject(self, fault: Fault) -> bool:
        world, fleet = self.world, self.world.fleet
        match fault.kind:
            case "point":
                return self._arm(fault)
            case "kill":
                fleet.kill(fault.target)
            case "pause":
                fleet.signal(fault.target, signal.SIGSTOP)
                self._later(fault, lambda: fleet.signal(fault.target, signal.SIGCONT))
            case "clock":
                clock = world.faults / f"{fault.target}.clock"
                clock.with_suffix(".new").write_text(fault.variant, encoding="ascii")
                clock.with_suffix(".new").replace(clock)
                self._later(fault, lambda: clock.unlink(missing_ok=True))
            case "cut" | "refuse" | "hold" | "slow" | "replay":
                return self._hurt_network(fault)
            case "redis_kill" | "redis_flush" | "poison":
                return self._hurt_redis(fault)
            case "postgres":
                world.database.kill()
                self._later(fault, world.database.start)
            case "erasure" | "consent":
                return self._ask(fault)
            case "damage" | "damage_stopped":
                return self._damage.do(fault)
        return True

    def _arm(self, fault: Fault) -> bool:
        if fault.point is None:
            return False
        names = CALIBRATORS if fault.target == "calibrators" else (fault.target,)
        for name in names:
            path = self.world.faults / f"{name}.{fault.point.name}"
            path.with_suffix(".new").write_text(fault.variant, encoding="ascii")
            path.with_suffix(".new").replace(path)
        self._armed.append(_Armed(fault, names, time.monotonic()))
        return False  # counted when it is reached

    def _hurt_network(self, fault: Fault) -> bool:
        proxy = self.world.network[fault.target]
        match fault.kind:
            case "cut":
                return proxy.cut() > 0
            case "replay":
                return proxy.replay(int(fault.variant)) > 0
            case "slow":
                proxy.be(Mode.SLOW, bytes_per_s=_SLOW_BYTES_PER_S, latency_s=_SLOW_LATENCY_S)
            case kind:
                proxy.be(Mode(kind))
        self._later(fault, lambda: proxy.be(Mode.PASS))
        return True

    def _hurt_redis(self, fault: Fault) -> bool:
        if fault.kind == "redis_kill":
            self.world.redis.child.kill()
            self._later(fault, self._revive_redis)
            return True
        try:
            with redis.Redis.from_url(self.world.redis.url, socket_timeout=2.0) as client:
                if fault.kind == "redis_flush":
                    client.flushall()
                else:
                    client.xadd("letheon:erasures", dict(_POISON[int(fault.variant)]))
        except redis.RedisError:
            return False  # it is being killed by an earlier fault
        return True

    def _revive_redis(self) -> None:
        if self.world.redis.child.poll() is not None:
            self.world.redis.start()

    def _ask(self, fault: Fault) -> bool:
        site = self.asked.choose(fault.chance)
        if site is None:
            return False
        if fault.kind == "consent":
            request = {"request_id": f"consent-{site}-{time.monotonic_ns()}", "site": site}
            fields = {"request": json.dumps({**request, "basis": "GDPR-17-1-b"}), "schema": "1"}
            try:
                with redis.Redis.from_url(self.world.redis.url, socket_timeout=2.0) as client:
                    client.xadd("letheon:erasures", dict(fields))
            except redis.RedisError:
                return False
            self.asked.taken.add(site)
            return True
        if fault.variant == "without redis":
            proxy = self.world.network["coordinator-redis"]
            proxy.be(Mode.REFUSE)
            self._later(fault, lambda: proxy.be(Mode.PASS))
        return self.asked.file(site, fault.variant)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._look_at_armed()
            time.sleep(0.05)

    def _look_at_armed(self) -> None:
        now = time.monotonic()
        for armed in tuple(self._armed):
            point = armed.fault.point
            paths = [self.world.faults / f"{name}.{point.name}" for name in armed.processes]
            taken = any(not path.exists() for path in paths)
            if not taken and now - armed.since < _ARMED_S:
                continue
            self._armed.remove(armed)
            self._disarm(armed)
            if taken:
                self._count(armed.fault)
            else:
                self.missed[self._label(armed.fault)] += 1
        if any(now - armed.since > _WORTH_AN_ERASURE_S for armed in self._armed):
            self.asked.keep_one_open()

    def _disarm(self, armed: _Armed) -> None:
        for name in armed.processes:
            path = self.world.faults / f"{name}.{armed.fault.point.name}"
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.taken").unlink(missing_ok=True)

    def _later(self, fault: Fault, work: Callable[[], object]) -> None:
        lift = _Lift(work)
        self._lifts.append(lift)
        timer = threading.Timer(fault.seconds, lift)
        timer.daemon = True
        timer.start()

    def _count(self, fault: Fault) -> None:
        self.injected[self._label(fault)] += 1

    def _label(self, fault: Fault) -> str:
        if fault.point is not None:
            return f"{fault.variant} at {fault.point.name}"
        who = fault.target.rstrip("-0123456789") if fault.kind in {"kill", "pause", "clock"} else ""
        return " ".join(word for word in (fault.kind, who) if word)

    @property
    def hurt(self) -> frozenset[str]:
        """Kinds of fault that explain what they left in logs and exit codes."""
        kinds = {label.split()[0].partition("_")[0] for label in self.injected}
        return frozenset(kinds)
