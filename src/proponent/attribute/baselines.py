"""Baselines that need no model: what text search alone retrieves."""

from __future__ import annotations

from collections.abc import Sequence

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Query
from proponent.errors import InputError


def bm25(corpus: Corpus, queries: Sequence[Query], k: int = 10) -> Attribution:
    """The k passages that match prompt and target best by BM25 (bm25s, its default Lucene variant).

    It has no opponents.  The corpus' text is held in memory.  Raises InputError where bm25s is not
    installed, the corpus is empty or k larger than it.
    """
    try:
        import bm25s
    except ImportError as error:
        raise InputError("BM25 needs bm25s; install it with: pip install 'proponent[bm25]'") from error
    passages = [example for example in corpus if not example.empty]
    if not 1 <= k <= len(passages):
        raise InputError(f"k is {k}; the corpus holds {len(passages)} passages, give 1 to that many")
    retriever = bm25s.BM25()
    retriever.index(_tokens([passage.text for passage in passages]), show_progress=False)
    asked = _tokens([f"{query.prompt} {query.target}" for query in queries])
    rows, scores = retriever.retrieve(asked, k=k, show_progress=False)
    hits = []
    for query, found, values in zip(queries, rows.tolist(), scores.tolist(), strict=True):
        proponents = tuple(
            ScoredPassage(passages[row].id, passages[row].id, passages[row].text, score)
            for row, score in zip(found, values, strict=True)
        )
        hits.append(Hit(query, proponents, ()))
    return Attribution(tuple(hits), {"method": "bm25"})


def _tokens(texts: list[str]) -> object:
    import bm25s

    # names are what facts are made of, so no word is dropped or stemmed
    return bm25s.tokenize(texts, stopwords=None, show_progress=False)
