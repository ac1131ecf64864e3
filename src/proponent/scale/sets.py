"""What sets of passages cost on top of a trace: diverse proponents, and subsets of the corpus."""

from __future__ import annotations

from proponent.index.similarity import TOGETHER as AT_ONCE
from proponent.scale import cost, task
from proponent.scale.questions import Questions
from proponent.scale.shapes import FLOAT, Job
from proponent.scale.stages import Stage

# As in ``attribute.distinct`` and ``attribute.subset``: candidates of a side, for each passage shown and at
# least; numbers of their vectors that are held together; candidates of a subset for each query, at least.
DISTINCT_EACH, DISTINCT = 4, 100
TOGETHER = 2**27
CANDIDATES = 1000
# Products with a task's directions that a passage takes part in: its coordinates, what they leave, and back.
SPLIT_AND_JOINED = 3
IN_FLOAT64 = 4  # copies of the rows that are taken apart at a time


def diverse_stage(job: Job, asked: Questions) -> Stage:
    """Proponents and opponents chosen among C candidates a side so that they do not repeat each other.

    The cosines of a side, 2 C² operations a coordinate of the index; under a task mix each candidate of a
    full one is first taken apart along the task's directions and put together again.  Held are unit vectors
    of the candidates of some queries, in parts and joined, and cosines three times in float64.  Read are
    whole shards with a candidate: for every such group of queries the whole index, at most.  Choosing itself
    is comparisons.
    """
    side, dim = min(job.passages, max(DISTINCT_EACH * asked.k, DISTINCT)), job.features.dim
    rows, held, stored = asked.queries * 2 * side, max(TOGETHER, 2 * side * dim), job.features.stored
    operations, apart = asked.queries * 2 * 2 * side**2 * stored, 0
    if asked.task and not job.features.size:
        operations += rows * SPLIT_AND_JOINED * 2 * task.task_rank(job.features, asked.queries) * dim
        apart = cost.DOUBLE * IN_FLOAT64 * min(rows, AT_ONCE) * dim
    groups = -(-rows * dim // held)
    return Stage(
        "diverse proponents",
        "proponent.attribute.distinct.diverse",
        operations,
        2 * FLOAT * min(rows * dim, held) * stored // dim + max(3 * cost.DOUBLE * side**2, apart),
        read=groups * job.passages * cost.index_bytes(job.features),
    )


def select_stage(job: Job, asked: Questions, budget: int) -> Stage:
    """Candidates of a subset and their scores for every query, after the scan that finds them.

    Candidates are each query's best max(1000, budget), no passage twice.  Their scores are worked out once
    more, and held in float32, as float64, and their positive parts.  Choosing itself is comparisons.
    """
    each = min(job.passages, max(CANDIDATES, budget))
    found = min(job.passages, asked.queries * each)
    return Stage(
        "selection",
        "proponent.attribute.candidates.Candidates.of",
        asked.queries * found * cost.product_operations(job.features),
        asked.queries * found * (FLOAT + 2 * cost.DOUBLE),
        read=job.passages * cost.index_bytes(job.features),
    )
