"""The production gate inside a simulation: the same rules, asked as often."""

from __future__ import annotations

from dataclasses import dataclass

from letheon.federation.parameters import Vector
from letheon.federation.plan import Gate as GateSettings
from letheon.imaging.scores import record_losses
from letheon.simulation.hospitals import Hospitals
from letheon.simulation.measure import utilities
from letheon.simulation.sites import Network
from letheon.simulation.virtual_time import derived_seed
from letheon.unlearning.evidence.forgetting import ForgetStatistic, forget_statistic
from letheon.unlearning.gate import Judgement, Rules, SiteUtility, Verdict, judge
from letheon.unlearning.method import Offer


@dataclass(frozen=True)
class Attempt:
    """One attempt of the gate."""

    accepted: int
    seconds: float
    version: int
    verdict: Verdict
    verified: bool  # a forgetting test passed
    tests: dict[str, str]  # verdict by test


class SimulatedGate:
    """Judges candidates against the version from before the erasure, which it measures once."""

    def __init__(
        self,
        network: Network,
        hospitals: Hospitals,
        settings: GateSettings,
        before: Vector,
        seed: int,
    ) -> None:
        self._network = network
        self._settings = settings
        self._seed = derived_seed(seed, "gate")
        self._validation = {site: hospitals.sites[site].validation for site in hospitals.retained()}
        self._target = hospitals.sites[hospitals.target]
        self._old = utilities(network, before, self._validation)
        self._old_audit = self.audit(before)

    def judge(self, candidate: Vector, offer: Offer) -> Judgement:
        """What the gate says of a candidate [d]."""
        old = self._old
        new = utilities(self._network, candidate, self._validation)
        sites = [SiteUtility(s, old[s][0], old[s][1], new[s][1]) for s in self._validation]
        settings = self._settings
        return judge(
            sites,
            self._old_audit,
            self.audit(candidate),
            Rules(settings.utility_margin, settings.worst_site_margin, settings.forget_margin),
            offer,
        )

    def audit(self, weights: Vector) -> ForgetStatistic:
        """The target's own audit of one version, as its agent would do it."""
        module = self._network.load(weights)
        train, control = self._target.train, self._target.control
        erased_losses, erased_right = record_losses(module, train)
        control_losses, control_right = record_losses(module, control)
        return forget_statistic(
            erased_losses,
            control_losses,
            erased_right,
            control_right,
            train.patients,
            control.patients,
            resamples=self._settings.bootstrap,
            seed=self._seed,
        )
