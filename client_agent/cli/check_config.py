"""letheon-agent check-config"""

from __future__ import annotations

import typer

from client_agent.checks.config_file import Remark, check_config_file
from client_agent.cli.exits import ExitCode
from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption
from letheon.cli.screen import Format, FormatOption, JsonValue, print_document, say


def check_config(
    config: ConfigOption = DEFAULT_CONFIG, output: FormatOption = Format.TABLE
) -> None:
    """Say everything that is wrong with the configuration file, at once. Contacts nobody.

    Exit code 0: the agent can start with it, warnings or not; 78: it cannot.
    """
    verdict = check_config_file(config)
    if output is Format.JSON:
        print_document(
            {
                "file": str(config),
                "usable": not verdict.errors,
                "errors": [_document(one) for one in verdict.errors],
                "warnings": [_document(one) for one in verdict.warnings],
            }
        )
    else:
        for one in verdict.errors:
            say(f"error    {one}")
        for one in verdict.warnings:
            say(f"warning  {one}")
        say(f"{config}: {len(verdict.errors)} errors, {len(verdict.warnings)} warnings")
    if verdict.errors:
        raise typer.Exit(int(ExitCode.CONFIGURATION))


def _document(remark: Remark) -> dict[str, JsonValue]:
    return {"key": remark.key, "line": remark.line, "sentence": remark.sentence}
