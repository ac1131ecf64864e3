"""The stages of an index build, each with what it spends and the function that spends it.

Formulas are of passages of one length.  Left out everywhere: headers and marks of files, text unless a job
gives its size, Python's own objects, what libraries use inside one operation, and whatever is smaller than a
batch's hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass

from proponent.build.tasks import GROUP_SHARDS
from proponent.gradients.backprop import slice_rows
from proponent.index.hessian import STRIP
from proponent.index.whitening import CORNER
from proponent.scale import cost
from proponent.scale.shapes import FLOAT, Job

ROOT_COPIES = 4  # of a Kronecker factor, in float64, while its inverse root is made


@dataclass(frozen=True)
class Stage:
    """What one stage of a job spends, all workers together.

    spends: dotted name of the function that spends it.
    operations: floating-point operations.
    memory: bytes that a worker holds at most beside the model's parameters; mapped files are not held.
    read, written: bytes through the file system, those included that are read for a checksum.
    network: bytes between workers; each keeps its own passages, so 0 for one worker.
    tasks: parts that may run side by side, each of which writes and syncs files of its own.
    """

    name: str
    spends: str
    operations: int = 0
    memory: int = 0
    read: int = 0
    written: int = 0
    network: int = 0
    tasks: int = 1


def build_stages(job: Job) -> tuple[Stage, ...]:
    """The stages of an index build in their order."""
    return (
        _encoding(job),
        _moments(job),
        *((_roots(job),) if job.kronecker else ()),
        _gradients(job),
        _sums(job),
        _summed(job),
        _factors(job),
        _whitening(job),
    )


def _encoding(job: Job) -> Stage:
    """Text is read twice, surveyed and cut; token ids and the first scored one are 4 bytes each."""
    row = job.text + FLOAT * (job.tokens + 1)
    written = job.passages * row
    return Stage(
        "encoding",
        "proponent.build.plan.stage",
        memory=job.shard_rows * row,
        read=2 * job.passages * job.text + written,
        written=written,
    )


def _moments(job: Job) -> Stage:
    """The model is read.  Held beside a batch's activations: layer inputs, and logits or products."""
    model, sample = job.model, min(job.sample, job.passages)
    widest = max(o + max(i, o) for i, o in model.matrices) + job.tokens
    inputs, products = (position_bytes(job, count) for count in (model.inputs, widest))
    each, sums = cost.moment_operations, 0
    if job.kronecker:
        each, sums = cost.kronecker_operations, factor_bytes(job)
        products = position_bytes(job, max(2 * (i + o) for i, o in model.matrices))
    written = cost.moment_bytes(model) + cost.side_bytes(model, job.features)
    return Stage(
        "second moments",
        f"proponent.gradients.{'kronecker.sample_kronecker' if job.kronecker else 'moments.sample_moments'}",
        sample * each(model, job.tokens),
        activation_bytes(job) + inputs + max(logit_bytes(job), products) + sums if sample else 0,
        read=FLOAT * model.parameters + written,
        written=written,
    )


def _roots(job: Job) -> Stage:
    """Held are a sweep's factors, and of the widest in float64 itself, its eigenvectors and its root."""
    widest = max(job.model.factors)
    return Stage(
        "folding",
        "proponent.gradients.kronecker.KroneckerFactors.fold",
        cost.root_operations(job.model, job.features),
        FLOAT * job.model.summed + ROOT_COPIES * cost.DOUBLE * widest**2,
    )


def _gradients(job: Job) -> Stage:
    """Token ids in, features before whitening and text out.

    Held are a shard's features and beside them a batch with its projected inputs, or the shard's codes.
    Every other worker is sent the parameters, the projections, and the token ids of its passages.
    """
    model, features, staged = job.model, job.features, job.text + FLOAT * (job.tokens + 1)
    shard, others = FLOAT * min(job.passages, job.shard_rows) * features.dim, job.workers - 1
    operations = cost.gradient_operations(model, job.tokens)
    operations += cost.feature_operations(model, features, job.tokens)
    written = job.passages * (cost.raw_bytes(features) + job.text)
    sent = FLOAT * model.parameters + cost.side_bytes(model, features)
    return Stage(
        "gradients",
        "proponent.build.tasks.features",
        job.passages * operations,
        shard + max(batch_bytes(job), shard // 2),
        read=job.passages * staged + written,
        written=written,
        network=others * sent + job.passages * staged * others // job.workers,
        tasks=job.shards,
    )


def _sums(job: Job) -> Stage:
    """Every code of the features is read once, a block at a time; a span's sums are one triangle a block."""
    width, sums = job.features.width, job.spans * cost.triangle_bytes(job.features)
    rows = min(job.passages, job.shard_rows)
    held = rows if job.features.identity else width + 2 * rows + min(STRIP, width)
    return Stage(
        "R",
        "proponent.build.tasks.hessian_part",
        job.passages * cost.hessian_operations(job.features),
        FLOAT * width * held,
        read=job.passages * cost.raw_bytes(job.features) + sums,
        written=sums,
        tasks=job.spans * job.features.blocks,
    )


def _summed(job: Job) -> Stage:
    """The spans' sums are added, a block by the worker that factors it; the others send it theirs.

    Held are two blocks, while one is added to the other.
    """
    triangle = cost.triangle_bytes(job.features)
    return Stage(
        "R, summed",
        "proponent.build.tasks.hessian",
        memory=FLOAT * 2 * job.features.factored**2,
        read=(job.spans + 1) * triangle,
        written=triangle,
        network=job.spans * triangle * (job.workers - 1) // job.workers,
        tasks=job.features.blocks,
    )


def _factors(job: Job) -> Stage:
    """Held are a block of R, its copy in float64 and the factor in float32."""
    factors, width = cost.factor_bytes(job.features), job.features.factored
    return Stage(
        "factors",
        "proponent.build.tasks.factor",
        cost.cholesky_operations(job.features) + cost.eigenvalue_operations(job.features),
        (2 * FLOAT + cost.DOUBLE) * width**2,
        read=cost.triangle_bytes(job.features) + factors,
        written=factors,
        tasks=job.features.blocks,
    )


def _whitening(job: Job) -> Stage:
    """Every group of shards reads all factors; each worker is sent those that it did not make."""
    features, factors = job.features, cost.factor_bytes(job.features)
    rows, width = min(job.passages, GROUP_SHARDS * job.shard_rows), features.width
    copies = width + max(width // 2, min(width, CORNER))
    held = rows * width if features.identity else width**2 + rows * copies
    written = job.passages * cost.index_bytes(features)
    return Stage(
        "whitening",
        "proponent.build.tasks.whiten",
        job.passages * cost.whitening_operations(features) + job.groups * cost.inversion_operations(features),
        FLOAT * (rows * features.dim + held),
        read=job.passages * cost.raw_bytes(features) + job.groups * factors + written,
        written=written,
        network=(job.workers - 1) * factors,
        tasks=job.groups,
    )


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
