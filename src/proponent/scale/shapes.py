"""What of a model, its features and a corpus decides the cost; a configuration is enough, no weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PreTrainedConfig

from proponent.build.plan import SHARD_ROWS, SHARD_TOKENS
from proponent.build.tasks import GROUP_SHARDS, SPAN_SHARDS
from proponent.errors import InputError
from proponent.gradients.kronecker import factor_numbers, together
from proponent.gradients.layers import LayerPlan, Matrix, find_matrices, plan_layers
from proponent.gradients.linear import EARLY
from proponent.gradients.model import CausalModel
from proponent.gradients.sweep import captured
from proponent.index.sketch import kept_width

FLOAT = 4  # bytes of a float32
COUNTED = 13  # positions whose kept numbers are counted; a prime, which no head's size equals


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides the cost of its gradients.

    matrices: inputs i and outputs o of every attention and MLP matrix, those with one input as one, the
        first of the model first.
    modules: the outputs of each module of every matrix, which add up to its o.
    sweeps: of each sweep of ``sample_kronecker`` the numbers of the factors that it sums, and the entries of
        the matrices that its backward pass goes through, those above its first.
    hidden: width h of the last hidden states.  vocabulary: v.
    attention: heads × head size, summed over the layers.
    parameters: of the whole model, embeddings too, each tensor once.
    early: entries of the matrices of the first layers, which multiply in float32 whatever the precision.
    kept: float32 numbers a position that a forward pass keeps for the backward pass with respect to
        activations, besides parameters and what is of positions × positions (masks, unfused attention).
    """

    matrices: tuple[tuple[int, int], ...]
    hidden: int
    vocabulary: int
    attention: int
    parameters: int
    kept: int
    modules: tuple[tuple[int, ...], ...]
    sweeps: tuple[tuple[int, int], ...]
    early: int = 0

    @property
    def weights(self) -> int:
        """Entries Σ i·o of all matrices."""
        return sum(i * o for i, o in self.matrices)

    @property
    def first(self) -> int:
        """Entries i·o of the first matrix, below whose outputs nothing is differentiated."""
        return self.matrices[0][0] * self.matrices[0][1]

    @property
    def inputs(self) -> int:
        """Σ i over the matrices."""
        return sum(i for i, _ in self.matrices)

    @property
    def sides(self) -> int:
        """Σ (i + o) over the matrices: numbers of a token that the features see."""
        return sum(i + o for i, o in self.matrices)

    @property
    def summed(self) -> int:
        """Numbers of the Kronecker factors that one sweep sums at most."""
        return max(numbers for numbers, _ in self.sweeps)

    @property
    def factors(self) -> tuple[int, ...]:
        """Widths of all Kronecker factors: the outputs of every module and the inputs of every matrix."""
        return tuple(
            width
            for (i, _), outputs in zip(self.matrices, self.modules, strict=True)
            for width in (*outputs, i)
        )


@dataclass(frozen=True)
class FeatureShape:
    """Blocks b and their projected side p: features have d = b · p² coordinates.

    identity: whether R is taken for the identity, a number a block, so that there is nothing to factor.
    size: bytes of signs a passage in a compact index, a power of two; 0 for a full one.
    """

    blocks: int
    side: int
    identity: bool = False
    size: int = 0

    @property
    def width(self) -> int:
        """Coordinates of a block, w = p²."""
        return self.side**2

    @property
    def compacted(self) -> bool:
        """Whether it is a compact index with R_train, which is made of a finished full one."""
        return self.size > 0 and not self.identity

    @property
    def kept(self) -> int:
        """Coordinates r of a block of whitened features: w, or eigenvectors that a compact index keeps."""
        spec = {"size": self.size, "hessian": "identity" if self.identity else "train"}
        return kept_width(spec, self.blocks, self.width)

    @property
    def truncated(self) -> bool:
        """Whether only the first eigenvectors of R_train are kept, which are fewer than coordinates."""
        return self.kept < self.width

    @property
    def factored(self) -> int:
        """Columns of the [w, ·] matrix that whitens a block: w, r of eigenvectors, or none of an identity."""
        return 0 if self.identity else self.kept

    @property
    def dim(self) -> int:
        """Coordinates of a feature, d = b · w."""
        return self.blocks * self.width

    @property
    def whitened(self) -> int:
        """Coordinates of a whitened feature, b · r, before any sketch."""
        return self.blocks * self.kept

    @property
    def stored(self) -> int:
        """Coordinates of a row of the index: d, or of a compact one the m = 8 · size of a sketch."""
        return 8 * self.size or self.dim


@dataclass(frozen=True)
class Job:
    """An index to be built: N passages of equally many tokens.

    tokens: of each passage, special prefix included.  sample: passages that second moments are estimated on,
    0 for none.  kronecker: whether these are two factors a matrix.  batch_tokens: tokens that are computed at
    once.  text: bytes of a passage's id and text, 0 to leave text out.  workers: machines W that share the
    passages evenly; the first has the corpus and the model.  surveyed: passages whose mean eigenvalues whiten
    a compact run.
    """

    model: ModelShape
    features: FeatureShape
    passages: int
    tokens: int
    sample: int = 256
    batch_tokens: int = 2048
    text: int = 0
    workers: int = 1
    kronecker: bool = False
    surveyed: int = 256

    def __post_init__(self) -> None:
        """Raise InputError for what is no corpus."""
        if self.passages < 1 or self.tokens < 2 or self.workers < 1:
            raise InputError(
                f"a job has {self.passages} passages of {self.tokens} tokens for {self.workers} workers; "
                "give at least 1, 2 and 1"
            )

    @property
    def built(self) -> Job:
        """What is built from the corpus: the job itself, or the full run that a compact one is made of."""
        return replace(self, features=replace(self.features, size=0)) if self.features.compacted else self

    @property
    def shard_rows(self) -> int:
        """Rows of a full shard."""
        return min(SHARD_ROWS, max(1, SHARD_TOKENS // self.tokens))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.passages // self.shard_rows)

    @property
    def spans(self) -> int:
        """Sets of shards whose part of R is summed in one task."""
        return -(-self.shards // SPAN_SHARDS)

    @property
    def groups(self) -> int:
        """Sets of shards that are whitened together."""
        return -(-self.shards // GROUP_SHARDS)

    @property
    def batch_rows(self) -> int:
        """Passages of a batch."""
        return max(1, min(self.passages, self.batch_tokens // self.tokens))


def shapes(model: CausalModel, dim: int, layer_groups: int) -> tuple[ModelShape, FeatureShape]:
    """The shapes of a model and of its features; InputError as of ``plan_layers``."""
    plan, matrices = plan_layers(model, dim, layer_groups), find_matrices(model)
    config, head = model.causal.config.get_text_config(decoder=True), model.causal.get_output_embeddings()
    early = math.ceil(EARLY * config.num_hidden_layers)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = ModelShape(
        tuple((matrix.inputs, sum(matrix.outputs)) for matrix in matrices),
        hidden=head.weight.shape[1],
        vocabulary=head.weight.shape[0],
        attention=config.num_hidden_layers * config.num_attention_heads * size,
        parameters=sum(weight.numel() for weight in model.causal.parameters()),
        kept=_kept(model, plan),
        modules=tuple(matrix.outputs for matrix in matrices),
        sweeps=tuple(_sweep(matrices, group) for group in together(plan.matrices)),
        early=sum(m.inputs * sum(m.outputs) for m in matrices if m.depth < early),
    )
    return shape, FeatureShape(len(plan.blocks), plan.side)


def shapes_of_config(
    config: PreTrainedConfig, dim: int, layer_groups: int
) -> tuple[ModelShape, FeatureShape]:
    """The same from a configuration: its modules run on tensors without memory, so no weights are needed.

    Raises InputError for an architecture that is not supported; see ``find_matrices``.
    """
    with FakeTensorMode():
        causal = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval().requires_grad_(False)
        return shapes(CausalModel(causal, torch.device("cpu")), dim, layer_groups)


def _sweep(matrices: Sequence[Matrix], group: Sequence[Matrix]) -> tuple[int, int]:
    """An entry of ``ModelShape.sweeps``; matrices: all of the model, in the order of its calls."""
    first = min(map(matrices.index, group))
    return factor_numbers(group), sum(m.inputs * sum(m.outputs) for m in matrices[first + 1 :])


def _kept(model: CausalModel, plan: LayerPlan) -> int:
    """``ModelShape.kept``, from the tensors that autograd saves in one forward pass."""
    saved: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.shape[-2:] != (COUNTED, COUNTED):
            storage = tensor.untyped_storage()
            saved[storage._cdata] = storage  # several tensors may share one
        return tensor

    weights = {weight.untyped_storage()._cdata for weight in model.causal.parameters()}
    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        captured(model, plan.matrices, [], 1),
    ):
        model.hidden(torch.zeros(1, COUNTED, dtype=torch.long, device=model.device))
    whole: int = sum(storage.nbytes() for number, storage in saved.items() if number not in weights)
    return whole // (FLOAT * COUNTED)
