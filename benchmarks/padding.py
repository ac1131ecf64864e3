"""Padding: tokens that the index pass computes over tokens that count, which a row's last does not.

    python benchmarks/padding.py MODEL CORPUS... --tokens 512 1024 2048

Cuts each corpus into shards and batches as `proponent index` does with as many threads as torch has here;
needs the tokenizer alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from side_by_side import machine
from transformers import AutoTokenizer

from proponent.build.plan import cut_shards
from proponent.corpus.corpus import Corpus
from proponent.corpus.encoding import TextEncoder
from proponent.gradients.lanes import batch_schedules
from proponent.gradients.model import LanguageModel


def main() -> None:
    """Count and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("corpora", nargs="+")
    parser.add_argument("--tokens", type=int, nargs="+", default=[512, 1024, 2048])
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--limit", type=int, default=20000)
    given = parser.parse_args()
    encoder = TextEncoder(AutoTokenizer.from_pretrained(given.model))
    model = LanguageModel(None, torch.device("cpu"), encoder, None)  # schedules need no weights
    print("| corpus | rows | tokens a row | " + " | ".join(f"{t:,} a batch" for t in given.tokens) + " |")
    print("| --- | ---: | ---: |" + " ---: |" * len(given.tokens))
    for name in given.corpora:
        corpus = Corpus.read(name, limit=given.limit)
        shards = [[len(row) for row in shard.rows] for shard in cut_shards(corpus, encoder, given.max_length)]
        rows = sum(map(len, shards))
        counted = sum(map(sum, shards)) - rows
        shares = [
            f"{sum(computed(model, lengths, t) for lengths in shards) / counted:.3f}" for t in given.tokens
        ]
        print(f"| {Path(name).name} | {rows:,} | {counted / rows + 1:.1f} | {' | '.join(shares)} |")
    print(machine())


def computed(model: LanguageModel, lengths: list[int], budget: int) -> int:
    """Positions of all batches of a shard, padding included."""
    schedules = batch_schedules(model, lengths, budget)
    return sum(len(batch) * (lengths[batch[0]] - 1) for part in schedules for batch in part.batches)


if __name__ == "__main__":
    main()
