"""The cost model: floating-point operations and bytes of an index, from the shapes alone.

A multiplication and an addition are two operations.  Counted are matrix products and factorizations; all else
is linear in the activations and shows in the rate that a machine reaches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from proponent.build.plan import SHARD_ROWS
from proponent.build.tasks import SPAN_SHARDS
from proponent.index.hessian import STRIP

CODE_BYTES = 2  # a coordinate on disk
FLOAT_BYTES = 4
ROW_FLOATS = 3  # scale and two norms of a row of the index
RAW_FLOATS = 2  # scale and norm of a row before whitening

# Attention to the tokens before: half of the t × t products, queries with keys and weights with values.
ATTENTION_FORWARD = 2
ATTENTION_BACKWARD = 5  # the weights again, and four products of the same size


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides the cost of its gradients.

    matrices: inputs i and outputs o of every attention and MLP matrix, those with one input as one, the
        first of the model first.
    hidden: width h of the last hidden states.  vocabulary: v.
    attention: heads × head size, summed over the layers.
    """

    matrices: tuple[tuple[int, int], ...]
    hidden: int
    vocabulary: int
    attention: int

    @property
    def weights(self) -> int:
        """Entries Σ i·o of all matrices."""
        return sum(i * o for i, o in self.matrices)

    @property
    def sides(self) -> int:
        """Σ (i + o) over the matrices: numbers of a token that the features see."""
        return sum(i + o for i, o in self.matrices)


@dataclass(frozen=True)
class FeatureShape:
    """Blocks b and their projected side p: features have d = b · p² coordinates."""

    blocks: int
    side: int

    @property
    def width(self) -> int:
        """Coordinates of a block, w = p²."""
        return self.side**2

    @property
    def dim(self) -> int:
        """Coordinates of a feature, d = b · w."""
        return self.blocks * self.width


def gradient_operations(model: ModelShape, tokens: int) -> int:
    """Operations of a passage's forward and backward pass with respect to activations, logits included.

    The backward pass ends at the outputs of the first matrix; the last token is not computed.
    """
    first = model.matrices[0][0] * model.matrices[0][1]
    positions = tokens - 1
    matrices = 2 * positions * (2 * model.weights - first)
    attention = (ATTENTION_FORWARD + ATTENTION_BACKWARD) * positions**2 * model.attention
    logits = 4 * positions * model.hidden * model.vocabulary
    return matrices + attention + logits


def feature_operations(model: ModelShape, features: FeatureShape, tokens: int) -> int:
    """Operations of a passage's projections and of their products, summed over positions."""
    positions = tokens - 1
    return 2 * positions * (features.side * model.sides + features.width * len(model.matrices))


def moment_operations(model: ModelShape, tokens: int) -> int:
    """Operations of a passage's second moments by ``(x xᵀ) d`` and ``(d dᵀ) x``, its gradient included."""
    return gradient_operations(model, tokens) + 4 * (tokens - 1) ** 2 * model.sides


def hessian_operations(features: FeatureShape) -> int:
    """Operations of a passage's part φφᵀ in R: lower triangles, and what the strips of them waste."""
    strip = min(STRIP, features.width)
    return features.blocks * features.width * (features.width + strip)


def whitening_operations(features: FeatureShape) -> int:
    """Operations of a passage's triangular solves ψ = L⁻¹ φ."""
    return features.blocks * features.width**2


def cholesky_operations(features: FeatureShape) -> int:
    """Operations of R's Cholesky factors, once a corpus; in float64."""
    return features.blocks * features.width**3 // 3


def eigenvalue_operations(features: FeatureShape) -> int:
    """Operations of R's eigenvalues, by reduction to a tridiagonal matrix, once a corpus."""
    return 4 * features.blocks * features.width**3 // 3


def index_bytes(features: FeatureShape) -> int:
    """Bytes of the finished index that a passage takes, its text apart."""
    return CODE_BYTES * features.dim + FLOAT_BYTES * ROW_FLOATS


def raw_bytes(features: FeatureShape) -> int:
    """Bytes that a passage's features take as well while the index is built."""
    return CODE_BYTES * features.dim + FLOAT_BYTES * RAW_FLOATS


def corpus_bytes(features: FeatureShape) -> int:
    """Bytes of R and of its Cholesky factors, lower triangles both, once a corpus."""
    return 2 * FLOAT_BYTES * features.blocks * features.width * (features.width + 1) // 2


def operations(
    model: ModelShape, features: FeatureShape, passages: int, tokens: int, sample: int
) -> dict[str, int]:
    """Operations of every stage of a whole index, by its name.

    tokens: of each passage.  sample: passages that second moments are estimated on.
    """
    gradient = gradient_operations(model, tokens) + feature_operations(model, features, tokens)
    return {
        "gradients": passages * gradient,
        "second moments": min(sample, passages) * moment_operations(model, tokens),
        "R": passages * hessian_operations(features),
        "factors": cholesky_operations(features) + eigenvalue_operations(features),
        "whitening": passages * whitening_operations(features),
    }


def disk_bytes(features: FeatureShape, passages: int, finished: bool = True) -> int:
    """Bytes on disk of an index, or the most while it is built (``finished`` false); text apart."""
    if finished:
        return corpus_bytes(features) + passages * index_bytes(features)
    sums = math.ceil(passages / (SHARD_ROWS * SPAN_SHARDS)) * corpus_bytes(features) // 2
    return corpus_bytes(features) + sums + passages * (index_bytes(features) + raw_bytes(features))
