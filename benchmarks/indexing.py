"""Indexing against training: seconds of the index pass over seconds of plain training steps.

    python benchmarks/indexing.py MODEL CORPUS --dim 65536 --tokens 512 1024 2048

takes the first passages of a corpus and, in turn, in one run and with so many tokens at once:

- trains: forward with the model's own loss, backward with the gradients of all weights, no optimizer;
- goes forward and back with respect to activations alone, which is the least that a gradient costs;
- indexes: the same, projected features with the second-moment correction, and a shard of them on disk.

The first two take one batch of so many tokens at a time, all threads together; indexing takes as many in
batches side by side, one a thread, which is its own gain.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from builds import extractor, index_again, staged
from inputs import arguments, model_folder
from side_by_side import in_turn, machine, ratio

from proponent.build.plan import StagedShard, cut_shards
from proponent.corpus.batches import batches
from proponent.corpus.corpus import Corpus
from proponent.gradients.backprop import Batch, backpropagate
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.placement import sent
from proponent.gradients.sweep import captured

IGNORED = -100  # the label that Hugging Face's losses pass over


def main() -> None:
    """Measure every batch size and print the table."""
    parser = arguments(__doc__)
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--count", type=int, default=4096, help="tokens of the corpus that are taken")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--plain", action="store_true", help="index by torch's own products, as training does"
    )
    given = parser.parse_args()
    plain = patch("proponent.products._HAS_ONEDNN", False) if given.plain else nullcontext()
    with tempfile.TemporaryDirectory() as folder, plain:
        model = load_model(model_folder(given.model, given.corpus, Path(folder)), device="cpu")
        parameters = sum(p.numel() for p in model.causal.parameters())
        model.multiply_in(given.dtype)
        shard = head(given.corpus, model, given.count)
        print(
            f"{Path(given.model).name}, {parameters / 1e6:.1f}M parameters; {len(shard.rows)} passages, ",
            end="",
        )
        print(f"{shard.tokens:,} tokens; d = {given.dim:,}, {given.dtype}; tokens a second\n")
        print("| batch | training | activations alone | indexing | alone / training | indexing / training |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for tokens in given.tokens:
            run = Path(folder) / f"run{tokens}"
            found = in_turn(ways(model, shard, given.dim, tokens, run), given.rounds)
            rates = [f"{shard.tokens / sorted(times)[len(times) // 2]:,.0f}/s" for times in found.values()]
            shares = [f"{ratio(found, way, 'training'):.2f}" for way in ("alone", "indexing")]
            print(f"| {tokens:,} | {' | '.join(rates + shares)} |", flush=True)
    print(f"\n{machine()}")


def head(corpus: str, model: LanguageModel, count: int) -> StagedShard:
    """The first passages of a corpus that hold ``count`` tokens, as one shard."""
    whole = next(iter(cut_shards(Corpus.read(corpus), model.encoder, 512)))
    shard = StagedShard()
    for passage, row, start in zip(whole.passages, whole.rows, whole.starts, strict=True):
        if shard.tokens + len(row) > count:
            break
        shard.passages.append(passage)
        shard.rows.append(row)
        shard.starts.append(start)
        shard.tokens += len(row)
    return shard


def ways(
    model: LanguageModel, shard: StagedShard, dim: int, tokens: int, folder: Path
) -> dict[str, Callable[[], object]]:
    """The three ways to go over the shard in batches of so many tokens."""
    plan = plan_layers(model, dim, 8)
    build = staged(folder, [shard], extractor(model, plan, shard, tokens))

    def parts() -> Iterable[Batch]:
        for members in batches([len(row) for row in shard.rows], tokens):
            yield Batch.of([shard.rows[n] for n in members], [shard.starts[n] for n in members])

    def alone() -> None:
        for batch in parts():
            with captured(model, plan.matrices, [], len(batch.tokens)):
                backpropagate(model, batch)

    def training() -> None:
        model.causal.requires_grad_(True)
        for batch in parts():
            train(model, batch)
        model.causal.zero_grad()
        model.causal.requires_grad_(False)

    def indexing() -> None:
        index_again(build)

    return {"training": training, "alone": alone, "indexing": indexing}


def train(model: LanguageModel, batch: Batch) -> None:
    """Forward with the model's own loss and backward to all weights."""
    labels = torch.where(batch.predicted, batch.tokens, IGNORED)
    tokens, labels = (sent(part, model.device) for part in (batch.tokens, labels))
    model.causal.zero_grad()
    model.causal(input_ids=tokens, labels=labels, use_cache=False).loss.backward()


if __name__ == "__main__":
    main()
