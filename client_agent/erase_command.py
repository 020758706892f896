"""`letheon-agent erase`: the hospital's own door to patient-level erasure.

Works beside the running daemon, through the state directory: the records are out of use when the
command returns, whether or not the coordinator can be reached. An identifier is turned into a
pseudonym here and goes no further.

Exit codes: 0 done; 1 nothing of that patient or those records is here; 75 out of use, but not
filed yet: the daemon files it as soon as it reaches the coordinator; 78 a wrong configuration.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from client_agent.adapters.coordinator_client import CoordinatorClient
from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.record_index import RecordIndex
from client_agent.adapters.site_key import load_site_key
from client_agent.adapters.sqlite_subjects import SqliteSubjects
from client_agent.config import AgentConfig
from client_agent.domain.subjects import SiteKey, Subject, SubjectState
from client_agent.network_config import route_to
from client_agent.services.file_subjects import FileSubjects
from letheon.errors import BadConfig, BadInput, LetheonError
from letheon.servicekit import config as configuration
from letheon.servicekit.clock import SystemClock

EXIT_OK, EXIT_NOT_HERE, EXIT_NOT_FILED, EXIT_CONFIG = 0, 1, 75, 78
DEFAULT_BASIS = "GDPR-17-1-b"
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{15,127}")


class NotHere(LetheonError):
    """The site's record index knows nothing of what was named."""


class Door:
    """The state directory of an agent, opened beside its daemon."""

    def __init__(self, config: AgentConfig, opened: ExitStack) -> None:
        """Raises BadConfig if no agent has run there yet."""
        root = config.state_dir.absolute()
        database = root / "agent.db"
        if not database.exists():
            raise BadConfig(
                f"no agent has run with state_dir {root} yet: start letheon-agent first, it makes "
                "the index of whose the records are"
            )
        clock = SystemClock()
        tables = LocalTables(database)
        opened.callback(tables.close)
        self._index = RecordIndex(tables)
        self.subjects = SqliteSubjects(tables, self._index, clock)
        self._key = load_site_key(root, may_make=False)
        self._window = timedelta(seconds=config.erasure.batch_window_seconds)
        route = route_to(config.coordinator, config.tls, config.network)
        coordinator = CoordinatorClient(
            config.coordinator, config.site, on_contact=lambda: None, route=route
        )
        opened.callback(coordinator.close)
        self.file = FileSubjects(self.subjects, coordinator, self._key, clock, self._window)

    def tokens(self, patients: Sequence[str], records: Sequence[str]) -> list[str]:
        """Pseudonyms of what is named. Raises NotHere, without repeating an identifier."""
        found = [self._of_patient(patient, self._key) for patient in patients]
        for record in records:
            token = self._key.of_record(record)
            if not self._index.has_record(record) and self.subjects.holding([token]) is None:
                raise NotHere(
                    f"{records.index(record) + 1}. record: the data source of this site has none "
                    "of that identifier"
                )
            found.append(token)
        return list(dict.fromkeys(found))

    def erase(self, tokens: Sequence[str], basis: str) -> Subject:
        """Out of use from here on."""
        return self.subjects.add(tokens, basis, window=self._window)

    def _of_patient(self, patient: str, key: SiteKey) -> str:
        token = key.of_patient(patient)
        if self._index.has_patient(token) or self.subjects.holding([token]) is not None:
            return token
        if not self._index.knows_patients():
            raise NotHere(
                "the data source of this site does not say whose a record is: name the records, "
                "with --records FILE"
            )
        raise NotHere(
            "no record of this site is of that patient, as the data source writes the identifier"
        )


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with ExitStack() as opened:
            door = Door(configuration.load(options.config, AgentConfig), opened)
            if options.list:
                return _list(door, as_json=options.json)
            return _erase(door, options)
    except NotHere as error:
        return _say(error.message, EXIT_NOT_HERE)
    except (BadConfig, BadInput) as error:
        return _say(error.message, EXIT_CONFIG)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="letheon-agent erase",
        description="Erase patients, or records, of this site from the federation's model.",
    )
    parser.add_argument("--config", type=Path, required=True, help="TOML file of the agent")
    what = parser.add_argument_group("what")
    what.add_argument("--patient", action="append", default=[], help="as the data source names it")
    what.add_argument("--records", type=Path, help="file of record identifiers, one a line")
    what.add_argument("--list", action="store_true", help="what was asked, and how far it is")
    parser.add_argument("--reason", default=DEFAULT_BASIS, help="code of the legal basis")
    parser.add_argument(
        "--refer", metavar="REFERENCE", help="let the centre ask for them under this; erase nothing"
    )
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser


def _erase(door: Door, options: argparse.Namespace) -> int:
    records = _read(options.records) if options.records else []
    if not options.patient and not records:
        raise BadInput("name a patient (--patient ID) or records (--records FILE)")
    tokens = door.tokens(options.patient, records)
    if options.refer:
        if not _REFERENCE.fullmatch(options.refer):
            raise BadInput("a reference has 16 to 128 letters, digits, dots, dashes or underscores")
        return _tell(door.subjects.refer(tokens, options.refer), as_json=options.json)
    subject = door.erase(tokens, options.reason)
    if subject.state is not SubjectState.DUE:
        return _tell(subject, as_json=options.json)
    try:
        door.file.file(subject)
    except LetheonError as error:
        _say(f"out of use here, not filed yet: {error.message}", EXIT_NOT_FILED)
        _tell(subject, as_json=options.json)
        return EXIT_NOT_FILED
    filed = door.subjects.by_reference(subject.reference)
    return _tell(filed or subject, as_json=options.json)


def _read(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--records {path} cannot be read as text") from error
    return [line.strip() for line in lines if line.strip()]


def _list(door: Door, *, as_json: bool) -> int:
    rows = [_row(subject) for subject in door.subjects.all()]
    if as_json:
        sys.stdout.write(json.dumps({"subjects": rows}) + "\n")
    for row in () if as_json else rows:
        name = row["erasure"] or "(not filed)"
        sys.stdout.write(f"{row['made_at']}  {row['state']:<10}  {name}  {row['reference']}\n")
    return EXIT_OK


def _tell(subject: Subject, *, as_json: bool) -> int:
    row = _row(subject)
    if as_json:
        sys.stdout.write(json.dumps(row) + "\n")
        return EXIT_OK
    match subject.state:
        case SubjectState.COLLECTING:
            text = "out of use; filed together with others when the window of the day is over"
        case SubjectState.DUE:
            text = "out of use; the daemon files it when it reaches the coordinator"
        case SubjectState.REFERRED:
            text = "in use until the centre asks for it under this reference"
        case _:
            identifier = subject.erasure.rpartition("/")[2]
            text = f"out of use; {subject.erasure}: `letheon erase watch {identifier}` follows it"
    sys.stdout.write(f"{text}\nreference {subject.reference or '(made when it is filed)'}\n")
    return EXIT_OK


def _row(subject: Subject) -> dict[str, str]:
    return {
        "made_at": subject.made_at.isoformat(timespec="seconds"),
        "state": subject.state.value,
        "erasure": subject.erasure,
        "reference": subject.reference,
        "legal_basis": subject.basis,
    }


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"letheon-agent erase: {text}\n")
    return code
