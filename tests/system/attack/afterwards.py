"""The control of all attacks: the federation has gone on, and what it keeps holds."""

from __future__ import annotations

from .attacks import Outcome, attack, stopped, succeeded
from .calls import version_of
from .tampering import run
from .world import World

FAMILY = "after all that"


@attack(FAMILY, "honest updates, the ledger and the audit log (the control)",
        expected="merged; both hold", quick=True)  # fmt: skip
def goes_on(world: World) -> Outcome:
    before = version_of(world)
    for site in ("north", "west", "tiny"):
        insider = world.insiders[site]
        receipt = insider.push(insider.honest(500))
        if receipt.quarantined:
            return succeeded(f"an honest update of {site} is quarantined")
    ledger = world.ledger()
    code, said = run(*world.command("audit", "verify"))
    if version_of(world) != before + 3 or not ledger.holds or code:
        return succeeded(f"version {version_of(world)}; {ledger.reason}; {said}")
    return stopped(
        f"3 updates merged; the ledger holds, {ledger.signed_deltas} signatures checked; {said}"
    )
