"""What any method would have to spend for the same answer, and how far the stages are from it.

``docs/theory.md`` has the proofs and says of which methods each bound holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from proponent.scale import cost
from proponent.scale.questions import Questions, trace_stages
from proponent.scale.shapes import FeatureShape, Job, ModelShape
from proponent.scale.stages import Stage, build_stages

# Finite values of float16, both zeros as one.
CODE_VALUES = 2 * (2**15 - 2**10) - 1
# Four products of half t × t in the backward pass of attention, the weights not made again.
ATTENTION_BACKWARD = 4


@dataclass(frozen=True)
class Bound:
    """A lower bound of one quantity of a job beside what the code spends, in the same unit."""

    name: str
    unit: str
    least: int
    spent: int

    @property
    def distance(self) -> float:
        """Spent over least, at least 1."""
        return self.spent / self.least


def gradient_bound(model: ModelShape, tokens: int) -> int:
    """Operations of a row's features at least, by products term by term.

    Forward through every matrix, back through all but the first, attention over pairs of positions, logits
    both ways.
    """
    positions = tokens - 1
    matrices = 2 * positions * (2 * model.weights - model.first)
    attention = (cost.ATTENTION_FORWARD + ATTENTION_BACKWARD) * positions**2 * model.attention
    return matrices + attention + 4 * positions * model.hidden * model.vocabulary


def hessian_bound(features: FeatureShape) -> int:
    """Operations of a passage's part in R at least: one product and one sum for each pair of coordinates."""
    return features.blocks * features.width * (features.width + 1)


def whitening_bound(features: FeatureShape) -> int:
    """Operations of one triangular solve at least: each entry of the factor is used, the diagonal divides."""
    return features.blocks * features.width**2


def scan_bound(job: Job) -> int:
    """Bytes of codes, or of signs, that a search of their exact products reads at least: all of them."""
    return job.passages * (job.features.size or cost.CODE * job.features.dim)


def disk_bound(job: Job) -> int:
    """Bytes of an index that tells any two collections of codes, or of signs, apart, at least."""
    if job.features.size:
        return job.passages * job.features.size
    return math.floor(job.passages * job.features.dim * math.log2(CODE_VALUES) / 8)


def bounds(job: Job) -> tuple[Bound, ...]:
    """Every bound, beside what the code spends on the job and on one query in a fresh process.

    A compact build with R taken for the identity has no stages for R and whitening, so no bounds of these.
    """
    built = {stage.name: stage for stage in build_stages(job)}
    (scan,) = (stage for stage in trace_stages(job, Questions(1)) if stage.name == "scan")
    least = job.passages * gradient_bound(job.model, job.tokens)
    return (
        Bound("gradients", "operations", least, built["gradients"].operations),
        *(() if job.built.features.size else _corrections(job.built, built)),
        Bound("index", "bytes on disk", disk_bound(job), cost.disk_bytes(job)),
        Bound("scan", "bytes read", scan_bound(job), scan.read),
    )


def _corrections(job: Job, built: Mapping[str, Stage]) -> tuple[Bound, ...]:
    """The bounds of R and of whitening, beside the stages of a full build by their names."""
    features, passages = job.features, job.passages
    read = passages * cost.raw_bytes(features) + cost.factor_bytes(features)
    return (
        Bound("R", "operations", passages * hessian_bound(features), built["R"].operations),
        Bound("whitening", "operations", passages * whitening_bound(features), built["whitening"].operations),
        Bound("whitening", "bytes read", read, built["whitening"].read),
    )
