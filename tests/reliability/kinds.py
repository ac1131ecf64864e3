"""Kinds of input with a sound one of each and what reads it, and what must hold of every malformed one."""

from __future__ import annotations

import gzip
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.evaluate.conftest import write_facts
from tests.reliability.mutations import malformed

import proponent as pp
from proponent.attribute.tail_patch import PatchStep
from proponent.corpus.example import Query
from proponent.errors import InputError
from proponent.evaluate.correctness import read_predictions
from proponent.evaluate.experiments.effects import Effects
from proponent.evaluate.experiments.selection import known_losses
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.verdicts import Verdicts
from proponent.evaluate.lines import GrowingFile
from proponent.evaluate.retraining import Retraining, Training
from proponent.files import read_json
from proponent.pretraining.again import Recipe
from proponent.progress import Silent
from proponent.viewer.results import open_results

SECONDS = 20  # of work that one input may take
GROWTH = 512 * 2**20  # bytes of memory that all malformed inputs of a kind may add

LINES = b"".join(
    json.dumps({"id": f"p{n}", "text": f"Text {n}, with \u00e9 and \u6771.", "n": n}).encode() + b"\n"
    for n in range(6)
)
TABLE = b'id,text\np0,"quoted, with\na line end"\np1,plain\np2,"a ""quote"""\n'
HIT = {
    "example_id": "q",
    "query_set": "s",
    "inputs_plaintext": "The capital is",
    "targets_plaintext": "Paris",
    "proponents": ["a", "b"],
    "proponent_ids": ["1", "2"],
    "proponent_scores": [0.5, 0.25],
    "opponents": ["c"],
    "opponent_ids": ["3"],
    "opponent_scores": [-0.5],
    "proponent_correct": [True, False],
    "proponent_tokens": [[["a", 0.5]], None],
    "proponent_duplicates": [["9"], []],
    "proponent_adds": [0.1, 0.0],
    "method": "trackstar",
    "mix": 0.5,
    "run": "r",
    "certificate": {
        "confidence": 0.9,
        "rows": 9,
        "read": 3,
        "proponents": 2,
        "opponents": 1,
        "above": 0.2,
        "below": -0.3,
    },
}
PAIRS = b"".join(
    json.dumps({"query_id": "q", "passage_id": id, "label": label}).encode() + b"\n"
    for id, label in (("p", 1), ("r", 0))
)
QUERY = b'{"id": "q", "prompt": "The capital is", "target": "Paris"}\n'
WITHOUT = Training("half 0", frozenset({1, 2}), 1)
RECIPE = {
    "settings": {
        "name": "nano",
        "hidden": 8,
        "layers": 2,
        "heads": 2,
        "mlp": 16,
        "vocabulary": 300,
        "batch": 4,
        "learning_rate": 0.01,
        "corpus": "c",
        "steps": None,
        "epochs": 2,
        "seed": 0,
        "max_length": 64,
    },
    "result": {"steps": 4, "tokens": 100},
}


class Judge:
    """Of whom nothing is asked."""

    identity = "j"

    def windows(self, pair: object) -> list[str]:
        return []

    def scores(self, pairs: object) -> list[float]:
        return []


@dataclass(frozen=True)
class Kind:
    """A sound input with the name of its file, and what reads it.

    grows: whether its last line, cut short, is mended.
    """

    name: str
    sound: bytes
    read: Callable[[Path], object]
    grows: bool = False

    @property
    def is_json(self) -> bool:
        """Whether each of its lines is JSON."""
        return self.name.endswith((".jsonl", ".json"))


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def passages(path: Path) -> object:
    return list(pp.Corpus.read(path))


def parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": ["one", "two", "three"]}), sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)  # type: ignore[no-any-return]


def facts(folder: Path) -> bytes:
    return write_facts(folder / "facts.jsonl").read_bytes()[:1200].rpartition(b"\n")[0] + b"\n"


def sentences(path: Path) -> object:
    """Gold of the first fact by annotated sentences; the facts lie elsewhere."""
    known = path.parent.with_name("known.jsonl")
    if not known.is_file():
        write_facts(known)
    return pp.Gold.read(known, path)


def verdicts(path: Path) -> object:
    return Verdicts(Judge(), path).of([], Silent())


def hits(path: Path) -> object:
    """Read and shown."""
    found = pp.Attribution.read(path)
    return repr(found), found._repr_html_()


def effects(path: Path) -> object:
    return Effects.open(path)


def retrained(path: Path) -> object:
    asked = (Query("q", "The capital is", "Paris"), Query("r", "The capital was", "Rome"))
    known = Retraining(Recipe(path.parent, {}), (), asked, 8, path).known([WITHOUT])
    return [sum(values) for values in known.values()]


def recipe(path: Path) -> object:
    return Recipe.of(str(path.parent)), PatchStep.for_model(str(path.parent))


def spec(path: Path) -> object:
    values = read_json(path)
    return pp.FeatureSpec.from_dict(values).digest()


def kinds(folder: Path) -> tuple[Kind, ...]:
    """All of them; folder: to make sound inputs in."""
    verdict = {"passage": "a", "statement": "b", "judge": "j", "score": 0.5, "window": "w"}
    triples = [["Oslo", "capital", "Norway"], ["a", "b", "c"]]
    sentence = {"sentence_id": "s", "text": "t", "fact_triples": triples}
    truth = {"training": "half 0", "without": WITHOUT.digest, "log_p": [-1.5, -0.25]}
    said = {"query_id": "q", "text": " Paris.", "correct": True, "share": 0.5}
    return (
        Kind("corpus.jsonl", LINES, passages),
        Kind("corpus.csv", TABLE, passages),
        Kind("corpus.tsv", TABLE.replace(b",", b"\t"), passages),
        Kind("corpus.txt", b"one\ntwo\n\nthree \xc3\xa9\n", passages),
        Kind("corpus.parquet", parquet(), passages),
        Kind("corpus.jsonl.gz", gzip.compress(LINES, mtime=0), passages),
        Kind("corpus.jsonl.zst", zstd(LINES), passages),
        Kind("facts.jsonl", facts(folder), pp.Queries.read),
        Kind("gold.jsonl", facts(folder), pp.Gold.read),
        Kind("sentences.jsonl", line(sentence), sentences),
        Kind("pairs.jsonl", PAIRS, pp.Gold.read),
        Kind("queries.jsonl", QUERY, pp.Queries.read),
        Kind("hits.jsonl", line(HIT), hits),
        Kind("shown.jsonl", line(HIT), lambda path: [list(file.lines()) for file in open_results([path])]),
        Kind("answers.jsonl", line({"query_id": "q", "correct": True}), lambda path: open_results([path])),
        Kind("predictions.jsonl", line(said), read_predictions),
        Kind("verdicts.jsonl", line(verdict), verdicts, grows=True),
        Kind("effects.jsonl", line({"query": "q", "passage": "p", "points": 0.5}), effects),
        Kind("truth.jsonl", line(truth), retrained),
        Kind("losses.jsonl", line({"training": "t", "losses": {"q": 0.5}}), losses),
        Kind("spec.json", line(pp.FeatureSpec("model").to_dict()), spec),
        Kind("pretrain.json", line(RECIPE), recipe),
        Kind("table.csv", b"method,MRR\nBM25,0.5\n", table),
    )


def losses(path: Path) -> object:
    return known_losses(GrowingFile(path, "training", "losses after trainings"))


def table(path: Path) -> object:
    beside = path.with_name("table.md")
    beside.write_bytes(path.read_bytes().replace(b",", b" | "))
    try:
        return Table.read(path.parent)
    finally:
        beside.unlink()


def refused(read: Callable[[], object], what: object) -> bool:
    """Whether an input is refused, in one line; an AssertionError for any other end but an answer."""
    try:
        with bounded():
            read()
    except InputError as error:
        said = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        return False
    assert "\n" not in said, what
    return True


@contextmanager
def bounded() -> Iterator[None]:
    """An AssertionError for what works for so many seconds, or waits for ten times as many."""

    def late(*_: object) -> None:
        raise AssertionError(f"an input took more than {SECONDS} seconds")

    before = {name: signal.signal(name, late) for name in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS)
    try:
        yield
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for name, handler in before.items():
            signal.signal(name, handler)


def fuzz(kind: Kind, folder: Path, times: int, first: int = 0) -> int:
    """Read so many malformed inputs of a kind; how many of them were refused."""
    path, count, before, wrong = folder / kind.name, 0, peak(), list[str]()
    for seed in range(first, first + times):
        content = malformed(kind.sound, seed, kind.is_json)
        path.write_bytes(content)
        try:
            count += refused(lambda: kind.read(path), f"{kind.name}, seed {seed}: {content[:300]!r}")
        except AssertionError as error:
            wrong.append(str(error)[-600:])
        assert os.listdir(folder) == [kind.name], f"{kind.name}, seed {seed}: something was written"
        assert kind.grows or path.read_bytes() == content
    assert not wrong, "\n".join([f"{len(wrong)} inputs:", *wrong[:20]])
    assert peak() - before < GROWTH, f"{kind.name}: {(peak() - before) / 2**20:.0f} MiB more"
    return count


def peak() -> int:
    """The most bytes of memory that this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
