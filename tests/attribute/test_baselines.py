"""The baselines retrieve what they should, into the same result files."""

from __future__ import annotations

from pathlib import Path

import pytest

from proponent.attribute.attribution import Attribution
from proponent.attribute.baselines import bm25, embedding, random_passages
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.errors import InputError

TEXTS = {
    "oslo": "Oslo is the capital of Norway.",
    "rome": "Rome is the capital of Italy.",
    "cat": "A cat sleeps.",
    "none": " ",
}
CORPUS = Corpus.of([Example(id, text, id) for id, text in TEXTS.items()])
QUERIES = [Query("n", "The capital of Norway is", "Oslo"), Query("i", "The capital of Italy is", "Rome")]


def test_bm25_ranks_by_shared_words(tmp_path: Path) -> None:
    hits = bm25(CORPUS, QUERIES, k=3)
    assert [hit.proponents[0].id for hit in hits] == ["oslo", "rome"]
    assert [hit.proponents[-1].id for hit in hits] == ["cat", "cat"]
    assert hits[0].proponents[0].score > hits[0].proponents[1].score > hits[0].proponents[2].score
    hits.write(tmp_path / "hits.jsonl")
    again = Attribution.read(tmp_path / "hits.jsonl")
    assert again[0].proponents == hits[0].proponents
    assert again.settings["method"] == "bm25"


def test_random_is_without_repetition_and_the_same_for_a_seed() -> None:
    hits = random_passages(CORPUS, QUERIES, k=3, seed=1)
    assert all(sorted(p.id for p in hit.proponents) == ["cat", "oslo", "rome"] for hit in hits)
    assert random_passages(CORPUS, QUERIES, k=3, seed=1).hits == hits.hits
    orders = {
        tuple(p.id for p in random_passages(CORPUS, QUERIES, 3, seed)[0].proponents) for seed in range(20)
    }
    assert len(orders) > 2


@pytest.mark.parametrize("k", [0, 4])
def test_k_is_at_most_the_passages_with_text(k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}; the corpus holds 3 passages"):
        bm25(CORPUS, QUERIES, k=k)


def test_embeddings_know_words_that_are_alike() -> None:
    pytest.importorskip("sentence_transformers")
    asked = [Query("k", "A kitten", "naps"), Query("n", "The main city of the Norwegians", "is Oslo")]
    hits = embedding(CORPUS, asked, k=3)
    assert [hit.proponents[0].id for hit in hits] == ["cat", "oslo"]
    assert all(1.001 >= p.score >= -1.001 for hit in hits for p in hit.proponents)
    assert hits.settings["method"] == "embedding"
