"""What may be done with the hits of a scan before they are shown: exact scores, distinct passages, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

from proponent.attribute.attribution import Hit
from proponent.attribute.averaged import check_averaged
from proponent.attribute.certified import check_certified
from proponent.attribute.distinct import candidates, diverse, merged
from proponent.attribute.exact import rescored
from proponent.attribute.method import Method
from proponent.attribute.questions import Task
from proponent.attribute.tokens import with_tokens
from proponent.attribute.unprojected import check_unprojected
from proponent.errors import InputError
from proponent.index.run import Index, RunName
from proponent.progress import Progress

if TYPE_CHECKING:
    from proponent.attribute.tracing import Tracer


class More(TypedDict, total=False):
    """What is asked of a trace besides k proponents and opponents.

    tokens: what each token contributes, by one more pass over what was found.  diverse: passages that do not
    repeat each other.  merge_duplicates: near-identical ones as one.  Both look at the best max(100, 4 k);
    see ``attribute/distinct.py``.  exact_top: score the best and the lowest so many again without projection,
    by one more pass over them; see ``attribute/exact.py``.  certified: of a compact
    run, find what its full run would: ``sure``, or with a probability from 0.5 up; within: seconds after
    which that search stops and says how far it came; full: where the full run is, if it was moved; see
    ``attribute/certified.py``.  averaged_with: other runs of the same passages, whose scores are averaged
    with these, all read from their files wherever this one is held; see ``attribute/averaged.py``.
    """

    tokens: bool
    diverse: bool
    merge_duplicates: bool
    exact_top: int | None
    certified: str | float | None
    within: float | None
    full: RunName | None
    averaged_with: Sequence[RunName]


def check_more(index: Index, method: Method, k: int, mixed: bool, more: More) -> None:
    """Raise InputError for what cannot be had together, or of this run.  mixed: whether there is a task."""
    check_certified(index, more, mixed)
    others = [name for name in ("diverse", "merge_duplicates", "exact_top") if more.get(name)]
    if more.get("certified") is not None and (others or not method.projected):
        other = others[0].replace("_", "-") if others else f"method '{method.name}'"
        raise InputError(f"a certified trace is of scores of the index; leave out {other}, or --certified")
    if runs := more.get("averaged_with"):
        alone = [name for name in ("certified", "tokens", "diverse", "exact_top") if more.get(name)]
        if alone:
            what = f"{alone[0].replace('_', '-')} is"
            raise InputError(f"{what} of the scores of one run; leave it out, or the other runs")
        check_averaged(index, runs, method, k)
    top = more.get("exact_top")
    if top is None and method.projected:
        return
    check_unprojected(index, method)
    if top is not None and not k <= top <= len(index):
        raise InputError(f"exact-top is {top}; give {k} (as many as are shown) to {len(index)}")
    if more.get("tokens"):
        raise InputError("token scores are of projected gradients; leave out the tokens, or the exact scores")


def retrieved(k: int, rows: int, more: More) -> int:
    """How many passages of each side to retrieve of a run of so many rows."""
    wanted = candidates(k) if more.get("diverse") or more.get("merge_duplicates") else k
    return min(rows, max(wanted, more.get("exact_top") or 0))


def refined(
    tracer: Tracer,
    hits: Sequence[Hit],
    method: Method,
    task: Task | None,
    k: int,
    more: More,
    progress: Progress,
) -> list[Hit]:
    """The hits of a scan, k passages a side, with what more was asked for."""
    task_mix = task.mix if task else None
    if more.get("exact_top"):
        hits = rescored(tracer, hits, method, progress, task)
    if more.get("merge_duplicates"):
        hits = [merged(hit) for hit in hits]
    if more.get("diverse"):
        inner = method.inner_product(task_mix)
        hits = diverse(tracer.index, inner, hits, k, progress)
    found = [replace(hit, proponents=hit.proponents[:k], opponents=hit.opponents[:k]) for hit in hits]
    return with_tokens(tracer, found, method, task_mix, progress) if more.get("tokens") else found
