"""The certificate file with its proofs: what holds, and every way in which it does not."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from logged_certificates import NOON, ORIGIN, Logged, a_statement, ledger_section, some_signers

from letheon.errors import CertificateInvalid
from letheon.proof import verifier
from letheon.proof.certificate import OLDER_FORMATS, Trust, sign, trust, verify_file
from letheon.proof.key_list import CALIBRATOR, COORDINATOR, KeyList
from letheon.proof.words import lines_of
from letheon.servicekit.signing import SigningKey, canonical_json

# All that a checked page, its HTML and an offline check may not need.
_HEAVY = ("grpc", "google", "sqlalchemy", "torch", "numpy", "pydantic", "typer", "rich", "redis")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Logged:
    return Logged(some_signers(tmp_path_factory.mktemp("keys")))


@pytest.fixture(scope="module")
def amended(logged: Logged) -> Logged:
    return logged.with_(amended=True)


def known(logged: Logged, **more: Any) -> Trust:
    signers = logged.signers
    return trust(signers.calibrator.public_pem, signers.coordinator.public_pem, **more)


def rule_of(content: bytes, given: Trust) -> str:
    with pytest.raises(CertificateInvalid) as caught:
        verify_file(content, given)
    return caught.value.facts["rule"]


def changed(content: bytes, change: Any) -> bytes:
    """The file with one thing changed, canonical again."""
    file = json.loads(content)
    change(file)
    return canonical_json(file)


def test_a_logged_certificate_holds_and_says_where_it_stands(logged: Logged) -> None:
    verified = verify_file(logged.file(), known(logged, origin=ORIGIN))
    assert verified.caveat == ""
    assert verified.logged is not None
    assert (verified.logged.origin, verified.logged.index, verified.logged.size) == (ORIGIN, 1, 3)
    assert [one["state"] for one in verified.recipients] == ["to be notified", "listed"]
    told = "\n".join(lines_of(verified))
    assert "Entry 1 of the transparency log letheon/abc (3 entries" in told
    assert "1 sites, 0 of them acknowledged, and 1 exports, listed" in told


def test_an_amendment_supersedes_the_recipients_and_nothing_else(amended: Logged) -> None:
    verified = verify_file(amended.file(), known(amended))
    assert [one["state"] for one in verified.recipients] == ["acknowledged", "listed"]
    assert verified.statement == a_statement()


def test_without_keys_it_is_intact_and_the_caveat_says_no_more(logged: Logged) -> None:
    verified = verify_file(logged.file(), Trust())
    assert "not who signed it" in verified.caveat
    half = verify_file(logged.file(), trust(logged.signers.calibrator.public_pem))
    assert "supply the coordinator's" in half.caveat


@pytest.mark.parametrize("with_keys", [True, False])
def test_a_flip_of_any_single_byte_is_noticed(amended: Logged, with_keys: bool) -> None:
    content = amended.file()
    given = known(amended) if with_keys else Trust()
    missed = []
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1
        try:
            verify_file(bytes(flipped), given)
        except CertificateInvalid:
            continue
        missed.append((place, content[max(0, place - 20) : place + 20]))
    assert missed == []


def test_a_cut_file_is_noticed_wherever_it_was_cut(logged: Logged) -> None:
    content = logged.file()
    for length in range(0, len(content), 7):
        assert rule_of(content[:length], Trust()) == "form"


def test_another_signers_key_is_told_apart(logged: Logged, tmp_path: Path) -> None:
    other = SigningKey.load_or_create(tmp_path / "other.pem").public_pem
    ours, theirs = logged.signers.calibrator.public_pem, logged.signers.coordinator.public_pem
    assert rule_of(logged.file(), trust(other, theirs)) == "key"
    assert rule_of(logged.file(), trust(ours, other)) == "key"
    assert rule_of(logged.file(), trust(theirs, ours)) == "key"
    with pytest.raises(CertificateInvalid, match="PEM"):
        trust("no key")


def test_a_certificate_of_another_federation_is_refused(logged: Logged) -> None:
    assert rule_of(logged.file(), known(logged, origin="letheon/other")) == "federation"
    elsewhere = logged.with_(origin="letheon/other")
    assert rule_of(elsewhere.file(), Trust()) == "federation"


def test_a_proof_or_checkpoint_of_another_log_is_refused(logged: Logged) -> None:
    content = logged.file()
    other = json.loads(logged.with_(statement=a_statement(level="L0")).file())["log"]

    def forge(**parts: Any) -> bytes:
        return changed(content, lambda file: file["log"].update(parts))

    given = known(logged)
    assert rule_of(forge(**other), given) == "inclusion"
    assert rule_of(forge(proof=other["proof"], index=2), given) == "inclusion"
    assert rule_of(forge(proof=[]), given) == "inclusion"
    assert rule_of(forge(index=9), given) == "index"
    assert rule_of(forge(index=-1), given) == "form"
    assert rule_of(forge(index=True), given) == "form"
    assert rule_of(forge(proof=["zz"]), given) == "form"
    assert rule_of(forge(checkpoint="letheon/abc\n3\n"), given) == "note"
    cut = json.loads(content)["log"]["checkpoint"][:-20]
    assert rule_of(forge(checkpoint=cut), given) == "note"
    assert rule_of(changed(content, lambda file: file["log"].pop("proof")), given) == "form"


def test_a_second_signature_cannot_be_smuggled_into_the_checkpoint(logged: Logged) -> None:
    note = json.loads(logged.file())["log"]["checkpoint"]
    line = note.rstrip("\n").rpartition("\n")[2]
    twice = changed(logged.file(), lambda file: file["log"].update(checkpoint=f"{note}{line}\n"))
    assert rule_of(twice, known(logged)) == "form"


def test_a_file_whose_log_section_was_taken_out_is_refused(logged: Logged) -> None:
    bare = changed(logged.file(), lambda file: file.pop("log"))
    assert rule_of(bare, known(logged)) == "log"
    verified = verify_file(bare, trust(logged.signers.calibrator.public_pem))
    assert "holds no proof" in verified.caveat


def test_an_amendment_of_another_certificate_or_without_a_log_is_refused(amended: Logged) -> None:
    other = amended.with_(statement=a_statement(level="L0"))
    foreign = json.loads(other.file())["amendment"]
    given = known(amended)
    forged = changed(amended.file(), lambda file: file.update(amendment=foreign))
    assert rule_of(forged, given) == "amendment"
    assert rule_of(changed(amended.file(), lambda file: file.pop("log")), given) == "form"
    moved = changed(amended.file(), lambda file: file["amendment"].update(index=0))
    assert rule_of(moved, given) == "inclusion"


def test_an_amendment_that_the_coordinator_did_not_sign_is_refused(
    amended: Logged, tmp_path: Path
) -> None:
    thief = SigningKey.load_or_create(tmp_path / "thief.pem")
    stolen = amended.with_(signers=type(amended.signers)(amended.signers.calibrator, thief))
    forged = json.loads(stolen.file())["amendment"]
    content = changed(amended.file(), lambda file: file.update(amendment=forged))
    assert rule_of(content, known(amended)) == "key"
    assert rule_of(content, Trust()) == "key"


def test_rows_that_do_not_stand_in_the_ledger_are_refused(logged: Logged) -> None:
    for damage in (
        {"root": "00" * 32},
        {"rows": [[2, "00" * 32]]},
        {"rows": []},
        {"rows": [[99, "00" * 32]]},
        {"proof": []},
        {"size": "9"},
    ):
        bad = logged.with_(statement=a_statement(ledger={**ledger_section(), **damage}))
        assert rule_of(bad.file(), known(logged)) == "ledger"


def test_an_unknown_format_version_says_so(logged: Logged) -> None:
    newer = logged.with_(statement=a_statement(format="letheon-certificate/3"))
    with pytest.raises(CertificateInvalid, match="a newer release of Letheon may know it"):
        verify_file(newer.file(), known(logged))


def test_a_certificate_from_before_the_log_still_verifies(logged: Logged) -> None:
    older = a_statement(format=OLDER_FORMATS[0])
    for key in ("federation", "ledger", "recipients"):
        older.pop(key)
    content = sign(older, logged.signers.calibrator)
    verified = verify_file(content, known(logged))
    assert (verified.logged, verified.caveat) == (None, "")


def test_a_key_that_was_rotated_stays_valid_for_what_it_signed(
    logged: Logged, tmp_path: Path
) -> None:
    signers = logged.signers
    new = SigningKey.load_or_create(tmp_path / "new.pem")
    day = timedelta(days=1)
    calibrator = KeyList.of_one(CALIBRATOR, signers.calibrator, NOON - day)
    coordinator = KeyList.of_one(COORDINATOR, signers.coordinator, NOON - day)
    later = calibrator.followed_by(new, by=signers.calibrator, since=NOON + day)
    assert verify_file(logged.file(), trust(later.content(), coordinator.content())).key_supplied
    earlier = calibrator.followed_by(new, by=signers.calibrator, since=NOON - day / 2)
    assert rule_of(logged.file(), trust(earlier.content(), coordinator.content())) == "key"
    with pytest.raises(CertificateInvalid, match="keys of the calibrator, not of the coordinator"):
        trust(None, calibrator.content())


def test_the_small_verifier_answers_with_exit_codes_and_sentences(
    logged: Logged, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {"c.json": logged.file(), "bad.json": logged.file().replace(b"L1", b"L0", 1)}
    paths["key.pem"] = logged.signers.calibrator.public_pem.encode()
    paths["log.pem"] = logged.signers.coordinator.public_pem.encode()
    for name, content in paths.items():
        (tmp_path / name).write_bytes(content)
    keys = ["--key", str(tmp_path / "key.pem"), "--log-key", str(tmp_path / "log.pem")]
    assert verifier.main([str(tmp_path / "c.json"), *keys]) == 0
    assert "The certificate holds" in capsys.readouterr().out
    assert verifier.main([str(tmp_path / "c.json"), *keys, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["log"]["index"] == 1
    assert verifier.main([str(tmp_path / "bad.json"), *keys]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out
    assert verifier.main([str(tmp_path / "bad.json"), "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out)["rule"] == "signature"
    assert verifier.main([str(tmp_path / "none.json")]) == 78
    assert "cannot be read" in capsys.readouterr().err


def test_the_verifier_runs_where_only_cryptography_is_installed(
    logged: Logged, tmp_path: Path
) -> None:
    (tmp_path / "c.json").write_bytes(logged.file())
    (tmp_path / "key.pem").write_text(logged.signers.calibrator.public_pem)
    blocked = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {_HEAVY!r}:
            raise ModuleNotFoundError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocked())
from letheon.cli.start import run
sys.argv = ["letheon", "certificate", "verify", {str(tmp_path / "c.json")!r},
            "--key", {str(tmp_path / "key.pem")!r}]
run()
"""
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "The certificate holds" in done.stdout


@pytest.mark.parametrize(
    "part",
    [
        {"method": None},
        {"method": "removal"},
        {"federation": []},
        {"recipients": None},
        {"recipients": ["north"]},
        {"recipients": [{"kind": "site", "versions": 7}]},
        {"gate": {"tests": [0]}},
        {"process": {"destroyed_versions": [1]}},
        {"what_is_not_proven": [[]]},
    ],
)
def test_a_signed_statement_of_another_form_is_refused_and_not_stumbled_over(
    logged: Logged, part: dict[str, Any]
) -> None:
    file = logged.with_(statement=a_statement(**part)).file()
    assert rule_of(file, known(logged)) == "form"


def test_rows_of_a_ledger_deeper_than_any_are_refused(logged: Logged) -> None:
    ledger = {**ledger_section(), "size": 10**4000}
    file = logged.with_(statement=a_statement(ledger=ledger)).file()
    assert rule_of(file, known(logged)) == "ledger"


def test_lists_without_end_are_no_certificate(logged: Logged) -> None:
    depth = 990
    deep = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
    assert rule_of(deep, known(logged)) == "form"
