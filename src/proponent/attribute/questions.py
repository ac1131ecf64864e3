"""What a run is asked: queries, a method, a task and its weight, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from proponent.attribute.method import Method, method_for
from proponent.corpus.example import Query
from proponent.corpus.queries import Queries
from proponent.errors import InputError
from proponent.index.mix import TaskMix
from proponent.index.run import Index

# How a caller may give queries: as Queries, Query values or (prompt, target) pairs.
QueriesLike = Iterable[Query | tuple[str, str]]


class Task(NamedTuple):
    """Queries that R_eval is taken over, and their mix in a run."""

    queries: Sequence[Query]
    mix: TaskMix


def checked_questions(
    index: Index,
    queries: QueriesLike,
    method: Method | str | None,
    k: int,
    task: QueriesLike | None,
    mix: float | str,
) -> tuple[Queries, Method, Queries | None]:
    """The queries, the method and the task of a trace; InputError for what this run cannot answer."""
    asked, shared = Queries.of(queries), None if task is None else Queries.of(task)
    if not isinstance(method, Method):
        method = Method.of(method or method_for(index.spec))
    check_ranking(index, method, k)
    if not asked:
        raise InputError("no queries to trace; give at least one")
    if shared is None and mix != "auto":
        raise InputError(f"a mix of {mix} needs a task; give the queries of one, or leave out the mix")
    if shared is not None and method.hessian != "mixed":
        raise InputError(f"method '{method.name}' has no task mix; leave out the task, or use trackstar")
    if shared is not None and not shared:
        raise InputError("the task holds no queries; give at least one")
    if mix != "auto":
        checked_mix(mix)
    return asked, method, shared


def check_ranking(index: Index, method: Method, k: int) -> None:
    """Raise InputError for a method or k that this run cannot serve."""
    method.check_features(index.spec)
    if not 1 <= k <= len(index):
        raise InputError(f"k is {k}; this run holds {len(index)} passages, give 1 to that many")


def checked_mix(mix: float | str) -> float:
    """λ as a number in [0, 1); InputError for anything else."""
    try:
        weight = float(mix)
    except ValueError:
        weight = -1.0
    if not 0 <= weight < 1:
        raise InputError(f"the mix is '{mix}'; give 'auto' or a number from 0 up to, not including, 1")
    return weight
