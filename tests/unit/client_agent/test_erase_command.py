"""`letheon-agent erase` at the hospital: what it says, and what it never repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_agent_subjects import Memory

from client_agent import __main__ as program
from client_agent import erase_command
from client_agent.adapters.site_key import load_site_key
from client_agent.domain.subjects import IndexedRecord, SubjectState

PATIENT = "SCHMIDT-1957-03-12"


class Site:
    """A state directory as a daemon leaves it; nobody answers at the coordinator's address."""

    def __init__(self, folder: Path, *, extra: str = "") -> None:
        self.state, self.config = folder / "state", folder / "agent.toml"
        self.state.mkdir()
        self.config.write_text(
            f'coordinator = "127.0.0.1:9"\nsite = "north"\nstate_dir = "{self.state}"\n'
            f'[data]\nplugin = "npz"\n{extra}'
        )
        self.key = load_site_key(self.state, may_make=True)
        self.memory = Memory(self.state)
        rows = [
            IndexedRecord("scan-1", self.key.of_patient(PATIENT)),
            IndexedRecord("scan-2", None),
        ]
        self.memory.index.replace(rows)

    def run(self, *arguments: str) -> int:
        return program.main(["erase", "--config", str(self.config), *arguments])


@pytest.fixture
def site(tmp_path: Path):
    made = Site(tmp_path)
    yield made
    made.memory.close()


def test_out_of_use_at_once_while_the_coordinator_is_away(site: Site, capsys):
    assert site.run("--patient", PATIENT) == erase_command.EXIT_NOT_FILED
    said = capsys.readouterr()
    assert "out of use here, not filed yet" in said.err
    assert PATIENT not in said.out + said.err
    assert site.memory.subjects.excluded() == {site.key.of_patient(PATIENT)}
    assert [s.state for s in site.memory.subjects.all()] == [SubjectState.DUE]
    assert site.run("--patient", PATIENT) == erase_command.EXIT_NOT_FILED
    assert len(site.memory.subjects.all()) == 1


def test_an_unknown_patient_is_not_here_and_not_repeated(site: Site, capsys):
    assert site.run("--patient", "NOBODY-1900") == erase_command.EXIT_NOT_HERE
    assert "NOBODY" not in capsys.readouterr().err
    assert site.memory.subjects.excluded() == frozenset()


def test_records_are_named_in_a_file(site: Site, tmp_path: Path, capsys):
    listed = tmp_path / "records.txt"
    listed.write_text("scan-2\n\n")
    assert site.run("--records", str(listed)) == erase_command.EXIT_NOT_FILED
    assert site.memory.subjects.excluded() == {site.key.of_record("scan-2")}
    listed.write_text("scan-2\nscan-99\n")
    assert site.run("--records", str(listed)) == erase_command.EXIT_NOT_HERE
    assert "scan-99" not in capsys.readouterr().err
    assert site.run("--records", str(tmp_path / "none")) == erase_command.EXIT_CONFIG


def test_nothing_named_or_a_short_reference_is_said(site: Site, capsys):
    assert site.run() == erase_command.EXIT_CONFIG
    assert "--patient ID" in capsys.readouterr().err
    assert site.run("--patient", PATIENT, "--refer", "short") == erase_command.EXIT_CONFIG
    assert "16 to 128" in capsys.readouterr().err


def test_a_source_without_patients_says_to_name_records(site: Site, capsys):
    site.memory.index.replace([IndexedRecord("scan-1", None)])
    assert site.run("--patient", PATIENT) == erase_command.EXIT_NOT_HERE
    assert "--records FILE" in capsys.readouterr().err


def test_with_a_window_a_request_collects_and_is_listed(tmp_path: Path, capsys):
    site = Site(tmp_path, extra="[erasure]\nbatch_window_seconds = 86400\n")
    assert site.run("--patient", PATIENT, "--json") == erase_command.EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["erasure"]) == ("collecting", "")
    assert site.run("--list", "--json") == erase_command.EXIT_OK
    assert json.loads(capsys.readouterr().out)["subjects"] == [told]
    assert site.memory.subjects.excluded() == {site.key.of_patient(PATIENT)}
    site.memory.close()


def test_before_the_first_start_and_without_the_key_it_says_what_to_do(tmp_path: Path, capsys):
    site = Site(tmp_path)
    (site.state / "site.key").unlink()
    assert site.run("--list") == erase_command.EXIT_CONFIG
    assert "Put it back" in capsys.readouterr().err
    site.memory.close()
    (site.state / "agent.db").unlink()
    assert site.run("--list") == erase_command.EXIT_CONFIG
    assert "start letheon-agent first" in capsys.readouterr().err
