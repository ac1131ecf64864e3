"""A tiny model whose attention is counted whole, and jobs of made-up features."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from tests.index.conftest import BLOCKS, TOKENS, start_build, write_features
from tests.models import byte_tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig

from proponent.build.tasks import Build
from proponent.corpus.encoding import TextEncoder
from proponent.gradients.layers import plan_layers
from proponent.gradients.linear import multiply_fast
from proponent.gradients.model import LanguageModel
from proponent.gradients.moments import SecondMoments
from proponent.scale.shapes import FeatureShape, Job, ModelShape, shapes

VOCABULARY, DIM, GROUPS = 300, 1024, 8
# Products that unfused attention makes of all t × t pairs: two forward, four backward; a fused one makes the
# weights again, and all of half the pairs.  Operations for each position, position and attention number.
UNFUSED_FORWARD, UNFUSED_BACKWARD = 4, 8
NO_MODEL = ModelShape(
    ((2, 6), (3, 5)),
    hidden=2,
    vocabulary=10,
    attention=4,
    parameters=100,
    kept=7,
    modules=((3, 2, 1), (5,)),
    sweeps=((52, 15),),
    early=12,
)


def small_model(attention: str) -> LanguageModel:
    """A random Llama with grouped keys: ``eager`` makes attention of plain products, ``sdpa`` fuses it."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    torch.manual_seed(0)
    causal = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    multiply_fast(causal.eval().requires_grad_(False), torch.float32)
    return LanguageModel(causal, torch.device("cpu"), TextEncoder(byte_tokenizer()), 512)


def ones(model: LanguageModel) -> dict[str, SecondMoments]:
    """No second moments."""
    return {m.name: SecondMoments.ones(m) for m in plan_layers(model, DIM, GROUPS).matrices}


def job_of(model: LanguageModel, passages: int, tokens: int) -> Job:
    """So many passages in one batch of the model."""
    return Job(*shapes(model, DIM, GROUPS), passages, tokens, batch_tokens=passages * tokens)


def token_rows(count: int, tokens: int, seed: int = 0) -> list[tuple[int, ...]]:
    """Rows of random tokens."""
    draw = random.Random(seed)
    return [tuple(draw.randrange(8, 250) for _ in range(tokens)) for _ in range(count)]


def made_up(path: Path, rows: int, side: int, identity: bool = False) -> tuple[Build, Job]:
    """A build of random features of two blocks, before its later stages, and the job that it is."""
    features = torch.randn(rows, BLOCKS * side**2, generator=torch.Generator().manual_seed(0))
    job = Job(NO_MODEL, FeatureShape(BLOCKS, side, identity), rows, TOKENS)
    counts = [min(job.shard_rows, rows - first) for first in range(0, rows, job.shard_rows)]
    build = start_build(path, features, counts)
    write_features(build)
    return (replace(build, damping=None) if identity else build), job
