"""What the page makes of texts, by its own modules: subjects, marks, windows, searches."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page

from proponent.evaluate.metrics import hits_within, mean, reciprocal_ranks


def test_the_subject_is_what_prompts_of_a_kind_do_not_share(modules: Page) -> None:
    names = ["Mira Vale", "the University of Nord", "Peru", "São Tomé", "R2-D2", "Anna"]
    prompts = [f"The birthplace of {name} is" for name in names]
    found = modules.evaluate(
        """async (prompts) => {
          const { countWords, subjectOf } = await import("/subject.js");
          const counts = countWords(prompts.map((prompt) => ({ prompt, kind: "" }))).get("");
          return prompts.map((prompt) => subjectOf(prompt, counts));
        }""",
        prompts,
    )
    assert found == ["Mira Vale", "University of Nord", "Peru", "São Tomé", "R2-D2", "Anna"]


def test_alone_the_subject_is_the_longest_name(modules: Page) -> None:
    found = modules.evaluate(
        """async (prompts) => {
          const { subjectOf } = await import("/subject.js");
          return prompts.map((prompt) => subjectOf(prompt));
        }""",
        ["The capital of New Zealand is", "what is it", "Where was Ada born?", ""],
    )
    assert found == ["New Zealand", "", "Ada", ""]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("South Korea has Seoul.", [("South Korea", "subject", True), ("Seoul", "target", True)]),
        ("North Korea", [("Korea", "subject", False)]),
        ("The capitals of SEOUL's rivals", [("capitals", "prompt", False), ("SEOUL", "target", True)]),
        ("Séoul and seoulful", [("Séoul", "target", True)]),
        ("of the is", []),
        ("", []),
    ],
)
def test_words_are_found_whatever_their_case_ending_or_accent(
    modules: Page, text: str, marks: list[tuple[str, str, bool]]
) -> None:
    found: list[dict[str, Any]] = modules.evaluate(
        """async (text) => {
          const { marksOf, termsOf } = await import("/words.js");
          const prompt = ["The capital of South Korea is"];
          const phrases = { target: ["Seoul"], subject: ["South Korea"], said: [], prompt };
          return marksOf(text, termsOf(phrases));
        }""",
        text,
    )
    assert [(text[mark["start"] : mark["end"]], mark["role"], mark["whole"]) for mark in found] == marks


def test_scripts_without_spaces_are_searched_by_their_letters(modules: Page) -> None:
    found = modules.evaluate(
        """async () => {
          const { marksOf, termsOf } = await import("/words.js");
          const phrases = { target: ["ソウル"], subject: ["韓国"], said: [], prompt: ["韓国の首都は"] };
          const terms = termsOf(phrases);
          return marksOf("韓国の首都はソウルです。", terms).map(({ role }) => role);
        }"""
    )
    assert found == ["subject", "target"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("one two", ["one", "two"]),
        ('"One two" three', ["one two", "three"]),
        ('"open', ["open"]),
        ("  ", []),
    ],
)
def test_a_search_is_words_and_phrases(modules: Page, text: str, terms: list[str]) -> None:
    script = """async (text) => (await import("/find.js")).searchTerms(text)"""
    assert modules.evaluate(script, text) == terms


def test_metrics_are_those_of_the_library(modules: Page) -> None:
    rows = [
        {"proponent_correct": [False, True, True]},
        {"proponent_correct": [True]},
        {"proponent_correct": [False] * 10 + [True]},
        {"proponent_correct": []},
        {"proponents": ["nobody judged this one"]},
        {"proponent_correct": [False], "has_trex_sentence": False},
    ]
    found = modules.evaluate(
        """async (rows) => {
          const { summary } = await import("/metrics.js");
          const { mrr, recall } = summary(rows);
          return [mrr.mean, mrr.count, recall.mean];
        }""",
        rows,
    )
    correct = [row["proponent_correct"] for row in rows[:4]]  # type: ignore[misc]
    assert found == pytest.approx([mean(reciprocal_ranks(correct)), 4, mean(hits_within(correct, 10))])
