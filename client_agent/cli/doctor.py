"""letheon-agent doctor"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from client_agent.checks.finding import Finding, Status
from client_agent.cli.exits import ExitCode
from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption
from letheon.cli.screen import Format, FormatOption, JsonValue, print_document, say


def doctor(
    config: ConfigOption = DEFAULT_CONFIG,
    timeout: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds that loading torch, the data and the model may take."),
    ] = 120.0,
    output: FormatOption = Format.TABLE,
) -> None:
    """Look at everything between this site and the federation; change nothing.

    Name, proxy, TLS, identity, clock, disk, memory, GPU, data and model, each with one sentence
    and what to do. Exit code 0: nothing failed (there may be warnings); 1: something did.
    """
    from client_agent.checks.doctor import Doctor

    findings = []
    for finding in Doctor(config, limit_s=timeout):
        findings.append(finding)
        if output is Format.TABLE:
            _print(finding)
    counts = Counter(one.status for one in findings)
    if output is Format.JSON:
        healthy = counts[Status.FAILED] == 0
        print_document({"healthy": healthy, "findings": [_document(one) for one in findings]})
    else:
        say(
            f"{len(findings)} checks: " + ", ".join(f"{counts[s]} {s}" for s in Status if counts[s])
        )
    if counts[Status.FAILED]:
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


def _print(finding: Finding) -> None:
    say(f"{finding.status:<8} {finding.check:<12} {finding.sentence.rstrip('.')}.")
    if finding.advice:
        say(f"{'':<21} -> {finding.advice}")


def _document(finding: Finding) -> dict[str, JsonValue]:
    return {
        "check": finding.check,
        "status": finding.status.value,
        "sentence": finding.sentence,
        "advice": finding.advice,
    }
