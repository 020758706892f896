"""Patients of a site that stays, erased end to end: real coordinator, agents and calibrator."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders import a_plan, a_vector
from erasure_builders import Federation, a_running_federation
from patient_world import GATE, SiteAgent, carried_out, until
from prometheus_client import generate_latest

from calibrator.ports import Certified, Failed
from client_agent import erase_command
from client_agent.domain.subjects import SiteKey, SubjectState
from letheon.errors import StaleEpoch
from letheon.proof import certificate
from letheon.v1 import erasures_pb2, sites_pb2

SMALL, LARGE = "SCHMIDT-ANNA-1957-03-12", "MEYER-KARL-1941-11-30"
PATIENTS = {SMALL: 2, LARGE: 10, **{f"patient-{i:03}": 2 for i in range(40)}}


class Told(logging.Handler):
    """Everything any logger said, fields included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(repr(vars(record)))


@contextmanager
def a_world(folder: Path) -> Iterator[tuple[Federation, dict[str, SiteAgent]]]:
    plan = a_plan(gate=GATE)
    with a_running_federation(folder / "centre", sites=(), plan=plan) as federation:
        address = federation.coordinator.address
        agents = {
            site: SiteAgent(
                folder / "agents" / site,
                site,
                address,
                PATIENTS if site == "south" else {f"{site}-{i}": 1 for i in range(20)},
                interval_s=0.2,
            )
            for site in ("north", "south", "west")
        }
        try:
            for agent in agents.values():
                agent.start()
            until(lambda: accepted(federation, "south") >= 4, "south has contributed")
            yield federation, agents
        finally:
            for agent in agents.values():
                agent.stop()


def site_of(federation: Federation, name: str) -> sites_pb2.Site:
    return federation.client.sites.GetSite(sites_pb2.GetSiteRequest(name=f"sites/{name}"))


def accepted(federation: Federation, name: str) -> int:
    listed = federation.client.sites.ListSites(sites_pb2.ListSitesRequest()).sites
    return next((s.accepted_deltas for s in listed if s.name == f"sites/{name}"), 0)


def ask(agent: SiteAgent, capsys: pytest.CaptureFixture[str], *what: str) -> dict[str, str]:
    """`letheon-agent erase ... --json`."""
    code = erase_command.main(["--config", str(agent.config_file), *what, "--json"])
    assert code == 0
    return json.loads(capsys.readouterr().out)


def statement_of(ended: Certified | Failed | None) -> dict:
    assert isinstance(ended, Certified), ended
    return dict(certificate.verify(ended.certificate, None).statement)


def has_no(patient: str, records: tuple[str, ...]) -> bool:
    return not any(one.startswith(patient) for one in records if one is not None)


def secrets_of(agent: SiteAgent) -> list[bytes]:
    key = SiteKey((agent.state / "site.key").read_bytes())
    tokens = [key.of_patient(patient) for patient in (SMALL, LARGE)]
    return [*(s.encode() for s in (SMALL, LARGE, "SCHMIDT", "MEYER", *tokens)), key.secret]


def test_two_patients_of_one_site_leave_and_nobody_at_the_centre_learns_who(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told, root = Told(), logging.getLogger()
    level = root.level
    root.addHandler(told)
    root.setLevel(logging.DEBUG)
    try:
        with a_world(tmp_path) as (federation, agents):
            south = agents["south"]
            first = erased_by_exchange(federation, south, tmp_path, capsys)
            second = erased_by_readmission(federation, south, tmp_path, capsys)
            assert federation.verify_ledger().holds
            assert site_of(federation, "south").state == sites_pb2.Site.ACTIVE
            pages = [generate_latest(agent.registry) for agent in agents.values()]
            pages.append(generate_latest(federation.coordinator.core.registry))
            # What the centre holds is looked at while it runs, write-ahead log and all.
            held = [p.read_bytes() for p in (tmp_path / "centre").rglob("*") if p.is_file()]
    finally:
        root.removeHandler(told)
        root.setLevel(level)
    everything = [*held, *pages, first, second, *(line.encode() for line in told.lines)]
    assert len(told.lines) > 100
    assert len(held) > 10
    for secret in secrets_of(south):
        assert not any(secret in content for content in everything), secret[:6]


def erased_by_exchange(
    federation: Federation, south: SiteAgent, folder: Path, capsys: pytest.CaptureFixture[str]
) -> bytes:
    """The small patient: no statistic of two records leaves the site."""
    before = len(south.trainer.trained)
    row = ask(south, capsys, "--patient", SMALL)
    assert ask(south, capsys, "--patient", SMALL)["erasure"] == row["erasure"]
    assert site_of(federation, "south").state == sites_pb2.Site.ACTIVE
    (folder / "calibrator-1").mkdir()
    ended = carried_out(federation, row["erasure"], folder / "calibrator-1")
    said = statement_of(ended)

    erasure = federation.get(row["erasure"])
    assert erasure.state == erasures_pb2.Erasure.CERTIFIED
    assert erasure.removal.exchanged
    assert erasure.removal.epoch == 0  # a small patch supersedes nobody's work
    assert said["subject"]["records"] == row["reference"]
    (step,) = said["method"]["steps"]
    assert (step["step"], step["deltas"]) == ("Exchange", erasure.removal.removed_entries)
    assert said["level_granted"] == "L0"
    assert said["claim"] == "influence removed, not statistically verified"
    assert all(
        "did not audit" in t["detail"] for t in said["gate"]["tests"] if "forget" in t["name"]
    )
    assert any("only the site can open the reference" in x for x in said["what_is_not_proven"])

    # The same bases and seeds, in order, and none of her records.
    made = south.trainer.retrained
    assert len(made) == erasure.removal.removed_entries
    tasks = [(base, seed) for base, seed, _ in made]
    assert tasks == [t[:2] for t in south.trainer.trained if t[:2] in tasks]
    assert all(has_no(SMALL, ids) for _, _, ids in made)
    assert any(not has_no(SMALL, ids) for _, _, ids in south.trainer.trained[:before])
    until(lambda: has_no(SMALL, south.trainer.trained[-1][2]), "training goes on without her")
    until(
        lambda: south.subjects().by_reference(row["reference"]).state is SubjectState.CERTIFIED,
        "the agent has forgotten her",
    )
    assert isinstance(ended, Certified)
    return ended.certificate


def erased_by_readmission(
    federation: Federation, south: SiteAgent, folder: Path, capsys: pytest.CaptureFixture[str]
) -> bytes:
    """The large patient, after what south trained from was destroyed with the small one."""
    south.trainer.clean_from_epoch = 1
    row = ask(south, capsys, "--patient", LARGE)
    (folder / "calibrator-2").mkdir()
    ended = carried_out(federation, row["erasure"], folder / "calibrator-2")
    said = statement_of(ended)
    erasure = federation.get(row["erasure"])
    assert erasure.removal.subtracted
    assert erasure.removal.epoch == 1
    (step,) = said["method"]["steps"]
    assert step["step"] == "Readmission"
    assert "removed since" in step["why_not_exchanged"]
    assert said["level_granted"] == "L1"
    assert said["process"]["removal_relative_error"] <= 1e-5
    assert isinstance(ended, Certified)
    return ended.certificate


def test_a_site_that_lost_its_log_is_removed_and_readmitted_and_stale_work_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_world(tmp_path) as (federation, agents):
        south = agents["south"]
        south.subjects()._tables.do("DELETE FROM record_sets")  # the site's log is lost
        row = ask(south, capsys, "--patient", SMALL)
        with pytest.raises(StaleEpoch, match="records of this site were excluded"):
            federation.client.push(
                "south", a_vector(1), base_version=federation.version, epoch=federation.epoch
            )
        ended = carried_out(federation, row["erasure"], tmp_path)
        said = statement_of(ended)
        (step,) = said["method"]["steps"]
        assert step["step"] == "Readmission"
        assert "its agent says" in step["why_not_exchanged"]
        accepted_before = accepted(federation, "south")
        until(lambda: accepted(federation, "south") > accepted_before, "south trains again")
        assert np.isfinite(federation.head).all()
        assert federation.verify_ledger().holds


def test_a_reference_the_site_does_not_know_is_answered_not_here(tmp_path: Path) -> None:
    with a_world(tmp_path) as (federation, agents):
        filed = federation.request("south", records="consent-reference-0001", method="")
        assert filed.method == "patient_swap"
        ended = carried_out(federation, filed.name, tmp_path)
        assert isinstance(ended, Failed)
        assert "holds no records under the reference" in ended.reason
        before = accepted(federation, "south")
        until(lambda: accepted(federation, "south") > before, "south goes on")
        assert agents["south"].subjects().excluded() == frozenset()


def test_a_request_of_the_centre_is_resolved_by_the_site_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with a_world(tmp_path) as (federation, agents):
        south, reference = agents["south"], "consent-reference-0002"
        assert ask(south, capsys, "--patient", SMALL, "--refer", reference)["state"] == "referred"
        filed = federation.request("south", records=reference)
        said = statement_of(carried_out(federation, filed.name, tmp_path))
        assert said["subject"]["records"] == reference
        assert all(has_no(SMALL, ids) for _, _, ids in south.trainer.retrained)
        assert south.trainer.retrained
