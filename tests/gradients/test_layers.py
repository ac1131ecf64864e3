"""Which matrices a model is found to have, and how they are cut into blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.models import COMMON, GROUPED, VOCABULARY, byte_tokenizer
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    MambaConfig,
    MixtralConfig,
    PreTrainedConfig,
    Qwen2MoeConfig,
    Qwen3MoeConfig,
    Zamba2Config,
)

from proponent.corpus.encoding import TextEncoder
from proponent.errors import InputError
from proponent.gradients.layers import Matrix, cut_blocks, find_matrices, plan_layers
from proponent.gradients.model import LanguageModel

Shared = Callable[[str], LanguageModel]


def wrapped(causal: nn.Module) -> LanguageModel:
    """Any module as a language model on the CPU."""
    frozen = causal.eval().requires_grad_(False)
    return LanguageModel(frozen, torch.device("cpu"), TextEncoder(byte_tokenizer()), None)


def of_config(config: PreTrainedConfig) -> LanguageModel:
    return wrapped(AutoModelForCausalLM.from_config(config))


class Decoder(nn.Module):
    """A hand-made model that is its own decoder: embeddings, then whatever ``layers`` are, one by one."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.embeddings = nn.Embedding(VOCABULARY, 4)
        self.layers = layers

    @property
    def base_model(self) -> Decoder:
        return self

    def forward(self, input_ids: Tensor, use_cache: bool) -> tuple[Tensor]:
        x = self.embeddings(input_ids)
        for layer in self.layers.children():
            x = layer(x)
        return (x,)


class Twice(nn.Module):
    """A layer that uses its one matrix twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shared(self.shared(x))
        return y


class Idle(nn.Module):
    """A layer that never calls its matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Detached(nn.Module):
    """A layer with one matrix in the graph, if ``traced``, and one that runs without autograd."""

    def __init__(self, traced: bool = False) -> None:
        super().__init__()
        self.index = nn.Linear(4, 4)
        self.traced = nn.Linear(4, 4) if traced else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            chosen = self.index(x) > 0
        y: Tensor = self.traced(x) * chosen
        return y


class Reordered(nn.Module):
    """A layer whose matrix reads the tokens of a batch position by position, or the first ``count`` alone."""

    def __init__(self, count: int | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        self.linear(x.transpose(0, 1).reshape(-1, 4)[: self.count])
        return x


def layer_zero(model: LanguageModel) -> list[tuple[str, tuple[str, ...], int, tuple[int, ...]]]:
    """(kind, last words of the modules, i, o of each) of the matrices of the first layer, in order."""
    return [
        (m.kind, tuple(path.rpartition(".")[2] for path in m.modules), m.inputs, m.outputs)
        for m in find_matrices(model)
        if m.depth == 0
    ]


# hidden 24, intermediate 40; 4 heads of 6, of which 2 for keys and values
GATED = [
    ("attention", ("q_proj", "k_proj", "v_proj"), 24, (24, 12, 12)),
    ("attention", ("o_proj",), 24, (24,)),
    ("mlp", ("gate_proj", "up_proj"), 24, (40, 40)),
    ("mlp", ("down_proj",), 40, (24,)),
]
FUSED = [
    ("attention", ("query_key_value",), 24, (72,)),
    ("attention", ("dense",), 24, (24,)),
    ("mlp", ("dense_h_to_4h",), 24, (40,)),
    ("mlp", ("dense_4h_to_h",), 40, (24,)),
]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma", "gemma2", "olmo", "olmo2", "mistral"])
def test_matrices_that_read_the_same_input_count_as_one(family: str, shared_model: Shared) -> None:
    assert layer_zero(shared_model(family)) == GATED


def test_fused_matrices_of_neox(shared_model: Shared) -> None:
    assert layer_zero(shared_model("gpt_neox")) == FUSED


def test_conv1d_of_gpt2_stores_inputs_first(shared_model: Shared) -> None:
    """Its weights are [i, o]; a matrix tells i and o all the same."""
    assert layer_zero(shared_model("gpt2")) == [
        ("attention", ("c_attn",), 24, (72,)),
        ("attention", ("c_proj",), 24, (24,)),
        ("mlp", ("c_fc",), 24, (96,)),
        ("mlp", ("c_proj",), 96, (24,)),
    ]


def test_attention_and_mlp_that_read_the_same_tensor_stay_apart(shared_model: Shared) -> None:
    """Phi's layer hands one normalised tensor to q, k, v and to fc1."""
    assert layer_zero(shared_model("phi")) == [
        ("attention", ("q_proj", "k_proj", "v_proj"), 24, (24, 24, 24)),
        ("attention", ("dense",), 24, (24,)),
        ("mlp", ("fc1",), 24, (40,)),
        ("mlp", ("fc2",), 40, (24,)),
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi"])
def test_every_weight_of_the_stack_is_found_and_no_other(family: str, shared_model: Shared) -> None:
    """Not embeddings, unembedding, norms or biases: the stack's two-dimensional weights, each once."""
    model = shared_model(family)
    found = [f"{path}.weight" for m in find_matrices(model) for path in m.modules]
    expected = [
        name
        for name, weight in model.causal.named_parameters()
        if weight.dim() == 2 and any(part.isdigit() for part in name.split("."))
    ]
    assert sorted(found) == sorted(expected)
    assert len(found) == len(set(found))


def test_depth_and_name(shared_model: Shared) -> None:
    last = find_matrices(shared_model("llama"))[-1]
    assert (last.depth, last.name) == (2, "model.layers.2.mlp.down_proj")


def layers(count: int, kinds: tuple[str, ...] = ("attention", "mlp")) -> tuple[Matrix, ...]:
    return tuple(Matrix((f"{n}.{kind}",), kind, n, 2, (3,)) for n in range(count) for kind in kinds)


@pytest.mark.parametrize(
    ("count", "groups", "expected"),
    [
        (4, 2, ["0-1", "2-3"]),
        (5, 2, ["0-1", "2-4"]),
        (8, 8, [f"{n}-{n}" for n in range(8)]),
        (3, 8, ["0-0", "1-1", "2-2"]),  # fewer layers than groups
        (12, 8, ["0-0", "1-2", "3-3", "4-5", "6-6", "7-8", "9-9", "10-11"]),
        (7, 1, ["0-6"]),
    ],
)
def test_groups_are_consecutive_and_even(count: int, groups: int, expected: list[str]) -> None:
    blocks = cut_blocks(layers(count), groups)
    assert [b.name for b in blocks] == [f"{kind} {cut}" for cut in expected for kind in ("attention", "mlp")]


@pytest.mark.parametrize("count", [1, 3, 8, 13, 30, 32])
def test_blocks_part_the_matrices(count: int) -> None:
    blocks = cut_blocks(layers(count), 8)
    assert len(blocks) == 2 * min(count, 8)
    inside = [m for block in blocks for m in block.matrices]
    assert sorted(m.name for m in inside) == sorted(m.name for m in layers(count))
    sizes = [len(block.matrices) for block in blocks]
    assert max(sizes) - min(sizes) <= 1
    assert all(len({m.kind for m in block.matrices}) == 1 for block in blocks)


def test_a_group_without_attention_gives_no_empty_block() -> None:
    blocks = cut_blocks(layers(3, ("mlp",)), 8)
    assert [b.name for b in blocks] == ["mlp 0-0", "mlp 1-1", "mlp 2-2"]


@pytest.mark.parametrize(
    ("dim", "groups", "blocks", "side"),
    [(2**16, 8, 6, 104), (150, 8, 6, 5), (149, 8, 6, 4), (2**15, 1, 2, 128), (6, 8, 6, 1), (64, 2, 4, 4)],
)
def test_side_from_dim(dim: int, groups: int, blocks: int, side: int, shared_model: Shared) -> None:
    """p = ⌊√(d / b)⌋ for the three layers of the model."""
    plan = plan_layers(shared_model("llama"), dim, groups)
    assert len(plan.blocks) == blocks
    assert plan.side == side
    assert plan.block_width == side**2
    assert plan.dim == blocks * side**2 <= dim
    assert plan.matrices == tuple(m for block in plan.blocks for m in block.matrices)


def test_a_dim_that_is_not_met_is_said_with_the_nearest_that_are(shared_model: Shared) -> None:
    model = shared_model("llama")
    plan = plan_layers(model, 2**16, 8)
    assert plan.rounding(2**16) == (
        "dim 65,536 gives 6 blocks of 104 x 104: 64,896 coordinates; "
        "a dim of 64,896 or 66,150 is filled exactly"
    )
    for dim in (64896, 66150):
        exact = plan_layers(model, dim, 8)
        assert exact.dim == dim
        assert exact.rounding(dim) == ""


def test_dim_below_the_number_of_blocks(shared_model: Shared) -> None:
    with pytest.raises(InputError, match=r"dim 5 is smaller than the number of blocks, 6; raise --dim"):
        plan_layers(shared_model("llama"), 5, 8)


def test_a_hand_made_stack_is_all_mlp() -> None:
    """Where no path says attention, matrices count as MLP; a layer may be a matrix itself."""
    found = find_matrices(wrapped(Decoder(nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 4)]))))
    assert found == (Matrix(("layers.0",), "mlp", 0, 4, (6,)), Matrix(("layers.1",), "mlp", 1, 6, (4,)))


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4)), r"no layers were found in Decoder: expected a list of layers"),
        (nn.ModuleList([nn.LayerNorm(4)]), r"no layers were found in Decoder"),
        (nn.ModuleList([Idle()]), r"no linear layers were called with autograd on in 'layers'"),
        (nn.ModuleList([Detached()]), r"no linear layers were called with autograd on in 'layers'"),
        (nn.ModuleList([Twice()]), r"'layers\.0\.shared' is called 2 times in one pass"),
        (
            nn.ModuleList([Reordered()]),
            r"'layers\.0\.linear' was given an input of shape \[6, 4\] for 2 rows of 3 tokens; "
            r"expected \[2, 3, 4\], or the same values in this order",
        ),
        (nn.ModuleList([Reordered(count=5)]), r"was given an input of shape \[5, 4\] for 2 rows of 3 tokens"),
    ],
)
def test_an_unknown_architecture(stack: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_matrices(wrapped(Decoder(stack)))


@pytest.mark.parametrize(
    "config",
    [
        MixtralConfig(**GROUPED, num_local_experts=4, num_experts_per_tok=2),
        Qwen2MoeConfig(**GROUPED, num_experts=4, moe_intermediate_size=16),
        Qwen3MoeConfig(**GROUPED, num_experts=4, moe_intermediate_size=16),
    ],
    ids=lambda config: str(config.model_type),
)
def test_a_mixture_of_experts_is_refused(config: PreTrainedConfig) -> None:
    """Its experts are no linear modules: leaving them out would leave the model half attributed."""
    expected = r"^'model\.layers\.0\.mlp\.experts\.gate_up_proj' has shape \[4, (80|32), 24\]; only layers"
    with pytest.raises(InputError, match=expected):
        find_matrices(of_config(config))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layers_that_share_a_weight_are_refused(dtype: str) -> None:
    """In bfloat16 the first layers keep their weights, and so does whoever shares one of them."""
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    model = wrapped(Decoder(nn.ModuleList([first, second])))
    model.multiply_in(dtype)
    with pytest.raises(
        InputError, match=r"^'layers\.0\.weight' is the weight of 'layers\.1' too; models whose"
    ):
        find_matrices(model)


@pytest.mark.filterwarnings("ignore")
def test_the_shared_block_of_zamba2_is_refused() -> None:
    shared = {
        "n_mamba_heads": 4,
        "mamba_d_state": 4,
        "mamba_ngroups": 1,
        "mamba_headdim": 12,
        "chunk_size": 8,
    }
    layers = {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "hybrid_layer_ids": [1, 3],
    }
    model = of_config(Zamba2Config(**{**COMMON, **shared, **layers}, num_mem_blocks=1, adapter_rank=4))
    block = r"model\.layers\.{}\.shared_transformer\.self_attn\.q_proj"
    with pytest.raises(
        InputError, match=f"^'{block.format(1)}.weight' is the weight of '{block.format(3)}' too"
    ):
        find_matrices(model)


def test_matrices_that_run_without_autograd_are_left_out() -> None:
    """They choose what to attend to in sparse attention, and receive no gradient."""
    found = find_matrices(wrapped(Decoder(nn.ModuleList([Detached(traced=True)]))))
    assert [m.modules for m in found] == [("layers.0.traced",)]


@pytest.mark.filterwarnings("ignore")
def test_convolutions_are_not_taken_for_experts() -> None:
    config = MambaConfig(vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=1, state_size=4)
    kinds = {(m.kind, m.name.rpartition(".")[2]) for m in find_matrices(of_config(config))}
    assert ("mlp", "in_proj") in kinds


def test_watching_leaves_no_trace(tmp_path: Path, shared_model: Shared) -> None:
    model = shared_model("llama")
    find_matrices(model)
    assert not any(module._forward_pre_hooks for module in model.causal.modules())
