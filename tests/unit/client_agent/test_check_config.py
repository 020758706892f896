"""check-config: everything at once, with lines; and what doctor makes of a half-broken file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tls_files import Authority
from typer.testing import CliRunner

from client_agent.checks.config_file import check_config_file
from client_agent.checks.config_lines import line_of, lines_of
from client_agent.checks.partial_config import salvage
from client_agent.cli.main import app
from letheon.errors import BadConfig

GOOD = """\
coordinator = "127.0.0.1:7300"
site = "north"
state_dir = "/var/lib/letheon-agent"
[data]
plugin = "synthetic"
arguments = { records = 40, classes = 2, channels = 1, height = 8, width = 8 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(GOOD)
    return path


def test_a_good_file_has_no_remarks(file: Path) -> None:
    verdict = check_config_file(file, {})
    assert (verdict.errors, verdict.warnings) == ((), ())
    assert verdict.config is not None


def test_every_error_is_told_at_once_with_its_line_and_the_valid_keys(file: Path) -> None:
    file.write_text(
        'coordinator = "https://c"\n'
        'sight = "north"\n'
        'state_dir = "/s"\n'
        "[data]\n"
        'plugin = "npzz"\n'
        "[network]\n"
        'proxy = "socks5://p"\n'
        'upload_hours = ["20-6"]\n'
        "prxy = 1\n"
    )
    told = {(one.key, one.line): one.sentence for one in check_config_file(file, {}).errors}
    assert "no host:port" in told["coordinator", 1]
    assert "did you mean site?" in told["sight", 2]
    assert told["site", None] == "is required and missing"
    assert "SOCKS" in told["network.proxy", 7]
    assert "no range of hours" in told["network.upload_hours", 8]
    assert "valid here: download_bytes_per_second" in told["network.prxy", 9]
    assert "there are: " in told["data.plugin", 5]


def test_arguments_that_the_source_does_not_take_are_named(file: Path) -> None:
    file.write_text(GOOD.replace("records", "recods"))
    (error,) = check_config_file(file, {}).errors
    assert (error.key, error.line) == ("data.arguments", 6)
    assert "recods" in error.sentence


def test_a_value_of_the_environment_is_told_with_its_variable(file: Path) -> None:
    (error,) = check_config_file(file, {"LETHEON_TRAINING__THREADS": "0"}).errors
    assert "LETHEON_TRAINING__THREADS" in error.sentence
    assert error.line is None


def test_files_that_the_configuration_names_are_looked_at(file: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.issue("north"), authority.issue("south")
    file.write_text(GOOD + f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{other.key}"\n')
    (error,) = check_config_file(file, {}).errors
    assert (error.key, error.line) == ("tls.key", 9)
    assert "is not the key of the certificate" in error.sentence


def test_a_credential_of_systemd_is_no_error_where_systemd_has_not_put_it(
    file: Path, tmp_path: Path
) -> None:
    pair = Authority(tmp_path).issue("north")
    key = "$CREDENTIALS_DIRECTORY/north.key"
    file.write_text(GOOD + f'[tls]\ncertificate = "{pair.certificate}"\nkey = "{key}"\n')
    verdict = check_config_file(file, {})
    assert verdict.errors == ()
    assert [one.key for one in verdict.warnings] == ["tls.key"]
    inside = check_config_file(file, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (inside.errors, inside.warnings) == ((), ())
    (error,) = check_config_file(file, {"CREDENTIALS_DIRECTORY": "/nonexistent"}).errors
    assert "tls.key /nonexistent/north.key cannot be read" in error.sentence


@pytest.mark.parametrize(
    ("more", "key", "words"),
    [
        ("", "coordinator", "not encrypted"),
        ("control_share = 0.0", "control_share", "cannot be verified"),
        ("[training]\nthreads = 10000", "training.threads", "cores"),
        ("[network]\nupload_bytes_per_second = 2048", "network.upload_bytes_per_second", "takes"),
        ('[network]\nupload_hours = ["03:00-03:20"]', "network.upload_hours", "stale"),
        ("[training]\nmemory_limit_bytes = 1000000", "training.memory_limit_bytes", "1 GiB"),
    ],
)
def test_what_is_rarely_meant_is_a_warning(file: Path, more: str, key: str, words: str) -> None:
    head, _, tail = GOOD.replace("127.0.0.1:7300", "c.example.org").partition("[data]")
    plain, table = (more, "") if more and not more.startswith("[") else ("", more)
    file.write_text(f"{head}{plain}\n[data]{tail}{table}\n")
    verdict = check_config_file(file, {})
    assert verdict.errors == ()
    assert any(words in one.sentence for one in verdict.warnings if one.key == key)


def test_a_file_that_is_no_toml_is_refused(file: Path) -> None:
    file.write_text("coordinator = \n")
    with pytest.raises(BadConfig, match="not valid TOML"):
        check_config_file(file, {})


def test_the_command_prints_one_document_and_ends_with_78(file: Path) -> None:
    file.write_text(GOOD.replace("north", "North Clinic"))
    result = CliRunner().invoke(app, ["check-config", "--config", str(file), "--format", "json"])
    document = json.loads(result.stdout)
    assert result.exit_code == 78
    assert document["usable"] is False
    assert [(one["key"], one["line"]) for one in document["errors"]] == [("site", 2)]


def test_the_command_ends_with_0_for_a_file_with_warnings_only(file: Path) -> None:
    file.write_text(GOOD.replace("127.0.0.1:7300", "c.example.org"))
    result = CliRunner().invoke(app, ["check-config", "--config", str(file)])
    assert result.exit_code == 0
    assert "warning  line 1, coordinator: the connection is not encrypted" in result.stdout


def test_keys_are_found_in_tables_and_dotted_tables() -> None:
    lines = lines_of('a = 1\n[b]\nc = 2\n\n[b.d]\n"e" = 3\n')
    assert [lines[key] for key in ("a", "b", "b.c", "b.d", "b.d.e")] == [1, 2, 3, 5, 6]
    assert line_of("b.d.unknown.more", lines) == 5
    assert line_of("nothing", lines) is None


def test_a_broken_key_does_not_take_the_others_along() -> None:
    usable = salvage(
        {
            "coordinator": "c.example.org",
            "state_dir": 7,
            "data": {"plugin": "npz"},
            "network": {"proxy": "http://p:3128", "prxy": 1},
            "control_share": 0.9,
            "validation_share": 0.9,
        }
    )
    assert usable.has("coordinator", "data", "network")
    assert usable.absent == {"site", "state_dir"}
    assert usable.config.network.proxy == "http://p:3128"
