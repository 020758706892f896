import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letheon.errors import CertificateInvalid
from letheon.proof import certificate
from letheon.servicekit.signing import SigningKey, canonical_json
from letheon.unlearning import statement
from letheon.unlearning.afu_ic_rebased import AfuIcRebased
from letheon.unlearning.gate import Judgement, Test, Verdict
from letheon.unlearning.removal import Removal

START = datetime(2026, 3, 1, tzinfo=UTC)
UTILITY = Test("utility", Verdict.PASS, True, "holds", {"mean_before": 0.9})


def a_forget_test(verdict):
    return Test("forget_auc", verdict, verdict is not Verdict.INCONCLUSIVE, "numbers", {"auc": 0.5})


def compose(verdict=Verdict.PASS, *, offer=Removal.offer, attempt=1, late=False, **admission):
    judgement = Judgement(Verdict.PASS, (UTILITY, a_forget_test(verdict)), "fine")
    deadline = START + timedelta(days=30)
    return statement.compose(
        statement.Filing(
            "erasures/e1", "r1", "sites/nörd", "GDPR-17-1-b", "L1", offer.name,
            START, START, deadline, **admission,
        ),
        statement.Change(1, 40, 41, 55, "aa", "bb", "cc", True, 2.0, 9.0, 7, 0),
        statement.Findings(judgement, attempt, 14),
        offer,
        process={"ledger": {"holds": True}},
        plan_digest="dd",
        salt="00ff",
        promoted_at=deadline + timedelta(seconds=1) if late else START + timedelta(hours=1),
        signed_at=START + timedelta(hours=2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return SigningKey.load_or_create(tmp_path_factory.mktemp("key") / "key.pem")


@pytest.fixture(scope="module")
def other_key(tmp_path_factory):
    return SigningKey.load_or_create(tmp_path_factory.mktemp("other") / "key.pem")


def test_what_was_signed_is_what_is_verified(key):
    said = compose()
    verified = certificate.verify(certificate.sign(said, key), key.public_pem)
    assert verified.statement == said
    assert verified.key_id == key.key_id
    assert verified.key_supplied
    assert verified.caveat == ""


def test_without_a_key_the_result_says_that_it_proves_integrity_only(key):
    verified = certificate.verify(certificate.sign(compose(), key), None)
    assert not verified.key_supplied
    assert "not who signed it" in verified.caveat


def test_a_certificate_of_another_signer_is_refused(key, other_key):
    with pytest.raises(CertificateInvalid) as caught:
        certificate.verify(certificate.sign(compose(), other_key), key.public_pem)
    assert caught.value.facts["rule"] == "key"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_changing_any_byte_is_detected(key, data):
    file = bytearray(certificate.sign(compose(), key))
    where = data.draw(st.integers(0, len(file) - 1))
    file[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CertificateInvalid):
        certificate.verify(bytes(file), None)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_adding_or_dropping_bytes_is_detected(key, data):
    file = certificate.sign(compose(), key)
    where = data.draw(st.integers(0, len(file)))
    added = data.draw(st.binary(min_size=1, max_size=3))
    changed = file[:where] + added + file[where:]
    dropped = file[:where] + file[where + 1 :]
    for content in {changed, dropped} - {file}:
        with pytest.raises(CertificateInvalid):
            certificate.verify(content, None)


def test_a_file_re_signed_with_another_key_does_not_pass_for_the_first_signer(key, other_key):
    file = json.loads(certificate.sign(compose(), key))
    file["statement"]["deadline_met"] = False
    forged = json.loads(certificate.sign(file["statement"], other_key))
    forged["key_id"], forged["public_key_pem"] = file["key_id"], file["public_key_pem"]
    with pytest.raises(CertificateInvalid) as caught:
        certificate.verify(canonical_json(forged), None)
    assert caught.value.facts["rule"] == "signature"


def test_a_commitment_to_another_subject_is_refused(key):
    said = compose()
    said["subject"]["commitment"] = certificate.commitment("sites/other", "00ff")
    with pytest.raises(CertificateInvalid) as caught:
        certificate.verify(certificate.sign(said, key), None)
    assert caught.value.facts["rule"] == "commitment"


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b'{"statement":1}', b"NaN", b"[" * 100_000],
)
def test_what_is_no_certificate_is_refused_with_a_rule(content):
    with pytest.raises(CertificateInvalid) as caught:
        certificate.verify(content, None)
    assert caught.value.facts["rule"] == "form"


def test_the_claim_says_no_more_than_was_measured():
    assert compose()["claim"] == statement.VERIFIED
    assert compose(Verdict.INCONCLUSIVE)["claim"] == statement.NOT_VERIFIED
    assert compose(offer=AfuIcRebased.offer)["claim"] == statement.SUPPRESSED


def test_a_level_is_granted_only_if_all_of_its_definition_holds():
    assert compose()["level_granted"] == "L1"
    assert compose(Verdict.INCONCLUSIVE)["level_granted"] == "L0"
    said = compose(level_admitted="L0", caveats=("few records",))
    assert (said["level"], said["level_granted"]) == ("L1", "L0")
    assert said["claim"] == statement.NOT_VERIFIED
    assert "Known when the request was filed: few records." in said["what_is_not_proven"]


def test_what_is_not_proven_names_inconclusive_tests_and_repeated_attempts():
    said = " ".join(compose(Verdict.INCONCLUSIVE, attempt=4)["what_is_not_proven"])
    assert "forget_auc was inconclusive" in said
    assert "4 times" in said
    assert "retrained" in said


def test_a_promotion_after_the_deadline_is_admitted():
    assert compose(late=True)["deadline_met"] is False
    assert compose()["deadline_met"] is True
