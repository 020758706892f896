"""`letheon audit`, `log`, `keys` and `certificate` against a coordinator that serves."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner, Result

from letheon.cli.main import app
from letheon.proof.key_files import public_path
from letheon.servicekit.signing import SigningKey
from letheon.v1 import models_pb2, training_pb2


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with a_running_federation(tmp_path) as running:
        yield running


def letheon(federation: Federation, *arguments: object) -> Result:
    address = federation.coordinator.address
    return CliRunner().invoke(app, ["--coordinator", address, *map(str, arguments)])


def document(federation: Federation, *arguments: object) -> Any:
    result = letheon(federation, *arguments, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def certified(federation: Federation, folder: Path) -> str:
    """An erasure that is certified, with one recipient of each kind; its id."""
    federation.train("south", "north")
    request = models_pb2.RebuildModelRequest(
        request_id="x1",
        version=federation.version,
        recipient="Komisja Bioetyczna, Łódź",
        purpose="review",
    )
    list(federation.client.models.RebuildModel(request))
    name = models_pb2.DownloadModelRequest(name="models/head", reader="sites/north")
    list(federation.client.models.DownloadModel(name))
    job = federation.job(federation.request("south").name)
    job.remove()
    federation.train("north", seed=9)
    job.passes()
    job.certify(SigningKey.load_or_create(folder / "calibrator.pem"))
    SigningKey.load_or_create(folder / "calibrator.pem").publish(folder / "calibrator.pub.pem")
    return job.name.rpartition("/")[2]


def keys(federation: Federation, folder: Path) -> list[object]:
    log_key = public_path(federation.data / "coordinator_key.pem")
    return ["--key", folder / "calibrator.pub.pem", "--log-key", log_key]


def test_a_saved_certificate_is_verified_shown_superseded_and_rendered(
    federation: Federation, tmp_path: Path
) -> None:
    erasure = certified(federation, tmp_path)
    file = tmp_path / "certificate.json"
    assert document(federation, "certificate", "save", erasure, "--out", file)["path"] == str(file)
    assert letheon(federation, "certificate", "save", erasure, "--out", file).exit_code == 78
    told = document(federation, "certificate", "verify", file, *keys(federation, tmp_path))
    assert (told["valid"], told["caveat"], told["amended"]) == (True, None, False)
    assert "Łódź" in letheon(federation, "certificate", "show", file).output
    other = document(
        federation, "certificate", "verify", file, "--federation", told["log"]["origin"]
    )
    assert other["valid"]
    wrong = letheon(federation, "certificate", "verify", file, "--federation", "letheon/other")
    assert wrong.exit_code == 1
    assert "not of letheon/other" in wrong.output
    superseded = document(federation, "certificate", "supersede", erasure)
    assert superseded["amendment"] == 1
    assert {one["state"] for one in superseded["recipients"]} == {"silent", "listed"}
    page = tmp_path / "page.html"
    document(federation, "certificate", "render", file, "--html", page)
    text = page.read_text()
    assert "Certificate of erasure" in text
    assert "<script" not in text
    assert "Łódź" in text
    damaged = tmp_path / "damaged.json"
    damaged.write_bytes(file.read_bytes().replace(b"south", b"north", 1))
    for command in ("verify", "render"):
        extra = [] if command == "verify" else ["--html", tmp_path / "no.html"]
        assert letheon(federation, "certificate", command, damaged, *extra).exit_code == 1
    assert not (tmp_path / "no.html").exists()
    assert letheon(federation, "certificate", "render", file).exit_code == 78


def test_a_page_in_pdf_is_one_page_with_every_letter(
    federation: Federation, tmp_path: Path
) -> None:
    pytest.importorskip("fpdf")
    erasure = certified(federation, tmp_path)
    page = tmp_path / "page.pdf"
    beside = tmp_path / "page.html"
    told = document(federation, "certificate", "render", erasure, "--html", beside, "--pdf", page)
    assert told == {"paths": [str(beside), str(page)]}
    assert "Łódź" in beside.read_text()
    content = page.read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Type /Page\n") == 1


def test_the_audit_log_is_shown_exported_and_verified_here_and_elsewhere(
    federation: Federation, tmp_path: Path
) -> None:
    certified(federation, tmp_path)
    letheon(
        federation, "erase", "request", "--site", "west", "--basis", "B-1", "--method", "no_such"
    )
    rows = document(federation, "audit", "show", "--limit", "1000")["rows"]
    assert rows[-1]["outcome"] == "refused"
    assert "model.rebuilt" in {row["action"] for row in rows}
    refused = document(federation, "audit", "show", "--limit", "1000", "--refused")["rows"]
    assert [row["number"] for row in refused] == [rows[-1]["number"]]
    verified = document(federation, "audit", "verify")
    assert (verified["rows"], verified["heads_checked"] >= 1) == (len(rows), True)
    out = tmp_path / "audit.jsonl"
    assert document(federation, "audit", "export", "--out", out)["rows"] == len(rows)
    assert document(federation, "audit", "verify", "--file", out)["hash"] == verified["hash"]
    out.write_bytes(out.read_bytes().replace(b'"refused"', b'"allowed"', 1))
    result = letheon(federation, "audit", "verify", "--file", out)
    assert result.exit_code == 1
    assert letheon(federation, "audit", "verify", "--file", tmp_path / "none").exit_code == 78


def test_an_audit_log_that_was_written_anew_is_found_out(
    federation: Federation, tmp_path: Path
) -> None:
    """Whoever owns the database can drop the triggers and chain new hashes, but not the log's."""
    certified(federation, tmp_path)
    with closing(sqlite3.connect(federation.data / "coordinator.sqlite")) as database:
        database.execute("DROP TRIGGER audit_log_no_delete")
        database.execute("DELETE FROM audit_log WHERE number >= 3")
        database.commit()
    result = letheon(federation, "audit", "verify")
    assert result.exit_code == 1
    assert "rows were taken away" in result.stderr


def test_a_log_is_watched_from_outside(federation: Federation, tmp_path: Path) -> None:
    pin, key = tmp_path / "pin.txt", public_path(federation.data / "coordinator_key.pem")
    first = document(federation, "log", "verify", "--key", key, "--pin", pin)
    assert first["before"] is None
    certified(federation, tmp_path)
    second = document(federation, "log", "verify", "--key", key, "--pin", pin)
    assert second["before"] == first["size"] < second["size"]
    assert document(federation, "log", "show")["note"] == pin.read_text()
    kept = pin.read_text()
    with closing(sqlite3.connect(federation.data / "coordinator.sqlite")) as database:
        database.execute("DROP TRIGGER log_leaves_no_delete")
        database.execute("DROP TRIGGER log_checkpoints_no_delete")
        database.execute("DELETE FROM log_leaves")
        database.execute("DELETE FROM log_checkpoints")
        database.commit()
    result = letheon(federation, "log", "verify", "--key", key, "--pin", pin)
    assert result.exit_code == 1
    assert "entries were taken away" in result.stderr
    assert pin.read_text() == kept
    stranger = tmp_path / "stranger.pem"
    SigningKey.load_or_create(stranger).publish(public_path(stranger))
    result = letheon(federation, "log", "verify", "--key", public_path(stranger), "--pin", pin)
    assert result.exit_code == 1
    assert "does not hold the key" in result.stderr


def test_a_rotated_key_of_the_coordinator_signs_after_a_restart_and_the_old_one_stays_valid(
    tmp_path: Path,
) -> None:
    with a_running_federation(tmp_path) as federation:
        erasure = certified(federation, tmp_path)
        file = tmp_path / "old.json"
        document(federation, "certificate", "save", erasure, "--out", file)
        private = federation.data / "coordinator_key.pem"
        first = tmp_path / "first.pub.pem"
        shutil.copy(public_path(private), first)
        told = document(federation, "keys", "rotate", "--key", private, "--role", "coordinator")
        assert len(told["keys"]) == 2
        missing = letheon(
            federation, "keys", "rotate", "--key", tmp_path / "none", "--role", "coordinator"
        )
        assert missing.exit_code == 78
    with a_running_federation(tmp_path) as federation:
        shown = document(federation, "keys", "list")
        assert [key["key_id"] for key in shown["keys"]][-1] == told["key_id"]
        assert shown["keys"][0]["until"] == shown["keys"][1]["since"]
        listed = private.with_suffix(".keys.json")
        assert document(federation, "keys", "list", "--file", listed)["role"] == "coordinator"
        # What the old key signed, and what the new one signs, holds against the list.
        document(federation, "certificate", "supersede", erasure)
        for content in (file, erasure):
            verified = document(federation, "certificate", "verify", content, "--log-key", listed)
            assert verified["log"]["key_supplied"]
        # A reader that trusts the first key only is led to the second by the list.
        pin = tmp_path / "pin.txt"
        assert document(federation, "log", "verify", "--key", first, "--pin", pin)["holds"]


def test_the_key_of_a_site_is_shown_and_let_go(federation: Federation) -> None:
    assert document(federation, "keys", "forget", "north") == {
        "name": "sites/north",
        "update_key": None,
    }
    assert document(federation, "sites", "north")["update_key"] is None
    assert letheon(federation, "keys", "forget", "nowhere").exit_code == 3
    task = training_pb2.NextTaskRequest(site="sites/north")
    assert federation.client.training.NextTask(task).WhichOneof("outcome") == "train"
