"""The stages of a trace and a tail-patch in a finished index; what is left out is said in ``stages``."""

from __future__ import annotations

from dataclasses import dataclass

from proponent.index.codec import DECODED, FEW
from proponent.index.scores import TOGETHER as ROWS_TOGETHER
from proponent.index.search import together
from proponent.index.whitening import STRIP
from proponent.scale import cost, task
from proponent.scale.memory import activation_bytes, batch_bytes, logit_bytes, position_bytes
from proponent.scale.shapes import FLOAT, Job
from proponent.scale.stages import Stage

SCAN_QUERIES = 1024  # queries that share a scan, as in ``attribute.tracing``
TOKEN_QUERIES = 32  # queries whose directions are held together, as ``QUERIES`` in ``attribute.tokens``
SORTED = 7  # scores in parts, joined, negated, selected and sorted, and the order of the sorted ones
POSITION = 8  # bytes of a found passage's number
SKETCHES = 3  # a row among zeros, if it is narrow, its sketch, and halves of a transform
ROUNDED = 4  # copies of vectors that are multiplied with signs, while they become bits


@dataclass(frozen=True)
class Questions:
    """What is asked of a finished index.

    queries: q of ``tokens`` tokens each, of which the last ``targets`` are the target.  k: proponents, and as
    many opponents, of each.  task: whether a task mix over these queries is made.
    """

    queries: int
    tokens: int = 32
    targets: int = 4
    k: int = 10
    task: bool = False


def trace_stages(job: Job, asked: Questions) -> tuple[Stage, ...]:
    """The stages of a trace with token scores in a finished index, the first one in a process."""
    whitened = _task(job, asked) if asked.task else _query_whitening(job, asked)
    along = asked.task and not job.features.size  # signs do not tell a passage's coordinates along a task
    scanned = _mixed_scan(job, asked) if along else _scan(job, asked)
    return (_query_gradients(job, asked), whitened, scanned, _token_scores(job, asked))


def tail_patch_stage(job: Job, asked: Questions) -> Stage:
    """A training step on each of the k proponents of every query, no passage retrieved twice.

    A passage's gradient with the Gram matrices for its size, and a query's forward pass with the update
    ``(x Aᵀ) B`` beside every matrix.  Held are one batch's activations and inputs, or in the end its updates.
    """
    pairs, model, update = asked.queries * asked.k, job.model, 2 * (asked.tokens - 1) * (job.tokens - 1)
    step = cost.gradient_operations(model, job.tokens) + cost.gram_operations(model, job.tokens)
    patched = cost.forward_operations(model, asked.tokens, asked.targets) + update * model.sides
    inputs, updates = (position_bytes(job, count) for count in (model.inputs, model.sides + 2 * job.tokens))
    memory = max(activation_bytes(job) + inputs + logit_bytes(job), updates)
    spends = "proponent.attribute.tail_patch.TailPatcher.patched"
    return Stage("tail-patch", spends, pairs * (step + patched), memory)


def _query_gradients(job: Job, asked: Questions) -> Stage:
    """Queries' features, of their targets' tokens; the model and the projections are read, compared first."""
    model, projected = job.model, cost.feature_operations(job.model, job.features, asked.tokens)
    operations = cost.gradient_operations(model, asked.tokens, asked.targets) + projected
    sides = cost.side_bytes(model, job.features) + cost.moment_bytes(model)
    return Stage(
        "query gradients",
        "proponent.attribute.tracing.Tracer.features",
        asked.queries * operations,
        batch_bytes(job) + FLOAT * asked.queries * job.features.dim,
        read=FLOAT * model.parameters + 2 * sides,
    )


def _query_whitening(job: Job, asked: Questions) -> Stage:
    """Held are all factors, in square form, and the whitened queries, twice, and what a sketch takes.

    Of a compact index with fewer signs than coordinates the eigenvectors in place of the factors.
    """
    features = job.features
    each = cost.whitening_operations(features) + cost.sketch_operations(features)
    return Stage(
        "query whitening",
        "proponent.index.whitening.Whitening.whiten",
        asked.queries * each + cost.inversion_operations(features),
        FLOAT * (features.dim * features.factored + 2 * features.whitened * asked.queries)
        + _sketch_bytes(job, asked),
        read=2 * cost.factor_bytes(features),
    )


def _task(job: Job, asked: Questions) -> Stage:
    """The queries are the task's own.

    Held are all factors, and in float64, a block at a time: whitened queries, twice, their directions and
    coordinates, and a strip of a factor, or all eigenvectors of a block.  Blocks that run side by side hold a
    little more.  For a compact index the queries' vectors under R' are made beside the whitened ones, and
    sketched.
    """
    features, rank = job.features, task.task_rank(job.features, asked.queries)
    half, copies = features.factored // 2, 3 if features.size else 2
    numbers = features.whitened * (copies * asked.queries + rank) + features.blocks * asked.queries * rank
    numbers += features.width * features.kept if features.truncated else min(STRIP, half) * half
    operations = task.task_operations(features, asked.queries)
    return Stage(
        "task mix",
        "proponent.attribute.tracing.Tracer.task_mix",
        operations + task.mixed_operations(features, asked.queries),
        FLOAT * features.dim * features.factored + cost.DOUBLE * numbers + _sketch_bytes(job, asked),
        read=2 * cost.factor_bytes(features),
    )


def _sketch_bytes(job: Job, asked: Questions) -> int:
    """Bytes of the queries' sketches while they are made, besides the queries; none for a full index."""
    return FLOAT * SKETCHES * asked.queries * job.features.stored if job.features.size else 0


def _scan(job: Job, asked: Questions) -> Stage:
    """Every row is read once for each ``SCAN_QUERIES`` queries, and once for its checksum.

    Held are the queries' vectors, decoded rows where there are more than ``FEW`` of them, and scores; of a
    compact index vectors as they are, rounded, and twice while they become bits, with or without a task.
    Vectors go out to the other workers; scores and numbers of the found passages come back.
    """
    vectors, dim = min(asked.queries, SCAN_QUERIES), job.features.stored
    held = vectors + (min(DECODED, job.shard_rows) if vectors > FEW else 0)
    if job.features.size:
        held = ROUNDED * vectors
    return Stage(
        "scan",
        "proponent.index.search.search",
        job.passages * asked.queries * cost.product_operations(job.features),
        FLOAT * dim * held + _score_bytes(job, asked),
        read=_scanned_bytes(job, asked),
        network=(job.workers - 1) * (FLOAT * asked.queries * dim + _found_bytes(asked)),
    )


def _mixed_scan(job: Job, asked: Questions) -> Stage:
    """The same with a task's directions in place of the queries' vectors, which lie in their span.

    Held are the directions, and scores, or of some passages one block decoded and their coordinates, four
    times.
    """
    features, rank = job.features, task.task_rank(job.features, asked.queries)
    rows = min(job.shard_rows, job.passages, ROWS_TOGETHER)
    directions = task.direction_operations(features, asked.queries)
    coordinates = task.coordinate_operations(features, asked.queries)
    compared = FLOAT * rows * (features.width + 4 * features.blocks * rank)
    return Stage(
        "scan",
        "proponent.index.search.search",
        job.passages * (_scans(asked) * directions + coordinates),
        FLOAT * features.dim * rank + max(_score_bytes(job, asked), compared),
        read=_scanned_bytes(job, asked),
        network=(job.workers - 1) * (FLOAT * rank * features.dim + _found_bytes(asked)),
    )


def _score_bytes(job: Job, asked: Questions) -> int:
    """Bytes of the scores of some shards, joined and sorted, at most."""
    rows = min(job.passages, max(job.shard_rows, together(min(asked.queries, SCAN_QUERIES))))
    return FLOAT * SORTED * min(asked.queries, SCAN_QUERIES) * rows


def _scanned_bytes(job: Job, asked: Questions) -> int:
    """Bytes of the index that are read, once a scan and once for checksums."""
    return (_scans(asked) + 1) * job.passages * cost.index_bytes(job.features)


def _scans(asked: Questions) -> int:
    """Scans of the index."""
    return -(-asked.queries // SCAN_QUERIES)


def _found_bytes(asked: Questions) -> int:
    """Bytes of what is found: scores and numbers of proponents and opponents."""
    return asked.queries * 2 * asked.k * (FLOAT + POSITION)


def _token_scores(job: Job, asked: Questions) -> Stage:
    """A pass over every found passage, and one over each query for every token of its target.

    The projected factors of each position meet a direction for each target token, which is pulled back.
    """
    model, features, found = job.model, job.features, asked.queries * 2 * asked.k
    row = cost.gradient_operations(model, job.tokens)
    row += cost.projection_operations(model, features, job.tokens)
    meets = 2 * (job.tokens - 1) * features.width * len(model.matrices) * asked.targets
    target = cost.gradient_operations(model, asked.tokens, 1)
    target += cost.feature_operations(model, features, asked.tokens)
    target += cost.pull_back_operations(features) + cost.whitening_operations(features)
    asking = asked.targets * target + cost.inversion_operations(features)
    return Stage(
        "token scores",
        "proponent.attribute.tokens.with_tokens",
        found * (row + meets) + asked.queries * asking,
        batch_bytes(job) + cost.DOUBLE * features.dim * asked.targets * min(asked.queries, TOKEN_QUERIES),
    )
