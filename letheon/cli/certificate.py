"""`letheon certificate`: reading and checking the signed record of an erasure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from letheon import names
from letheon.cli.documents import Fields
from letheon.cli.exits import ExitCode
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_fields, print_rows, say
from letheon.errors import BadConfig, CertificateInvalid
from letheon.unlearning.certificate import Statement, Verified
from letheon.unlearning.certificate import verify as check
from letheon.v1 import certificates_pb2

app = typer.Typer(no_args_is_help=True, help="The signed record of an erasure.")

CertificateArgument = Annotated[
    str, typer.Argument(metavar="CERTIFICATE", help="A file, or the id of an erasure.")
]


def full_certificate_name(text: str) -> str:
    """The id of an erasure, `erasures/ID` or `certificates/ID`. Raises MalformedName."""
    return names.certificate_name(text.rpartition("/")[2])


def read_certificate(text: str, coordinator: str | None) -> bytes:
    """The bytes of a file if there is one of that name, else what the coordinator holds.

    A file needs no coordinator. Raises BadConfig for what looks like a path to nothing.
    """
    path = Path(text)
    if path.is_file():
        return path.read_bytes()
    if path.suffix or text.startswith((".", "/")):
        raise BadConfig(f"there is no certificate file {text}", path=text)
    request = certificates_pb2.GetCertificateRequest(name=full_certificate_name(text))
    with connect(coordinator) as remote:
        return remote.certificates.GetCertificate(request).content


@app.command("verify")
def verify(
    certificate: CertificateArgument,
    key: Annotated[
        Path | None,
        typer.Option(help="Public key of the calibrator, PEM, got by another way."),
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check form, signature and subject; a file is checked offline.

    Without --key the key inside the file is used: that shows the file is intact, not who
    signed it. Exit code 1 if it does not hold.
    """
    if key is not None and not key.is_file():
        raise BadConfig(f"there is no key file {key}", path=key)
    content = read_certificate(certificate, coordinator)
    try:
        verified = check(content, key.read_bytes() if key else None)
    except CertificateInvalid as error:
        _print_invalid(error, output)
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD)) from error
    if output is Format.JSON:
        print_document(
            {
                "valid": True,
                "key_id": verified.key_id,
                "key_supplied": verified.key_supplied,
                "caveat": verified.caveat or None,
                **_facts(verified.statement),
            }
        )
    else:
        for line in verified_lines(verified):
            say(line)


def _print_invalid(error: CertificateInvalid, output: Format) -> None:
    if output is Format.JSON:
        rule = error.facts.get("rule")
        print_document({"valid": False, "reason": error.message, "rule": rule})
    else:
        say(f"THE CERTIFICATE DOES NOT HOLD: {error.message}.")


def verified_lines(verified: Verified) -> list[str]:
    """The outcome of a check for a person."""
    facts = _facts(verified.statement)
    asked, granted = facts["level"], facts["level_granted"]
    level = f"level {asked}" if granted in (None, asked) else f"level {granted} ({asked} was asked)"
    lines = [
        f"The certificate holds, signed with key {verified.key_id}.",
        f"{facts['erasure']} of {facts['site']}, {level}, by {facts['method']}: {facts['claim']}.",
    ]
    return [*lines, f"Note: {verified.caveat}."] if verified.caveat else lines


def _facts(statement: Statement) -> Fields:
    return {
        "erasure": statement.get("erasure"),
        "site": statement.get("subject", {}).get("site"),
        "level": statement.get("level"),
        "level_granted": statement.get("level_granted"),
        "method": statement.get("method", {}).get("name"),
        "claim": statement.get("claim"),
    }


@app.command("show")
def show(
    certificate: CertificateArgument,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """What a certificate says, without checking it."""
    content = read_certificate(certificate, coordinator)
    try:
        document = json.loads(content)
        statement = document["statement"]
    except (ValueError, KeyError, TypeError) as error:
        raise CertificateInvalid("the file is no certificate", rule="form") from error
    if output is Format.JSON:
        print_document(document)
        return
    _print_statement(statement)


def _print_statement(statement: Statement) -> None:
    facts = {key: str(value) for key, value in _facts(statement).items() if value is not None}
    times = statement.get("times", {})
    print_fields(
        "Certificate",
        {
            **facts,
            "legal basis": str(statement.get("legal_basis", "")),
            **{name.replace("_", " "): str(value) for name, value in times.items()},
            "deadline met": "yes" if statement.get("deadline_met") else "NO",
        },
    )
    print_rows(
        "Tests of the gate",
        ["test", "verdict", "numbers"],
        [
            [str(test["name"]), str(test["verdict"]), str(test["detail"])]
            for test in statement.get("gate", {}).get("tests", [])
        ],
    )
    say("Not proven:")
    for sentence in statement.get("what_is_not_proven", []):
        say(f"- {sentence}")
