"""The stages of an index build, each with what it spends and the function that spends it.

A compact build with R taken for the identity ends with its features: they are whitened and made signs as they
come.  With R_train it is two commands, whose last stage makes the compact run of a finished full one.

Formulas are of passages of one length.  Left out everywhere: headers and marks of files, text unless a job
gives its size, Python's own objects, what libraries use inside one operation, and whatever is smaller than a
batch's hidden states.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from proponent.build.tasks import GROUP_SHARDS
from proponent.gradients.balance import rows_seen
from proponent.index.hessian import STRIP
from proponent.index.whitening import CORNER
from proponent.scale import cost
from proponent.scale.memory import (
    activation_bytes,
    batch_bytes,
    compacting_bytes,
    factor_bytes,
    logit_bytes,
    position_bytes,
    sign_bytes,
)
from proponent.scale.shapes import FLOAT, Job

COMPACTING = "compacting"  # the one stage of a build that the command of that name makes, without the model
BALANCE_COPIES = 4  # of a sample's features of a block, in float64, while its sides are made
ROOT_COPIES = 4  # of a Kronecker factor, in float64, while its inverse root is made


@dataclass(frozen=True)
class Stage:
    """What one stage of a job spends, all workers together.

    spends: dotted name of the function that spends it.
    operations: floating-point operations; in a scan of a compact index bits that are compared.
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
    """The stages of an index build in their order; of a compact run with R_train those of both commands."""
    if job.features.compacted:
        return (*build_stages(job.built), compact_stage(job))
    first = (_encoding(job), _moments(job), *((_roots(job), _balance(job)) if job.kronecker else ()))
    if job.features.size:
        return (*first, _eigenvalues(job), _gradients(job))
    return (
        *first,
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


def _balance(job: Job) -> Stage:
    """Features of a sample; of a block's in float64 themselves, by their other side, and turned twice."""
    rows, features = min(job.sample, job.passages, rows_seen(job.features.dim)), job.features
    beside = max(batch_bytes(job), BALANCE_COPIES * cost.DOUBLE * rows * features.width)
    return Stage(
        "balancing",
        "proponent.gradients.balance.balanced",
        rows * cost.row_operations(job) + cost.balance_operations(job.model, features, rows),
        FLOAT * rows * features.dim + beside,
    )


def _eigenvalues(job: Job) -> Stage:
    """Features of a sample, whose mean eigenvalues are a compact run's whitening; held twice."""
    rows = min(job.surveyed, job.passages, rows_seen(job.features.dim))
    written = cost.factor_bytes(job.features)
    features = FLOAT * rows * job.features.dim
    return Stage(
        "mean eigenvalues",
        "proponent.build.indexing.Work.first_files",
        rows * cost.row_operations(job),
        features + max(batch_bytes(job), features),
        read=written,
        written=written,
    )


def _gradients(job: Job) -> Stage:
    """Token ids in, features before whitening and text out; in a compact build the signs of these, whitened.

    Held are a shard's features and beside them a batch with its projected inputs, or the shard's codes.
    Every other worker is sent the parameters, the projections, and the token ids of its passages.
    """
    model, features, staged = job.model, job.features, job.text + FLOAT * (job.tokens + 1)
    rows, others = min(job.passages, job.shard_rows), job.workers - 1
    shard = FLOAT * rows * features.dim
    row, beside = cost.raw_bytes(features), shard // 2
    if features.size:
        row, beside = cost.index_bytes(features), max(FLOAT * rows * features.width, sign_bytes(job))
    operations = cost.row_operations(job) + cost.encoding_operations(features)
    written = job.passages * (row + job.text)
    sent = FLOAT * model.parameters + cost.side_bytes(model, features)
    return Stage(
        "gradients",
        "proponent.build.tasks.features",
        job.passages * operations,
        shard + max(batch_bytes(job), beside),
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


def compact_stage(job: Job) -> Stage:
    """A compact run, the job's, made of a finished full one by one process.

    The full rows are read, and once more for their checksums; all else is copied, with its text.  Where
    eigenvectors of R_train are kept, R and the old factors are read for them, each once more for its
    checksum, and the factors again for the matrices that turn the rows, as the new eigenvectors are.
    What other workers have of the full run is sent to this one.
    """
    features, full = job.features, replace(job.features, size=0)
    vectors, matrices = cost.truncation_operations(features)
    row = cost.turning_operations(features) + cost.encoding_operations(features)
    copied, made = job.passages * job.text, job.passages * cost.index_bytes(features)
    copied += cost.moment_bytes(job.model) + cost.side_bytes(job.model, features)
    factors, sent = cost.factor_bytes(features), job.passages * (cost.index_bytes(full) + job.text)
    read = 2 * job.passages * cost.index_bytes(full) + made
    if features.truncated:
        sent += cost.triangle_bytes(full)
        read += 2 * cost.triangle_bytes(full) + 3 * cost.factor_bytes(full) + 2 * factors
    else:
        read += 2 * factors  # copied, too
    return Stage(
        COMPACTING,
        "proponent.build.compact.compact",
        vectors + matrices + job.passages * row,
        compacting_bytes(job),
        read=read + 2 * copied,
        written=made + factors + copied,
        network=sent * (job.workers - 1) // job.workers,
    )
