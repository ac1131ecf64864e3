"""On a CUDA card: indexing against a training step, how much of the card's peak is used, and search.

    python benchmarks/on_cuda.py MODEL --dim 65536 --tokens 8192

For MODEL and for the largest of some Llama shapes that fits the card, with random weights: tokens a second of
training steps (forward and backward to all weights, no optimizer) and of indexing with a shard written, over
the same random rows in turn; and operations by the cost model over seconds and over the card's dense bfloat16
peak.  Then scans of an index by the processor, and by the card that holds its codes, beside the card's own
product of as many float16 codes and the bandwidth of its memory.  Without a card it says so in one line.
``--device cpu`` tries the script itself, with MODEL alone.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from indexing import ways
from search import random_shard, unwhitened
from side_by_side import in_turn, machine
from transformers import AutoModelForCausalLM, LlamaConfig

from proponent.attribute.held import ROWS
from proponent.build.plan import StagedShard
from proponent.corpus.encoding import TextEncoder
from proponent.gradients.model import LanguageModel, load_model
from proponent.index.codec import HeldRows
from proponent.index.run import Passage
from proponent.index.scores import InnerProduct, QueryScan, QueryTerms
from proponent.index.search import Found, Shard, search
from proponent.scale import cost
from proponent.scale.machines import ACCELERATORS, Accelerator
from proponent.scale.shapes import shapes

# Hidden size, size inside the MLP, layers, heads, heads of keys and values; the largest first.
LLAMAS = {
    "8B": (4096, 14_336, 32, 32, 8),
    "3B": (3072, 8192, 28, 24, 8),
    "1B": (2048, 8192, 16, 32, 8),
}
LENGTH, BATCHES, ROUNDS = 512, 4, 5
TRAINED = 8  # bytes of a parameter and its gradient
ROOM = 0.8  # of the card's free memory
SHARDS = 8  # of 512 rows that are scanned
QUERIES = (1, 64)


def main() -> None:
    """Measure, or say that there is no card."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=8192, help="computed at once")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA card is here, so nothing is measured")
        return
    model = load_model(given.model, given.device)
    print("| model | training | indexing | indexing / training | of the peak: training | indexing |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    print(compared(Path(given.model).name, model, given), flush=True)
    encoder, device = model.encoder, model.device
    del model
    if device.type == "cuda":
        name, config = largest(torch.cuda.mem_get_info(device)[0])
        print(compared(f"{name}, random", random_model(config, device, encoder), given), flush=True)
    scanned(device, given.dim)
    print(machine())


def largest(free: int) -> tuple[str, LlamaConfig]:
    """The largest shape whose parameters and gradients in float32 fit into so many bytes."""
    for name, (hidden, mlp, layers, heads, shared) in LLAMAS.items():
        config = LlamaConfig(
            vocab_size=128_256,
            hidden_size=hidden,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=shared,
            tie_word_embeddings=name != "8B",
        )
        with torch.device("meta"):
            parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if TRAINED * parameters <= ROOM * free or name == list(LLAMAS)[-1]:
            break
    return name, config


def random_model(config: LlamaConfig, device: torch.device, encoder: TextEncoder) -> LanguageModel:
    """A model of random weights, made on the device."""
    with device:
        causal = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model = LanguageModel(causal.eval().requires_grad_(False), device, encoder, None)
    model.multiply_in("float32")
    return model


def compared(name: str, model: LanguageModel, given: argparse.Namespace) -> str:
    """A row of the table: tokens a second, their ratio, and shares of the card's peak."""
    shape, features = shapes(model, given.dim, 8)
    model.multiply_in(given.dtype)
    shard = random_rows(model, max(2, BATCHES * given.tokens // LENGTH))
    with tempfile.TemporaryDirectory() as folder:
        every = ways(model, shard, given.dim, given.tokens, Path(folder) / "run")
        found = in_turn({way: waited(every[way], model.device) for way in ("training", "indexing")}, ROUNDS)
    training, indexing = (sorted(found[way])[ROUNDS // 2] for way in ("training", "indexing"))
    rows, peak = len(shard.rows), peak_of(model.device)
    trained = 3 * cost.forward_operations(shape, LENGTH, LENGTH - 1)
    indexed = cost.gradient_operations(shape, LENGTH) + cost.feature_operations(shape, features, LENGTH)
    shares = [
        f"{rows * each / spent / peak:.1%}" if peak else ""
        for each, spent in ((trained, training), (indexed, indexing))
    ]
    rates = [f"{shard.tokens / spent:,.0f}/s" for spent in (training, indexing)]
    return f"| {name} | {' | '.join([*rates, f'{indexing / training:.2f}', *shares])} |"


def random_rows(model: LanguageModel, count: int) -> StagedShard:
    """A shard of rows of random tokens."""
    draw, passages = random.Random(0), [Passage(str(n), str(n), "text") for n in range(count)]
    rows = [tuple(draw.randrange(8, model.vocabulary) for _ in range(LENGTH)) for _ in range(count)]
    return StagedShard(passages, rows, [1] * count, LENGTH * count)


def waited(work: Callable[[], object], device: torch.device) -> Callable[[], object]:
    """The same work, done when the device is done."""

    def done() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return done


def card_of(device: torch.device) -> Accelerator | None:
    """The card's data sheet, where its figures are known."""
    if device.type != "cuda":
        return None
    called = torch.cuda.get_device_name(device)
    return next((card for name, card in ACCELERATORS.items() if name in called), None)


def peak_of(device: torch.device) -> float | None:
    """Dense bfloat16 operations a second of the card."""
    card = card_of(device)
    return card.bfloat16 if card else None


def bandwidth_of(device: torch.device) -> float | None:
    """Bytes a second of the card's memory."""
    card = card_of(device)
    return card.bandwidth if card else None


def found_on(held: Shard, scan: QueryScan) -> Found:
    """A search of rows that a device holds, as a trace does it."""
    return search(held.parts(ROWS), scan, 10)


def scanned(device: torch.device, dim: int) -> None:
    """Bytes of codes a second: of a scan by the processor and one by the device, and of a product there.

    The product is of the codes as they are, in float16, which is what reading them costs at least.
    """
    shards = [random_shard(first * 512, dim) for first in range(SHARDS)]
    codes, scale, norms = (
        torch.cat([getattr(shard.rows, name) for shard in shards]) for name in ("codes", "scale", "norms")
    )
    rows = HeldRows(codes.to(device), scale, norms)
    held = Shard(0, rows, norms)
    peak, size = bandwidth_of(device), codes.nbytes / 1e9
    print("| queries | processor, GB/s | device, GB/s | product there, GB/s | device / its memory |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for count in QUERIES:
        vectors = torch.randn(count, dim)
        scan = QueryScan(QueryTerms(vectors, unwhitened(dim)), InnerProduct("train", unit_norm=True))
        query = vectors.to(device, torch.float16)
        works: dict[str, Callable[[], object]] = {
            "processor": partial(search, shards, scan, 10),
            "device": partial(found_on, held, scan),
            "product": waited(partial(torch.matmul, rows.codes, query.T), device),
        }
        found = in_turn(works, ROUNDS)
        rates = [size / sorted(found[way])[ROUNDS // 2] for way in works]
        share = f"{rates[1] * 1e9 / peak:.1%}" if peak else ""
        print(f"| {count} | {' | '.join(f'{rate:.1f}' for rate in rates)} | {share} |")


if __name__ == "__main__":
    main()
