"""Enrolling a site: everything is checked before the coordinator hears of it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from client_agent.adapters.coordinator_client import CoordinatorClient
from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.adapters.state_dir import occupy
from client_agent.adapters.trainer_process import TrainerProcess
from client_agent.adapters.update_keys import UpdateKeys
from client_agent.config import AgentConfig
from client_agent.domain.tasks import SiteState, Standing
from client_agent.network_config import route_to
from client_agent.ports import Holdings
from letheon.errors import SiteFenced
from letheon.federation.encoding import size_limits
from letheon.federation.plan import Plan
from letheon.servicekit.clock import SystemClock

_CHILD_GRACE_S = 2.0


@dataclass(frozen=True)
class Enrolment:
    """What the coordinator was told, and what it will be sent."""

    plan: Plan
    encoding: str  # of deltas
    holdings: Holdings
    standing: Standing

    @property
    def delta_bytes(self) -> int:
        """Of one upload, at most."""
        return size_limits(self.plan.parameters, self.encoding)[1]


def enrol(config: AgentConfig) -> Enrolment:
    """Reads the plan, loads the data, sets control and validation records aside, fits the model
    and registers the site. Repeating it is harmless: the records stay set aside as they are.

    Raises CoordinatorUnreachable, BadData, BadConfig (such as an agent that runs on the state
    directory), UnknownPlugin, WrongPlan, SiteFenced for a name that was erased.
    """
    with ExitStack() as closing:
        route = route_to(config.coordinator, config.tls, config.network)
        coordinator = CoordinatorClient(
            config.coordinator, config.site, on_contact=lambda: None, route=route
        )
        closing.callback(coordinator.close)
        # Asked first: without an answer nothing is left behind on this machine.
        plan = coordinator.plan()
        state = occupy(config.state_dir.absolute())
        closing.callback(state.release)
        coordinator.sign_with(UpdateKeys(state.update_key))
        closing.callback(give_to_owner, state.root)
        tables = LocalTables(state.database)
        closing.callback(tables.close)
        subjects = SqliteSubjects(tables, RecordIndex(tables), SystemClock())
        load_site_key(state.root, may_make=subjects.is_empty())
        trainer = TrainerProcess(
            config, state.root, on_death=lambda: None, excluded=subjects.excluded
        )
        closing.callback(trainer.stop, _CHILD_GRACE_S)
        holdings = trainer.open()
        trainer.adopt(plan)
        standing = coordinator.register(
            display_name=config.display_name or config.site,
            holdings=holdings,
            plan_digest=plan.digest,
        )
    if standing.state is SiteState.ERASED:
        raise SiteFenced(f"the site {config.site} was erased", erasure=standing.erasure)
    return Enrolment(plan, config.encoding or plan.encoding, holdings, standing)


def give_to_owner(folder: Path) -> None:
    """What root wrote into a folder of the agent's user is that user's."""
    if os.geteuid() != 0:
        return
    owner = folder.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
