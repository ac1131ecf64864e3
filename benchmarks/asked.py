"""Searches, task mixes and tail-patches of random rows: seconds, and operations by the cost model."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import isqrt

import torch
from search import BLOCK, SHARD, random_shard, unwhitened
from side_by_side import seconds

from proponent.attribute.tail_patch import PatchStep, TailPatcher
from proponent.corpus.example import EncodedQuery
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments
from proponent.index.mix import TaskMix, TaskSubspace, automatic_mix, task_eigenvalues
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import search
from proponent.scale.questions import Questions, tail_patch_stage, trace_stages
from proponent.scale.shapes import FeatureShape, Job, ModelShape, shapes

Found = tuple[dict[str, float], dict[str, int]]  # seconds and operations by stage

NO_MODEL = ModelShape(((1, 1),), 1, 1, 0, 1, 0, ((1,),), ((2, 0),))  # what is searched does not depend on it
QUERY, TARGET = 32, 4  # tokens
PAIRED = 4  # queries, each with so many passages of its own
ROUNDS = 5  # of searches, which take milliseconds


def searched(passages: int, dim: int, queries: int) -> Found:
    """A scan of so many rows for queries, a task mix of the same queries, and a scan under it."""
    shards = [random_shard(first, dim) for first in range(0, passages, SHARD)]
    features, whitening = torch.randn(queries, dim), unwhitened(dim)
    blocks = len(whitening)

    def scan(terms: QueryTerms, inner: InnerProduct) -> Callable[[], object]:
        return lambda: search(shards, QueryScan(terms, inner), 10)

    def mix() -> TaskMix:
        subspace = TaskSubspace.of(features, whitening)
        return TaskMix(
            subspace, automatic_mix(whitening.eigenvalues.flatten(), task_eigenvalues(features, blocks))
        )

    made = mix()
    plain, mixed = QueryTerms(features, whitening), QueryTerms(features, whitening, made.subspace)
    spent = {
        "scan": best(scan(plain, InnerProduct("train", True)), ROUNDS),
        "task mix": best(mix, ROUNDS),
        "mixed scan": best(scan(mixed, InnerProduct("mixed", True, made)), ROUNDS),
    }
    job = Job(NO_MODEL, FeatureShape(blocks, isqrt(min(BLOCK, dim))), passages, 2)
    counted: dict[str, int] = {}
    for task, names in ((False, {"scan": "scan"}), (True, {"task mix": "task mix", "scan": "mixed scan"})):
        stages = trace_stages(job, Questions(queries, task=task))
        counted |= {names[stage.name]: stage.operations for stage in stages if stage.name in names}
    return spent, counted


def patched(model: LanguageModel, tokens: int) -> Found:
    """Steps on passages of so many tokens, each measured with one query."""
    plan = plan_layers(model, 2**12, 8)
    moments = {matrix.name: SecondMoments.ones(matrix) for matrix in plan.matrices}
    patcher = TailPatcher(model, plan.matrices, moments, PatchStep(), 2048)
    passages = random_rows(model, tokens, PAIRED * PAIRED)
    asked = [EncodedQuery(row, QUERY - TARGET) for row in random_rows(model, QUERY, PAIRED)]
    pairs = [(asked[n % PAIRED], n) for n in range(len(passages))]
    spent = best(lambda: list(patcher.patched(passages, pairs)))
    job = Job(*shapes(model, 2**12, 8), len(passages), tokens)
    stage = tail_patch_stage(job, Questions(PAIRED, QUERY, TARGET, PAIRED))
    return {stage.name: spent}, {stage.name: stage.operations}


def random_rows(model: LanguageModel, tokens: int, count: int) -> list[tuple[int, ...]]:
    """Rows of random tokens, the special ones (the first few) left out."""
    draw = random.Random(0)
    return [tuple(draw.randrange(8, model.vocabulary) for _ in range(tokens)) for _ in range(count)]


def best(work: Callable[[], object], rounds: int = 2) -> float:
    """Seconds of the fastest of some calls."""
    return min(seconds(work) for _ in range(rounds))
