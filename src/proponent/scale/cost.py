"""The cost model: floating-point operations and bytes of a unit of work, from the shapes alone.

A multiplication and an addition are two operations.  Counted are matrix products and factorizations, a
sketch's additions, and of products with signs the bits that are compared; all else is linear in what they
read and write, and shows in the rate that a machine reaches.  ``stages`` puts these together to the stages of
a job.
"""

from __future__ import annotations

from proponent.index.hessian import STRIP
from proponent.index.signs import PLANES
from proponent.index.whitening import CORNER
from proponent.scale.shapes import FLOAT, FeatureShape, Job, ModelShape

CODE = 2  # bytes of a coordinate on disk
DOUBLE = 8
ROW_FLOATS, SIGN_FLOATS = 3, 4  # scale and two norms of a row of the index; of a compact one its residual too
RAW_FLOATS = 2  # scale and norm of a row before whitening
BLOCK_NUMBERS = 2  # doubles stored beside a triangle: moments of R, or a damping
TRACE_NUMBERS, IDENTITY_NUMBERS = 3, 2  # doubles of a block of R taken for the identity: sum, whitening
EIGENVALUES, EIGENVECTORS = 4 / 3, 10 / 3  # operations, over w³: a tridiagonal form, and vectors besides

# Attention to the tokens before: half of the t × t products, queries with keys and weights with values.
ATTENTION_FORWARD = 2
ATTENTION_BACKWARD = 5  # the weights again, and four products of the same size


def forward_operations(model: ModelShape, tokens: int, scored: int) -> int:
    """Operations of a row's forward pass over all but its last token, with ``scored`` positions' logits."""
    positions = tokens - 1
    products = 2 * (positions * model.weights + scored * model.hidden * model.vocabulary)
    return products + ATTENTION_FORWARD * positions**2 * model.attention


def gradient_operations(model: ModelShape, tokens: int, scored: int | None = None) -> int:
    """Operations of a row's forward and backward pass with respect to activations, logits included.

    The backward pass ends at the outputs of the first matrix; the last token is not computed.
    scored: positions that have logits, all unless given.
    """
    positions = tokens - 1
    scored = positions if scored is None else scored
    products = 2 * (positions * (model.weights - model.first) + scored * model.hidden * model.vocabulary)
    backward = products + ATTENTION_BACKWARD * positions**2 * model.attention
    return forward_operations(model, tokens, scored) + backward


def projection_operations(model: ModelShape, features: FeatureShape, tokens: int) -> int:
    """Operations of a row's projections of layer inputs and gradients, at every position."""
    return 2 * (tokens - 1) * features.side * model.sides


def feature_operations(model: ModelShape, features: FeatureShape, tokens: int) -> int:
    """Operations of a passage's projections and of their products, summed over positions."""
    products = 2 * (tokens - 1) * features.width * len(model.matrices)
    return projection_operations(model, features, tokens) + products


def row_operations(job: Job) -> int:
    """Operations of a passage's gradient and its features."""
    features = feature_operations(job.model, job.features, job.tokens)
    return gradient_operations(job.model, job.tokens) + features


def rounded_operations(model: ModelShape, features: FeatureShape, tokens: int) -> int:
    """Operations of a passage's features that run in bfloat16 where that is asked for.

    All matrices but the first layers', logits, and projections; attention and the products of projected
    factors stay in float32.
    """
    positions = tokens - 1
    products = 4 * positions * (model.weights - model.early + model.hidden * model.vocabulary)
    return products + projection_operations(model, features, tokens)


def gram_operations(model: ModelShape, tokens: int) -> int:
    """Operations of ``x xᵀ`` and ``d dᵀ`` of every matrix of a row, [t − 1, t − 1] each."""
    return 2 * (tokens - 1) ** 2 * model.sides


def moment_operations(model: ModelShape, tokens: int) -> int:
    """Operations of a passage's second moments by ``(x xᵀ) d`` and ``(d dᵀ) x``, its gradient included."""
    return gradient_operations(model, tokens) + 2 * gram_operations(model, tokens)


def factor_operations(model: ModelShape, tokens: int) -> int:
    """Operations of a passage's Kronecker factors, its gradient apart.

    Of every matrix ``x xᵀ`` and its product with d, and of each module ``d dᵀ`` and its product with x; then
    the factors themselves, [o, o] of each module and [i, i], summed over positions.
    """
    positions = tokens - 1
    long = sum(2 * o + (1 + len(own)) * i for (i, o), own in zip(model.matrices, model.modules, strict=True))
    return 2 * positions**2 * long + 2 * positions * sum(width**2 for width in model.factors)


def kronecker_operations(model: ModelShape, tokens: int) -> int:
    """Operations of a passage's Kronecker second moments: a pass in every sweep, and the factors.

    A sweep's backward pass ends at its first matrix; of attention it does as large a part as of matrices.
    """
    forward, whole = forward_operations(model, tokens, tokens - 1), gradient_operations(model, tokens)
    head = 2 * (tokens - 1) * model.hidden * model.vocabulary
    back = (whole - forward - head) / (model.weights - model.first)
    passes = sum(forward + head + round(back * above) for _, above in model.sweeps)
    return passes + factor_operations(model, tokens)


def root_operations(model: ModelShape, features: FeatureShape) -> int:
    """Operations of folding all Kronecker factors into projections, once a corpus; in float64.

    Of each factor its eigenvectors, its inverse root from these, and the product with a side.
    """
    squares, cubes = (sum(width**power for width in model.factors) for power in (2, 3))
    return round((EIGENVALUES + EIGENVECTORS + 2) * cubes) + 2 * features.side * squares


def balance_operations(model: ModelShape, features: FeatureShape, rows: int) -> int:
    """Operations of whitening both sides of every block of sampled features, once a corpus; in float64.

    Of a row and a block four products of matrices [p, p]: two of the sides' sums, two of what the sides make
    of it.  Of a block the inverse roots of both sides; of every matrix its projections' products with them.
    """
    cubes = (8 * rows + 2 * (EIGENVALUES + EIGENVECTORS + 2)) * features.side**3
    return round(features.blocks * cubes) + 2 * features.side**2 * sum(i + o for i, o in model.matrices)


def triangle_operations(width: int, strip: int) -> int:
    """Operations of the lower triangle of ``Φᵀ Φ`` [width, width] for one row of Φ, by strips of its rows.

    A strip is made as far as its last diagonal entry: ``width (width + strip)`` where strips divide it.
    """
    stops = (min(start + strip, width) for start in range(0, width, strip))
    return sum(2 * (stop - start) * stop for start, stop in zip(range(0, width, strip), stops, strict=True))


def hessian_operations(features: FeatureShape) -> int:
    """Operations of a passage's part φφᵀ in R: lower triangles, and what the strips of them waste."""
    return 0 if features.identity else features.blocks * triangle_operations(features.width, STRIP)


def corners(width: int) -> tuple[int, ...]:
    """Sizes of the corners of a triangular factor that are inverted: its halves, halved as long as needed."""
    if width <= CORNER:
        return (width,)
    return corners(width // 2) + corners(width - width // 2)


def whitening_operations(features: FeatureShape) -> int:
    """Operations of a passage's triangular solves ψ = L⁻¹ φ; the inverses of the corners are dense.

    Along eigenvectors a dense product takes their place.
    """
    if features.identity:
        return 0
    if features.truncated:
        return turning_operations(features)
    return features.blocks * (features.width**2 + sum(c**2 for c in corners(features.width)))


def inversion_operations(features: FeatureShape) -> int:
    """Operations of inverting the corners of all factors, once for all rows that are whitened together."""
    if features.identity or features.truncated:
        return 0
    return features.blocks * sum(c**3 for c in corners(features.width))


def pull_back_operations(features: FeatureShape) -> int:
    """Operations of ``Wᵀ ψ`` of a vector: a triangular solve a block, or a product along eigenvectors."""
    if features.truncated:
        return turning_operations(features)
    return features.dim * features.factored


def turning_operations(features: FeatureShape) -> int:
    """Operations of a row's product with a matrix [r, w] a block, where r of w directions are kept."""
    return 2 * features.dim * features.kept if features.truncated else 0


def truncation_operations(features: FeatureShape) -> tuple[int, int]:
    """Operations of R's eigenvectors, once a compact run, and of the matrices to them from a full run's rows.

    ``index.eigen.EigenWhitening.of`` and, of every factor L its product with r eigenvectors, ``after``.
    """
    if not features.truncated:
        return 0, 0
    vectors = round((EIGENVALUES + EIGENVECTORS) * features.blocks * features.width**3)
    return vectors, features.width * turning_operations(features)


def cholesky_operations(features: FeatureShape) -> int:
    """Operations of R's Cholesky factors, once a corpus; in float64."""
    return 0 if features.identity else features.blocks * features.width**3 // 3


def eigenvalue_operations(features: FeatureShape) -> int:
    """Operations of R's eigenvalues, by reduction to a tridiagonal matrix, once a corpus."""
    return 0 if features.identity else round(EIGENVALUES * features.blocks * features.width**3)


def hadamard_operations(features: FeatureShape) -> int:
    """Additions of one transform of m numbers, by butterflies (``index.sketch.hadamard``)."""
    return features.stored * (features.stored.bit_length() - 1)


def sketch_operations(features: FeatureShape) -> int:
    """Additions of a row's sketch, ``index.sketch.Sketch``: its coordinates folded, and transformed."""
    return features.whitened + hadamard_operations(features) if features.size else 0


def encoding_operations(features: FeatureShape) -> int:
    """Additions of a passage's signs, ``index.signs.encode_signs``: its sketch, and back for its residual."""
    return sketch_operations(features) + hadamard_operations(features) if features.size else 0


def product_operations(features: FeatureShape) -> int:
    """Operations of a vector's product with a row of the index; with signs bits, compared and counted.

    By ``index.codec.RowProducts``, of signs ``index.signs.SignProducts``.
    """
    return PLANES * features.stored if features.size else 2 * features.dim


def index_bytes(features: FeatureShape) -> int:
    """Bytes of the finished index that a passage takes, its text apart."""
    if features.size:
        return features.size + FLOAT * SIGN_FLOATS
    return CODE * features.dim + FLOAT * ROW_FLOATS


def raw_bytes(features: FeatureShape) -> int:
    """Bytes that a passage's features take as well while the index is built."""
    return CODE * features.dim + FLOAT * RAW_FLOATS


def triangle_bytes(features: FeatureShape) -> int:
    """Bytes of R, or of sums for it: lower triangles and two numbers a block, or three numbers."""
    if features.identity:
        return DOUBLE * TRACE_NUMBERS * features.blocks
    entries = features.width * (features.width + 1) // 2
    return features.blocks * (FLOAT * entries + DOUBLE * BLOCK_NUMBERS)


def factor_bytes(features: FeatureShape) -> int:
    """Bytes of the Cholesky factors with their eigenvalues and damping, or two numbers a block.

    Of a compact run the eigenvectors that it keeps in their place.
    """
    if features.identity:
        return DOUBLE * IDENTITY_NUMBERS * features.blocks
    if features.truncated:
        return FLOAT * features.dim * (features.kept + 1) + DOUBLE * BLOCK_NUMBERS * features.blocks
    return triangle_bytes(features) + FLOAT * features.dim


def side_bytes(model: ModelShape, features: FeatureShape) -> int:
    """Bytes of the projections with second moments folded in."""
    return FLOAT * features.side * model.sides


def moment_bytes(model: ModelShape) -> int:
    """Bytes of the second moments: row and column sums and one number a matrix; of factors the diagonals."""
    return FLOAT * (model.sides + len(model.matrices))


def disk_bytes(job: Job, finished: bool = True) -> int:
    """Bytes on disk of an index, or the most while it is built; text and headers of files apart.

    A full run that a compact one is made of is there until that is finished, and not counted afterwards.
    """
    if job.features.compacted and not finished:
        return max(disk_bytes(job.built, False), disk_bytes(job.built) + disk_bytes(job))
    compact, features = job.features.size > 0, job.features
    once = moment_bytes(job.model) + side_bytes(job.model, features) + factor_bytes(features)
    once += 0 if compact else triangle_bytes(features)
    if finished:
        return once + job.passages * index_bytes(features)
    sums, row = 0, index_bytes(features) + FLOAT * (job.tokens + 1)
    if not compact:
        sums, row = job.spans * triangle_bytes(features), row + raw_bytes(features)
    return once + sums + job.passages * row
