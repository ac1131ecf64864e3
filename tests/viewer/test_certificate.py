"""The page says how far a certified trace came, and of how many runs scores are the mean."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from tests.viewer.conftest import Opener
from tests.viewer.rows import result_row

from proponent.attribute.certificate import Certificate

SURE = Certificate(1.0, 12_000, 345, 2, 1, -0.25, 0.125)


def row(**more: Any) -> dict[str, Any]:
    passages = [(f"p{n}", f"Passage {n}.", False) for n in range(2)]
    return result_row("riga", "The capital of Latvia is", "Riga", passages, [("o", "No.")], **more)


@pytest.mark.parametrize(
    "certificate",
    [
        SURE,
        Certificate(0.99, 12_000, 12_000, 2, 1, None, None),
        Certificate(1.0, 12_000, 4_000, 1, 0, 0.5, -0.25),
        Certificate(0.95, 12_000, 4_000, 2, 0, 0.5, -0.25),
    ],
)
def test_it_says_what_the_command_line_says(open_page: Opener, certificate: Certificate) -> None:
    page = open_page({"hits.jsonl": [row(certificate=certificate.values)]})
    wanted = certificate.sentence(2, 1).replace("-0", "\u22120").replace("+0", "0")
    expect(page.locator("#detail .certificate")).to_have_text(wanted)


@pytest.mark.parametrize("odd", [None, 3, "sure", [], {"rows": 3}, {**SURE.values, "read": "all"}])
def test_what_is_no_certificate_is_not_shown(open_page: Opener, odd: object) -> None:
    page = open_page({"hits.jsonl": [row(certificate=odd)]})
    expect(page.locator(".proponents .passage")).to_have_count(2)
    assert page.locator(".certificate").count() == 0


def test_several_runs_are_named_with_the_method(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": [row(method="exact", mix=None, averaged_with=["run-2", "run-3"])]})
    expect(page.locator("#detail .method")).to_contain_text("gradients without projection, mean of 3 runs ")


def test_exact_scores_of_the_first_are_named_with_the_method(open_page: Opener) -> None:
    page = open_page({"hits.jsonl": [row(method="trackstar", mix=0.9, exact_top=1000)]})
    expect(page.locator("#detail .method")).to_contain_text("TrackStar, first 1,000 exact, λ = 0.900")
