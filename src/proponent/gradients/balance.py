"""Projections whose features are white along both sides of a block.

Second moments are of each matrix alone, and a random projection stretches some directions against others.
Both are seen in the features Φ [p, p] of a sample of passages, and undone as second moments are: with

    L = E[Φ Φᵀ],  R = E[Φᵀ Φ]  [p, p] of a block,   Φ ← c · L^(-1/2) Φ R^(-1/2)

folds into the projections of all matrices of the block, so that a passage costs nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from proponent.gradients.kronecker import inverse_root
from proponent.gradients.layers import LayerPlan
from proponent.gradients.projection import Projection

# What is added to each side's diagonal, relative to its mean eigenvalue: chosen by LDS on half of the
# relations of two corpora, where 0.01 was no better and few passages wanted more (docs/results/truth.md).
DAMPING = 0.1
SAMPLE_BYTES = 2**30  # of the sample's features that are looked at


def rows_seen(dim: int) -> int:
    """How many passages of a sample have their features of d coordinates looked at, at most."""
    return max(1, SAMPLE_BYTES // (4 * dim))


def balanced(
    plan: LayerPlan, folded: Mapping[str, Projection], features: Tensor, damping: float = DAMPING
) -> dict[str, Projection]:
    """The projections, by matrix name, that make features white along both sides of each block.

    folded: those that the sample's features φ [n, d] were made with.  Rows that are not finite are left out.
    c keeps the mean of ‖Φ‖² of each block, so that blocks count among each other as they did.
    """
    finite = features[features.norm(dim=1).isfinite()]
    made = dict[str, Projection]()
    for block, part in zip(plan.blocks, finite.chunk(len(plan.blocks), 1), strict=True):
        left, right = _sides(part.view(-1, plan.side, plan.side).double(), damping)
        for matrix in block.matrices:
            was = folded[matrix.name]
            inside, outside = was.in_side.double() @ right, was.out_side.double() @ left
            made[matrix.name] = Projection(inside.float(), outside.float())
    return made


def _sides(sample: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """``√c L^(-1/2)`` and ``√c R^(-1/2)`` [p, p] of a block's features [n, p, p], float64."""
    rows, columns = sample.transpose(0, 1).flatten(1), sample.flatten(0, 1)
    left = inverse_root(rows @ rows.T, damping)
    right = inverse_root(columns.T @ columns, damping)
    after = float((left @ sample @ right).square().sum())
    scale = (float(sample.square().sum()) / after) ** 0.25 if after > 0 else 1.0
    return scale * left, scale * right
