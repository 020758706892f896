"""`letheon certificate`: reading and checking the signed record of an erasure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from letheon import names
from letheon.cli.exits import ExitCode
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.render.as_html import html_of
from letheon.cli.render.as_pdf import pdf_of
from letheon.cli.render.page import page_of
from letheon.cli.screen import Format, FormatOption, print_document, print_fields, print_rows, say
from letheon.errors import BadConfig, CertificateInvalid
from letheon.proof.certificate import trust, verify_file
from letheon.proof.envelope import Statement
from letheon.proof.words import (
    current_recipients,
    document_of,
    facts_of,
    lines_of,
    recipient_text,
    recipients_line,
)
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
        typer.Option(help="Public key of the calibrator, PEM, or its list; got by another way."),
    ] = None,
    log_key: Annotated[
        Path | None,
        typer.Option(help="Public key of the coordinator, PEM, or its list; got by another way."),
    ] = None,
    federation: Annotated[
        str | None, typer.Option(help="The origin that the certificate must name.")
    ] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check form, signatures, subject, ledger rows and log; a file is checked offline.

    Without --key the key inside the file is used: that shows the file is intact, not who
    signed it. `letheon-verify` does the same without the rest of Letheon. Exit code 1 if it does
    not hold.
    """
    for path in (key, log_key):
        if path is not None and not path.is_file():
            raise BadConfig(f"there is no key file {path}", path=path)
    content = read_certificate(certificate, coordinator)
    try:
        given = trust(
            key.read_bytes() if key else None, log_key.read_bytes() if log_key else None, federation
        )
        verified = verify_file(content, given)
    except CertificateInvalid as error:
        _print_invalid(error, output)
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD)) from error
    if output is Format.JSON:
        print_document(document_of(verified))
    else:
        for line in lines_of(verified):
            say(line)


def _print_invalid(error: CertificateInvalid, output: Format) -> None:
    if output is Format.JSON:
        rule = error.facts.get("rule")
        print_document({"valid": False, "reason": error.message, "rule": rule})
    else:
        say(f"THE CERTIFICATE DOES NOT HOLD: {error.message}.")


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
    _print_statement(statement, document)


def _print_statement(statement: Statement, document: dict[str, Any]) -> None:
    facts = {key: str(value) for key, value in facts_of(statement).items() if value is not None}
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
    if told := current_recipients(document):
        print_rows(
            "Recipients of what was made invalid",
            ["who", "holds", "said"],
            [list(recipient_text(one)) for one in told],
        )
    say("Not proven:")
    for sentence in statement.get("what_is_not_proven", []):
        say(f"- {sentence}")


@app.command("supersede")
def supersede(
    certificate: Annotated[str, typer.Argument(metavar="ERASURE", help="The id of an erasure.")],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """State, in a new signed amendment, which recipients acknowledged so far.

    It happens by itself once the last site has answered; this is for those that stay silent.
    """
    request = certificates_pb2.SupersedeCertificateRequest(name=full_certificate_name(certificate))
    with connect(coordinator) as remote:
        content = remote.certificates.SupersedeCertificate(request).content
    document = json.loads(content)
    told = current_recipients(document)
    number = document.get("amendment", {}).get("statement", {}).get("number", 0)
    if output is Format.JSON:
        print_document({"amendment": number, "recipients": told})
        return
    say(f"Amendment {number} is the newest. {recipients_line(told)}")


@app.command("save")
def save(
    certificate: Annotated[str, typer.Argument(metavar="ERASURE", help="The id of an erasure.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """Write the certificate file, with its proofs, for whoever checks it elsewhere."""
    if out.exists():
        raise BadConfig(f"{out} exists; choose another --out", path=out)
    request = certificates_pb2.GetCertificateRequest(name=full_certificate_name(certificate))
    with connect(coordinator) as remote:
        content = remote.certificates.GetCertificate(request).content
    _write(out, content)
    _wrote(out, output)


@app.command("render")
def render(
    certificate: CertificateArgument,
    html: Annotated[Path | None, typer.Option(help="Page to write, HTML.")] = None,
    pdf: Annotated[Path | None, typer.Option(help="Page to write, PDF.")] = None,
    key: Annotated[Path | None, typer.Option(help="Public key of the calibrator.")] = None,
    log_key: Annotated[Path | None, typer.Option(help="Public key of the coordinator.")] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """One page for the files of a data protection officer. What does not hold is not rendered."""
    if html is None and pdf is None:
        raise BadConfig("say --html FILE, --pdf FILE or both", key="render")
    for path in (key, log_key):
        if path is not None and not path.is_file():
            raise BadConfig(f"there is no key file {path}", path=path)
    content = read_certificate(certificate, coordinator)
    verified = verify_file(
        content, trust(key.read_bytes() if key else None, log_key.read_bytes() if log_key else None)
    )
    page = page_of(verified, content)
    # All of it is made before a file is written: a font or a package may be missing.
    pages = [(html, html_of(page).encode())] if html else []
    pages += [(pdf, pdf_of(page))] if pdf else []
    for path, made in pages:
        _write(path, made)
    if output is Format.JSON:
        print_document({"paths": [str(path) for path, _ in pages]})
    else:
        say(f"Wrote {' and '.join(str(path) for path, _ in pages)}.")


def _write(out: Path, content: bytes) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(content)
    except OSError as error:
        raise BadConfig(f"{out} cannot be written: {error.strerror}", path=out) from error


def _wrote(out: Path, output: Format) -> None:
    if output is Format.JSON:
        print_document({"path": str(out)})
    else:
        say(f"Wrote {out}.")
