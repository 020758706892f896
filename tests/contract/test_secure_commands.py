"""`letheon` and `letheon-agent` against a coordinator with mutual TLS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import Client, a_vector
from click.testing import Result
from secure_coordinator import Secured, a_secure_coordinator
from typer.testing import CliRunner

from client_agent.cli.main import app as agent_app
from client_agent.config import AgentConfig
from letheon.cli.main import app
from letheon.servicekit import config as configuration
from letheon.servicekit.caller import Role
from letheon.v1.sites_pb2_grpc import SitesStub
from letheon.v1.training_pb2_grpc import TrainingStub


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    with a_secure_coordinator(tmp_path) as running:
        yield running


def letheon(secured: Secured, identity: Path | None, *words: str) -> Result:
    who = [] if identity is None else ["--identity", str(identity)]
    return CliRunner().invoke(app, [*who, "--coordinator", secured.address, *words])


def enroll(secured: Secured, folder: Path, token: str, *more: str) -> Result:
    return CliRunner().invoke(
        agent_app,
        [
            *("enroll", "--config", str(folder / "agent.toml")),
            *("--coordinator", secured.address, "--site", "north", "--source", "synthetic"),
            *("--state-dir", str(folder / "state"), "--ca", str(secured.folder / "ca" / "ca.pem")),
            *("--token", token, "--enrolment", secured.enrolment, "--certificate-only", *more),
        ],
    )


def test_a_site_is_invited_and_enrols_with_the_token_once(secured: Secured, tmp_path: Path) -> None:
    ada = secured.identity(Role.OPERATOR, "ada")
    invited = letheon(secured, ada, "site", "invite", "north", "--format", "json")
    assert invited.exit_code == 0, invited.output
    told = json.loads(invited.stdout)
    done = enroll(secured, tmp_path / "one", told["token"])
    assert done.exit_code == 0, done.output
    assert "has its certificate" in done.stdout

    config = configuration.load(tmp_path / "one" / "agent.toml", AgentConfig, {})
    assert config.tls is not None
    assert config.tls.renew
    assert config.tls.key == tmp_path / "one" / "state" / "tls" / "key.pem"
    assert config.tls.key.stat().st_mode & 0o777 == 0o600

    stolen = enroll(secured, tmp_path / "two", told["token"])
    assert stolen.exit_code != 0
    assert "was used on" in stolen.stderr
    assert not (tmp_path / "two" / "agent.toml").exists()


def test_a_token_and_a_certificate_do_not_go_together(secured: Secured, tmp_path: Path) -> None:
    place = secured.identity(Role.SITE, "north")
    files = ["--certificate", str(place / "certificate.pem"), "--key", str(place / "key.pem")]
    done = enroll(secured, tmp_path / "one", "lti-x", *files)
    assert "--token makes certificate and key" in done.stderr


def test_an_auditor_reads_and_does_not_erase(secured: Secured) -> None:
    auditor = secured.identity(Role.AUDITOR, "bea")
    assert letheon(secured, auditor, "sites").exit_code == 0
    refused = letheon(secured, auditor, "erase", "request", "--site", "north")
    assert refused.exit_code == 4
    assert "auditor/bea may not call RequestErasure" in refused.stderr
    assert "docs/security/permissions.md says who may do it" in refused.stderr


def test_a_plain_command_is_told_to_show_an_identity(secured: Secured) -> None:
    done = letheon(secured, None, "status")
    assert done.exit_code == 5
    assert "wants `letheon --identity FOLDER`" in " ".join(done.stderr.split())


def test_an_expired_identity_is_told_that_it_has_expired(secured: Secured) -> None:
    earlier = datetime.now(UTC) - timedelta(days=3)
    late = secured.identity(Role.OPERATOR, "late", life=timedelta(days=1), now=earlier)
    done = letheon(secured, late, "status")
    assert done.exit_code == 5
    assert "has expired on" in " ".join(done.stderr.split())


def test_half_an_identity_is_named(secured: Secured) -> None:
    ada = secured.identity(Role.OPERATOR, "ada")
    (ada / "key.pem").unlink()
    done = letheon(secured, ada, "status")
    assert done.exit_code == 78
    assert "lacks key.pem" in " ".join(done.stderr.split())


def test_a_large_erasure_waits_and_a_second_operator_approves_it(secured: Secured) -> None:
    north = Client.__new__(Client)
    north.plan, north.channel = secured.plan, secured.channel(Role.SITE, "north")
    north.sites, north.training = SitesStub(north.channel), TrainingStub(north.channel)
    north.register("north")
    north.push("north", a_vector(1, secured.plan.parameters))

    ada = secured.identity(Role.OPERATOR, "ada")
    grace = secured.identity(Role.OPERATOR, "grace")
    asked = letheon(secured, ada, "erase", "request", "--site", "north")
    assert asked.exit_code == 0, asked.output
    text = " ".join(asked.stdout.split())
    assert "AWAITING_APPROVAL" in text
    assert "100 % of the model: nothing is fenced" in text
    listed = json.loads(letheon(secured, ada, "erase", "list", "--format", "json").stdout)
    (erasure,) = listed["erasures"]
    assert (erasure["requested_by"], erasure["share"]) == ("operator/ada", 1.0)
    shown = letheon(secured, ada, "erase", "show", erasure["id"])
    assert "nothing is fenced before a second operator approves" in " ".join(shown.stdout.split())

    own = letheon(secured, ada, "erase", "approve", erasure["id"])
    assert own.exit_code == 4
    assert "another operator must approve" in " ".join(own.stderr.split())
    approved = letheon(secured, grace, "erase", "approve", erasure["id"])
    assert approved.exit_code == 0, approved.output
    assert "is RECEIVED: it is fenced" in " ".join(approved.stdout.split())
    assert "approved by" in letheon(secured, ada, "erase", "show", erasure["id"]).stdout


def test_doctor_says_why_the_coordinator_does_not_take_the_certificate(
    secured: Secured, tmp_path: Path
) -> None:
    from client_agent.checks.doctor import Doctor
    from letheon.servicekit.authority import FileAuthority
    from letheon.servicekit.identity import Identity
    from letheon.servicekit.identity_folder import write_identity

    now = datetime.now(UTC)
    stranger = FileAuthority.init(tmp_path / "stranger", "chest", now)
    who = Identity("chest", Role.SITE, "north")
    place = tmp_path / "forged"
    write_identity(place, stranger, lambda key: stranger.issue(who, key, now, timedelta(days=30)))
    path = tmp_path / "agent.toml"
    path.write_text(
        f'coordinator = "{secured.address}"\nsite = "north"\nstate_dir = "{tmp_path}/state"\n'
        f'[tls]\nca = "{secured.folder}/ca/ca.pem"\ncertificate = "{place}/certificate.pem"\n'
        f'key = "{place}/key.pem"\n[data]\nplugin = "nothing"\n'
    )
    found = {finding.check: finding.sentence for finding in Doctor(path)}
    assert "which is not an authority in" in found["tls"]
