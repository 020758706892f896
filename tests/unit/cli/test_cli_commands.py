"""The commands against a coordinator that answers from memory."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_builders import a_removal, an_erasure
from typer.testing import CliRunner

from letheon.cli.main import app
from letheon.federation.parameters import read_safetensors
from letheon.proof.certificate import FORMAT, commitment, sign
from letheon.servicekit.signing import SigningKey
from letheon.v1 import erasures_pb2, ledger_pb2

Erasure = erasures_pb2.Erasure


def a_certificate(folder: Path, **more: str) -> tuple[bytes, bytes]:
    """A signed certificate and the key that checks it."""
    key = SigningKey.load_or_create(folder / "key.pem")
    statement = {
        "format": FORMAT,
        "erasure": "erasures/e1",
        "level": "L1",
        "claim": "influence removed",
        "method": {"name": "removal"},
        "subject": {
            "site": "sites/site-3",
            "salt": "s",
            "commitment": commitment("sites/site-3", "s"),
        },
        **more,
    }
    pem = key.public_pem
    return sign(statement, key), pem if isinstance(pem, bytes) else pem.encode()


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["sites"],
        ["sites", "site-1"],
        ["erase", "list"],
        ["erase", "show", "e1"],
        ["erase", "cancel", "e1"],
        ["erase", "request", "--site", "site-3"],
        ["models", "list"],
        ["models", "show", "serving"],
        ["models", "exports"],
        ["ledger", "list"],
        ["ledger", "verify"],
    ],
)
def test_json_is_one_document_and_nothing_else(
    words: list[str], letheon: Any, coordinator: Any, an_erasure_in: Any
) -> None:
    result = letheon(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    assert isinstance(json.loads(result.stdout), dict)
    assert letheon(*words).exit_code == 0


@pytest.fixture
def an_erasure_in(coordinator: Any) -> None:
    coordinator.stages = [an_erasure()]


def test_status_shows_the_disk_by_area_and_what_a_restart_would_replay(letheon: Any) -> None:
    shown = letheon("status").stdout
    assert "2 payloads; versions from 11 on (entry 12) can be rebuilt" in shown
    assert "would replay 3 entries" in shown
    document = json.loads(letheon("status", "--format", "json").stdout)["federation"]
    assert document["payloads_kept"] == 2
    assert document["oldest_rebuildable_entry"] == 12
    assert document["oldest_rebuildable_version"] == 11
    assert document["entries_since_checkpoint"] == 3
    assert document["disk_bytes_by_area"] == {"payloads": 480_000, "uploads": 0}


def test_status_names_head_epoch_and_updates(letheon: Any, an_erasure_in: Any) -> None:
    shown = letheon("status").stdout
    assert "version 41, epoch 1" in shown
    assert "40 accepted" in shown
    assert "Open erasure e1: sites/site-3 by removal, RECEIVED." in shown


def test_a_request_carries_basis_level_method_and_deadline(
    letheon: Any, coordinator: Any, an_erasure_in: Any
) -> None:
    words = ["--site", "site-3", "--basis", "GDPR-7-3", "--calibrate", "--deadline-days", "2"]
    letheon("erase", "request", *words)
    filed = coordinator.requests[0]
    assert (filed.site, filed.legal_basis, filed.method) == ("sites/site-3", "GDPR-7-3", "removal")
    assert filed.level == erasures_pb2.L1
    assert filed.calibrate
    assert filed.deadline.seconds == 2 * 86_400


def test_caveats_are_shown_when_a_request_is_filed_and_later(
    letheon: Any, coordinator: Any
) -> None:
    caveat = "sites/site-3 holds 7 control records"
    coordinator.stages = [an_erasure(caveats=[caveat], level_admitted=erasures_pb2.L0)]
    coordinator.stages.append(
        an_erasure(Erasure.CERTIFIED, caveats=[caveat], level_admitted=erasures_pb2.L0)
    )
    for words in (
        ["request", "--site", "site-3"],
        ["request", "--site", "site-3", "--watch"],
        ["show", "e1"],
    ):
        shown = letheon("erase", *words).stdout
        assert "What this erasure cannot show:" in shown
        assert f"- {caveat}." in shown
        document = json.loads(letheon("erase", *words, "--format", "json").stdout)
        assert (document["level"], document["level_admitted"]) == ("L1", "L0")
        assert document["caveats"] == [caveat]


def test_a_certificate_says_which_level_was_granted(letheon: Any, tmp_path: Path) -> None:
    content, _ = a_certificate(tmp_path, level_granted="L0")
    file = tmp_path / "certificate.json"
    file.write_bytes(content)
    assert "level L0 (L1 was asked)" in letheon("certificate", "verify", str(file)).stdout


def test_watch_ends_with_one_when_the_erasure_fails(letheon: Any, coordinator: Any) -> None:
    coordinator.stages = [an_erasure(), an_erasure(Erasure.FAILED, failure="utility")]
    result = letheon("erase", "watch", "e1")
    assert result.exit_code == 1
    assert "FAILED: utility; sites/site-3 stays fenced" in result.stdout
    assert "new request" not in result.stdout


def test_an_erasure_that_fails_after_its_removal_says_what_stands_and_what_to_do(
    letheon: Any, coordinator: Any
) -> None:
    coordinator.stages = [an_erasure(Erasure.FAILED, failure="utility", removal=a_removal())]
    shown = letheon("erase", "watch", "e1").stdout
    assert "What was removed stays removed." in shown
    assert "file a new request" in shown


def test_an_unknown_site_says_what_to_do_next(letheon: Any) -> None:
    result = letheon("sites", "site-9")
    assert result.exit_code == 3
    assert "no site sites/site-9" in result.stderr
    assert "`letheon sites`" in result.stderr
    assert "Traceback" not in result.output


def test_an_error_in_json_is_a_document_too(letheon: Any) -> None:
    result = letheon("sites", "site-9", "--format", "json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["reason"] == "UNKNOWN_SITE"


def test_a_malformed_name_is_a_usage_error(letheon: Any) -> None:
    assert letheon("sites", "Not_A_Site").exit_code == 2
    assert letheon("models", "show", "newest").exit_code == 2


def test_a_coordinator_that_is_away_is_named() -> None:
    result = CliRunner().invoke(app, ["status", "--coordinator", "127.0.0.1:1"])
    assert result.exit_code == 5
    assert "the coordinator at 127.0.0.1:1 does not answer" in result.stderr


def test_the_option_of_the_command_wins_over_the_environment(coordinator: Any) -> None:
    runner = CliRunner(env={"LETHEON_COORDINATOR": "127.0.0.1:1"})
    assert runner.invoke(app, ["sites", "--coordinator", coordinator.address]).exit_code == 0
    assert runner.invoke(app, ["sites"]).exit_code == 5


def test_a_ledger_that_does_not_hold_ends_with_one(letheon: Any, coordinator: Any) -> None:
    coordinator.verdict = ledger_pb2.LedgerVerdict(
        holds=False, first_bad_entry=4, reason="the chain is broken"
    )
    result = letheon("ledger", "verify")
    assert result.exit_code == 1
    assert "DOES NOT HOLD: the chain is broken. First bad entry: 4." in result.stdout


def test_a_certificate_file_is_verified_without_a_coordinator(tmp_path: Path) -> None:
    content, pem = a_certificate(tmp_path)
    (tmp_path / "c.json").write_bytes(content)
    (tmp_path / "public.pem").write_bytes(pem)
    words = ["--coordinator", "127.0.0.1:1", "certificate", "verify", str(tmp_path / "c.json")]
    plain = CliRunner().invoke(app, words)
    assert plain.exit_code == 0, plain.output
    assert "not who signed it" in plain.stdout
    with_key = CliRunner().invoke(app, [*words, "--key", str(tmp_path / "public.pem")])
    assert with_key.exit_code == 0
    assert "not who signed it" not in with_key.stdout


def test_an_altered_certificate_ends_with_one(tmp_path: Path) -> None:
    content, _ = a_certificate(tmp_path)
    (tmp_path / "c.json").write_bytes(content.replace(b"removed", b"remains"))
    result = CliRunner().invoke(app, ["certificate", "verify", str(tmp_path / "c.json")])
    assert result.exit_code == 1
    assert "DOES NOT HOLD" in result.stdout


def test_a_certificate_of_another_key_ends_with_one(tmp_path: Path) -> None:
    content, _ = a_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = a_certificate(tmp_path / "other")
    (tmp_path / "c.json").write_bytes(content)
    (tmp_path / "other.pem").write_bytes(other)
    words = ["certificate", "verify", str(tmp_path / "c.json"), "--format", "json"]
    result = CliRunner().invoke(app, [*words, "--key", str(tmp_path / "other.pem")])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["rule"] == "key"


def test_a_certificate_is_fetched_by_the_id_of_its_erasure(
    letheon: Any, coordinator: Any, tmp_path: Path
) -> None:
    assert letheon("certificate", "verify", "e1").exit_code == 3
    coordinator.certificate = a_certificate(tmp_path)[0]
    assert "removal: influence removed" in letheon("certificate", "verify", "e1").stdout
    shown = json.loads(letheon("certificate", "show", "e1", "--format", "json").stdout)
    assert base64.b64decode(shown["signature"])


def test_a_missing_certificate_file_is_not_looked_up_as_an_id() -> None:
    result = CliRunner().invoke(app, ["certificate", "show", "missing.json"])
    assert result.exit_code == 78
    assert "there is no certificate file missing.json" in result.stderr


def test_an_export_is_recorded_and_written_in_the_layout_of_the_plan(
    letheon: Any, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "model.safetensors"
    words = ["models", "export", "--recipient", "north", "--out", str(out)]
    result = letheon(*words, "--format", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["recipient"] == "north"
    layout, vector = read_safetensors(out)
    assert [tensor.name for tensor in layout.tensors] == ["w", "b"]
    assert vector.tolist() == [0, 1, 2, 3, 4, 5]
    assert [path.name for path in out.parent.iterdir()] == ["model.safetensors"]
    again = letheon(*words)
    assert again.exit_code == 78
    assert "exists" in again.stderr


def test_an_export_of_other_bytes_than_promised_leaves_no_file(
    letheon: Any, coordinator: Any, tmp_path: Path
) -> None:
    coordinator.promised = "0" * 64
    out = tmp_path / "model.safetensors"
    result = letheon("models", "export", "--recipient", "north", "--out", str(out))
    assert result.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_a_destroyed_version_is_refused_and_names_its_erasure(letheon: Any) -> None:
    result = letheon("models", "show", "1")
    assert result.exit_code == 4
    assert "destroyed by erasures/e1" in result.stderr


def test_a_pipe_gets_no_colours_and_whole_names(letheon: Any) -> None:
    shown = letheon("sites").stdout
    assert "\x1b" not in shown
    assert "sites/site-1" in shown


def test_the_command_starts_without_torch() -> None:
    code = "import sys, letheon.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
