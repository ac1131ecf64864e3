"""What parts of a job hold in memory: a batch on its way through the model, and rows that become signs."""

from __future__ import annotations

from proponent.gradients.backprop import slice_rows
from proponent.index.signs import ENCODED
from proponent.scale import cost
from proponent.scale.shapes import FLOAT, Job


def sign_bytes(job: Job) -> int:
    """Bytes beside a shard's rows while these are made signs: some at a time, and the codes of all.

    Of those rows shuffled coordinates or, back from signs, as many as the sketch has; and their sketch, its
    signs, two halves of a transform, and the sketch and signs of the rows before; once, how many coordinates
    each place of a sketch adds.
    """
    features, rows = job.features, min(job.passages, job.shard_rows)
    each = FLOAT * max(features.whitened, features.stored) + (3 * FLOAT + 1) * features.stored
    return min(rows, ENCODED) * each + rows * cost.index_bytes(features) + cost.DOUBLE * features.stored


def compacting_bytes(job: Job) -> int:
    """Bytes while a compact run is made of a full one: a shard's rows decoded, and what makes them signs.

    Where eigenvectors of R_train are kept, all factors of the full run are held, and of each block the matrix
    that turns rows; beside them what makes a shard, its turned rows twice while they are joined, or what
    makes the matrices: all eigenvectors, and in float64 a factor, those of its block, and two products.
    """
    features, rows = job.features, min(job.passages, job.shard_rows)
    shard = FLOAT * rows * features.dim
    if not features.truncated:
        return shard + sign_bytes(job)
    held, turned = FLOAT * features.dim * (features.width + features.kept), FLOAT * rows * features.whitened
    block = features.width * (features.width + 3 * features.kept)
    made = FLOAT * features.dim * features.kept + cost.DOUBLE * block
    return held + max(made, shard + turned + max(turned, sign_bytes(job)))


def batch_bytes(job: Job) -> int:
    """Bytes of a batch on its way to features: its pass with projected inputs, then its features twice."""
    features = FLOAT * job.batch_rows * job.features.dim
    projected = position_bytes(job, len(job.model.matrices) * job.features.side)
    passed = activation_bytes(job) + projected + logit_bytes(job)
    return cost.side_bytes(job.model, job.features) + features + max(passed, features)


def activation_bytes(job: Job) -> int:
    """Bytes that a batch's forward pass keeps for its backward pass."""
    return position_bytes(job, job.model.kept)


def factor_bytes(job: Job) -> int:
    """Bytes of the sums of Kronecker factors in one sweep: of all batches, and of one batch."""
    return 2 * FLOAT * job.model.summed


def logit_bytes(job: Job) -> int:
    """Bytes of a slice of a batch's logits with their gradients and what makes these."""
    vocabulary = job.model.vocabulary
    return min(position_bytes(job, 3 * vocabulary), 3 * FLOAT * slice_rows(vocabulary) * vocabulary)


def position_bytes(job: Job, numbers: int) -> int:
    """Bytes of so many float32 numbers for each position of a batch that is computed."""
    return FLOAT * job.batch_rows * (job.tokens - 1) * numbers
