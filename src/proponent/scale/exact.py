"""What exact scores without projection cost on top of a trace."""

from __future__ import annotations

from proponent.scale import cost
from proponent.scale.memory import activation_bytes, logit_bytes, position_bytes
from proponent.scale.questions import Questions
from proponent.scale.shapes import FLOAT, Job, ModelShape
from proponent.scale.stages import Stage

# As in ``attribute.unprojected``: bytes of the whole gradients of queries that are compared together.
QUERY_BYTES = 2**30


def exact_stage(job: Job, asked: Questions, top: int) -> Stage:
    """Inner products with whole gradients of the best and the lowest ``top``, no passage retrieved twice.

    A passage's gradient is corrected on both sides, and each of its tokens meets every token of the queries;
    so is each query's, once to be kept and once to meet the others.  Held are the corrections, the queries'
    factors, twice while they are joined, and a batch with its own.  Queries that do not fit into
    ``QUERY_BYTES`` are taken in groups, each with a pass over the passages, and made again for it.  The
    Kronecker factors, which are made first, are a stage of their own: ``build_stages`` has it.
    """
    model, rows = job.model, min(job.passages, asked.queries * 2 * top)
    positions = asked.queries * (asked.tokens - 1)
    groups = max(1, -(-FLOAT * positions * model.sides // QUERY_BYTES))
    passage = cost.gradient_operations(model, job.tokens) + _corrected(model, job.tokens)
    query = cost.gradient_operations(model, asked.tokens, asked.targets) + _corrected(model, asked.tokens)
    meets = 2 * positions * model.sides * ((job.tokens - 1) * rows + asked.queries * (asked.tokens - 1))
    products = 3 * cost.DOUBLE * job.features.blocks * asked.queries * rows
    batch = activation_bytes(job) + position_bytes(job, model.sides) + logit_bytes(job)
    held = FLOAT * sum(i**2 + o**2 for i, o in model.matrices)
    asking = 2 * FLOAT * positions * model.sides // groups
    return Stage(
        "exact scores",
        "proponent.attribute.exact.exact_scores",
        groups * rows * passage + (groups + min(groups, 2)) * asked.queries * query + meets,
        held + asking + batch + products,
    )


def _corrected(model: ModelShape, tokens: int) -> int:
    """Operations of correcting a row's factors, and of its norm, beside its gradient."""
    folded = 2 * (tokens - 1) * sum(width**2 for width in model.factors)
    return folded + cost.gram_operations(model, tokens)
