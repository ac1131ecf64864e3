"""What a task mix costs: its subspace, queries under it, and what of passages is compared with it."""

from __future__ import annotations

from proponent.index.mix import STRIP
from proponent.scale.cost import (
    EIGENVALUES,
    EIGENVECTORS,
    inversion_operations,
    product_operations,
    sketch_operations,
    triangle_operations,
    whitening_operations,
)
from proponent.scale.shapes import FeatureShape


def task_rank(features: FeatureShape, queries: int) -> int:
    """Directions of a task in each block: as many as its queries span, at most all of whitened features."""
    return min(queries, features.kept)


def task_operations(features: FeatureShape, queries: int) -> int:
    """Operations of a task's subspace and its λ from queries' features, in float64.

    Of each block: the queries whitened, and of the smaller Gram matrix, before and after whitening, its
    triangle and its eigenvalues (4/3 r³, and once 10/3 r³ more for vectors); directions and coordinates.
    """
    sizes = (features.width, features.kept)  # of a block before and after whitening
    grams = sum(triangle_operations(min(queries, size), STRIP) * max(queries, size) for size in sizes)
    before, rank = (min(queries, size) for size in sizes)
    eigen = round(EIGENVALUES * before**3 + (EIGENVALUES + EIGENVECTORS) * rank**3)
    products = 2 * rank * queries * features.kept
    turned = products if queries < features.kept else 0  # eigenvectors of ΨΨᵀ are turned into those of ΨᵀΨ
    whitened = queries * whitening_operations(features) + inversion_operations(features)
    return whitened + features.blocks * (grams + eigen + products + turned)


def mixed_operations(features: FeatureShape, queries: int) -> int:
    """Operations of ``R'⁻¹ ψ`` of a task's queries and its sketch, for a scan of a compact index."""
    if not features.size:
        return 0
    return queries * (2 * task_rank(features, queries) * features.whitened + sketch_operations(features))


def direction_operations(features: FeatureShape, queries: int) -> int:
    """Operations of a passage's products with a task's directions, once a scan of a full index.

    Where the task spans whole blocks, what it leaves of a passage is worked out as well, at the same cost.
    """
    passes = 2 if queries >= features.width else 1
    return passes * task_rank(features, queries) * product_operations(features)


def coordinate_operations(features: FeatureShape, queries: int) -> int:
    """Operations of a passage's coordinates along a task's directions with every query's, and in its norm."""
    return 2 * (queries + 1) * task_rank(features, queries) * features.blocks
