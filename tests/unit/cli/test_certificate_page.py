"""The page of a certificate: one page, and nothing on it twice."""

from __future__ import annotations

from typing import Any

import pytest

from letheon.cli.render.as_pdf import pdf_of
from letheon.cli.render.page import Page, page_of
from letheon.proof.certificate import Verified

DETAIL = "AUC of erased against control losses: 0.444 [0.355, 0.506] before"
OTHER = "That no single record can be told: the tests compare averages over all erased records."


def page(sentences: list[str], recipients: int = 1) -> Page:
    tests = [{"name": "forget_auc", "verdict": "inconclusive", "detail": DETAIL}] * 3
    statement: dict[str, Any] = {
        "claim": "influence removed",
        "gate": {"tests": tests},
        "what_is_not_proven": sentences,
        "recipients": [{"kind": "site", "site": f"s{n}"} for n in range(recipients)],
    }
    return page_of(Verified(statement, "00", key_supplied=True), b"{}")


def test_what_a_row_of_the_tests_says_is_not_said_twice() -> None:
    said = page([OTHER, f"forget_auc was inconclusive: {DETAIL}"]).not_proven
    assert said == [OTHER, "What the inconclusive tests above were to show: forget_auc."]
    assert page([OTHER]).not_proven == [OTHER]


@pytest.mark.parametrize("sentences", [1, 25])
def test_a_certificate_with_much_to_say_is_printed_smaller_and_still_one_page(
    sentences: int,
) -> None:
    pytest.importorskip("fpdf")
    content = pdf_of(page([OTHER] * sentences, recipients=10))
    assert content.count(b"/Type /Page\n") == 1
