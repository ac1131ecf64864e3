"""Two small runs of a tiny model, and the slow way to every score in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

from proponent.attribute.method import Method
from proponent.build.indexing import build_index
from proponent.corpus import Corpus, Example, Query
from proponent.gradients.layers import LayerPlan, plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import unpack_moments
from proponent.gradients.spec import FeatureSpec
from proponent.index.run import Index
from tests.models import byte_tokenizer, make_model
from tests.references.gradients import exact_feature, weight_gradients

LONG = (
    "A passage that is much longer than the forty-eight tokens of a chunk, and so is cut into three of them."
)
TEXTS = {
    "paris": "The capital of France is Paris.",
    "blank": " \n",
    "rome": "Rome is the capital of Italy.",
    "long": LONG,
    "oslo": "Oslo lies in Norway.",
    "nothing": "",
    "short": "No",
    "cats": "Cats sleep all day long, dogs do not.",
    "gold": "Gold has the symbol Au.",
    "iron": "Iron has the symbol Fe.",
    "lima": "Peru's capital: Lima!",
    "last": "zzz",
}
CORPUS = Corpus.of([Example(id, text, f"memory:{id}") for id, text in TEXTS.items()])
CHUNKS = [
    "paris",
    "rome",
    "long#0",
    "long#1",
    "long#2",
    "oslo",
    "short",
    "cats",
    "gold",
    "iron",
    "lima",
    "last",
]
QUERIES = (
    Query("q0", "The capital of France is", "Paris"),
    Query("q1", "The capital of Italy is", "Rome"),
    Query("q2", "The symbol of gold is", "Au"),
)


def small_spec(model: Path, **changes: object) -> FeatureSpec:
    """Four blocks of 4 x 4: 64 dimensions."""
    settings = {"dim": 70, "layer_groups": 2, "max_length": 48, "batch_tokens": 150, "damping": 0.5}
    return FeatureSpec(model=str(model), **{**settings, **changes})  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, hidden ones too, with its bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def model_without_letter(source: Path, folder: Path, letter: str) -> Path:
    """A copy of a model in which one letter's embedding is not a number."""
    model = load_model(str(source), device="cpu")
    token = byte_tokenizer().convert_tokens_to_ids(letter)
    model.causal.get_input_embeddings().weight.data[token] = float("nan")
    model.causal.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class SlowRun:
    """A run from the definitions: exact gradients by autograd, dense matrices, eigendecompositions."""

    index: Index
    model: LanguageModel
    plan: LayerPlan
    chunks: tuple[str, ...]
    passages: Tensor
    _known: dict[object, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, index: Index, corpus: Corpus) -> SlowRun:
        spec = FeatureSpec.from_dict(index.spec)
        model = load_model(spec.model, device="cpu")
        plan = plan_layers(model, spec.dim, spec.layer_groups)
        chunks = [c for e in corpus for c in model.encoder.chunks(e, spec.max_length)]
        made = cls(index, model, plan, tuple(chunk.id for chunk in chunks), torch.empty(0))
        rows = [made._feature(chunk.tokens, 1, spec.output) for chunk in chunks]
        return cls(index, model, plan, made.chunks, torch.stack(rows))

    def _feature(self, tokens: Sequence[int], start: int, output: str) -> Tensor:
        key = (tuple(tokens), start, output)
        if key not in self._known:
            self._known[key] = self._computed(tokens, start, output)
        return self._known[key]

    def _computed(self, tokens: Sequence[int], start: int, output: str) -> Tensor:
        second_moments = {
            name: torch.outer(m.rows.double(), m.columns.double()) / m.rows.double().sum()
            for name, m in unpack_moments(self.index.moments).items()
        }
        gradients = weight_gradients(self.model, self.plan.matrices, tokens, start, output)
        return exact_feature(gradients, self.plan, second_moments, int(self.index.spec["seed"])).double()

    def query_features(self, queries: Sequence[Query], output: str) -> Tensor:
        """Features [q, d] of the targets' tokens."""
        encoded = [self.model.encoder.query(query, 48) for query in queries]
        return torch.stack([self._feature(q.tokens, q.boundary, output) for q in encoded])

    def scores(
        self, queries: Sequence[Query], method: Method, task: Sequence[Query] = (), mix: float = 0.0
    ) -> Tensor:
        """Scores [q, n] of all chunks in corpus order."""
        width, damping = self.plan.block_width, float(self.index.spec["damping"])
        G = [self.query_features(queries, method.output), self.passages]
        shared = self.query_features(task, method.output) if task else torch.zeros(1, self.plan.dim)
        roots = []
        for passages, task_part in zip(
            self.passages.split(width, 1), shared.double().split(width, 1), strict=True
        ):
            R = passages.T @ passages / len(passages)
            R = R + damping * R.diagonal().mean() * torch.eye(width, dtype=torch.float64)
            R = mix * task_part.T @ task_part / len(task_part) + (1 - mix) * R
            sigma, vectors = torch.linalg.eigh(R)
            roots.append((vectors / sigma.sqrt()) @ vectors.T)
        if method.hessian != "none":
            G = [side @ torch.block_diag(*roots) for side in G]
        if method.unit_norm:
            G = [side / side.norm(dim=1, keepdim=True) for side in G]
        return G[0] @ G[1].T


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def run(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SlowRun:
    """A run with second moments from a sample; open, with its slow twin."""
    path = tmp_path_factory.mktemp("runs") / "corrected"
    return SlowRun.of(build_index(CORPUS, small_spec(model_folder), path, "cpu"), CORPUS)


@pytest.fixture(scope="session")
def plain_run(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> SlowRun:
    """The same without second moments."""
    path = tmp_path_factory.mktemp("runs") / "plain"
    spec = small_spec(model_folder, second_moment="none")
    return SlowRun.of(build_index(CORPUS, spec, path, "cpu"), CORPUS)
