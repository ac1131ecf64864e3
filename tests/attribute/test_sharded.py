"""Shards that others keep, without Ray: which answers belong to which question."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.runs import CORPUS, QUERIES, small_spec

from proponent.attribute.live import LiveTracer, Ranking
from proponent.attribute.sharded import RayShards, ShardKeeper
from proponent.build import plan
from proponent.build.indexing import build_index
from proponent.corpus import Queries
from proponent.crew import Actors, Lost
from proponent.index.run import Index
from proponent.progress import Silent

ROWS = (2, 0, 3, 1)  # of each shard; one is empty
PAIRS = [(0, 2), (2, 3), (3, 1)]  # number and rows of those that are not


class Workers:
    """Two workers that answer when they are looked at; ``slow`` ones do not, ``lost`` ones are gone."""

    coming = False

    def __init__(self) -> None:
        self.new, self.slow, self.lost = ["a", "b"], set[str](), set[str]()
        self.asked: list[tuple[str, Callable[[Any], Any], list[int]]] = []

    def joined(self, _: int) -> list[str]:
        new, self.new = self.new, []
        return new

    def put(self, value: Any) -> Any:
        return value

    def ask(self, actor: str, _: str, work: Callable[[Any], Any], numbers: list[int]) -> None:
        self.asked.append((actor, work, numbers))

    def answers(self) -> list[tuple[str, Any]]:
        ready = [call for call in self.asked if call[0] not in self.slow]
        self.asked = [call for call in self.asked if call[0] in self.slow]
        return [(actor, self._answer(actor, *call)) for actor, *call in ready]

    def forget(self) -> None:
        self.asked.clear()

    def _answer(self, actor: str, work: Callable[[Any], Any], numbers: list[int]) -> Any:
        if actor in self.lost:
            return Lost(f"worker {actor} was lost")
        return work([SimpleNamespace(number=n) for n in numbers])


class Keeping(Workers):
    """The same with real shards of a run: all that is sent and answered is pickled, as between processes."""

    def __init__(self, run: Path) -> None:
        super().__init__()
        self._keepers = {name: ShardKeeper(run, 1) for name in ("a", "b", "c")}

    def _answer(self, actor: str, work: Callable[[Any], Any], numbers: list[int]) -> Any:
        if actor in self.lost:
            return Lost(f"worker {actor} was lost")
        sent = pickle.loads(pickle.dumps((work, numbers)))
        return pickle.loads(pickle.dumps(self._keepers[actor].use(*sent)))


class Impatient(Silent):
    """Ends a stage that has gone on for ``turns``."""

    def __init__(self, turns: int) -> None:
        self._turns = turns

    def stage(self, name: str, total: int | None, unit: str) -> Any:
        def advance(units: int, tokens: int = 0) -> None:
            self._turns -= 1
            if self._turns < 0:
                raise TimeoutError

        return nullcontext(advance)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    of_each = "proponent.attribute.sharded.values"
    monkeypatch.setattr(of_each, lambda shards, function: [function(shard) for shard in shards])
    return Workers()


@pytest.fixture
def shards(workers: Workers) -> RayShards:
    index = cast(Index, SimpleNamespace(summary={"shards": list(ROWS)}))
    return RayShards(index, cast(Actors, workers))


def numbers(shard: Any) -> int:
    return int(shard.number)


def negative(shard: Any) -> int:
    return -int(shard.number)


def test_values_come_in_the_order_of_the_shards_whoever_made_them(
    workers: Workers, shards: RayShards
) -> None:
    expected = [number for number, _ in PAIRS]
    assert shards.each(numbers, "numbers", Silent()) == expected
    workers.lost.add("a")
    assert shards.each(numbers, "numbers", Silent()) == expected, "the other keeps all shards"
    workers.new = ["c"]
    workers.lost.add("b")
    assert shards.each(numbers, "numbers", Silent()) == expected


def test_an_answer_to_a_question_that_was_given_up_is_not_taken_for_the_next(
    workers: Workers, shards: RayShards
) -> None:
    workers.slow = {"a", "b"}
    with pytest.raises(TimeoutError):
        shards.each(negative, "numbers", Impatient(3))
    workers.slow = set()
    assert shards.each(numbers, "numbers", Silent()) == [number for number, _ in PAIRS]


def test_an_error_of_one_worker_ends_the_question_and_no_other(workers: Workers, shards: RayShards) -> None:
    def broken(shard: Any) -> int:
        raise ValueError(f"shard {shard.number}")

    with pytest.raises(ValueError, match="shard 0"):
        shards.each(broken, "numbers", Silent())
    assert shards.each(numbers, "numbers", Silent()) == [number for number, _ in PAIRS]


def test_live_traces_over_kept_shards_are_those_of_files_to_the_last_bit(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a worker is lost between two questions; no shard is read by the one who asks."""
    monkeypatch.setattr(plan, "SHARD_ROWS", 4)
    index = build_index(CORPUS, small_spec(model_folder), tmp_path / "run", "cpu")
    assert len(index.summary["shards"]) > 2
    rankings = [Ranking("trackstar", mix, 9) for mix in ("auto", 0.99, None)]
    rankings += [Ranking(method, None, 9) for method in ("cosine", "dot")]
    found: list[list[Any]] = [[], []]
    workers = Keeping(index.folder.path)
    kept = RayShards(Index(index.folder.path), cast(Actors, workers))
    for shards, into in ((None, found[0]), (kept, found[1])):
        live = LiveTracer(index, Queries(QUERIES), "cpu", None, shards)
        for query in QUERIES:
            traced = live.trace(query, Silent())
            into += [list(live.rank(traced, ranking, Silent()).records()) for ranking in rankings]
            into.append(list(live.tracer.trace([query], "dot", 9)))
            if shards is kept:
                workers.lost.add("a")
        monkeypatch.setattr(index, "shards", lambda *_: pytest.fail("shards were read by who asks"))
    assert found[1] == found[0]
