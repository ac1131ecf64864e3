"""What the scripts here are given: a model, or one of random weights, and as many passages as they need."""

from __future__ import annotations

import argparse
import json
from itertools import cycle, islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from proponent.corpus.corpus import Corpus
from proponent.pretraining.passages import train_tokenizer
from proponent.pretraining.sizes import SIZES

CONTEXT = 2048


def arguments(about: str | None, *more: str) -> argparse.ArgumentParser:
    """A parser with the script's description, whose first arguments are MODEL, CORPUS and more."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help=f"model folder, or {', '.join(SIZES)}: random weights of that size")
    for name in ("corpus", *more):
        parser.add_argument(name)
    return parser


def model_folder(name: str, corpus: str, work: Path) -> str:
    """The folder of a model: NAME itself, or WORK/NAME made of random weights and the corpus's words."""
    if name not in SIZES:
        return name
    folder = work / name
    if not folder.is_dir():
        tokenizer = train_tokenizer(Corpus.read(corpus), SIZES[name].vocabulary)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(SIZES[name].config(tokenizer, CONTEXT)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


def passages(corpus: str, count: int, path: Path) -> Path:
    """Write the first ``count`` passages of a corpus to a file, going round where it has fewer."""
    with path.open("w", encoding="utf-8") as file:
        for n, example in enumerate(islice(cycle(Corpus.read(corpus)), count)):
            file.write(json.dumps({"id": f"p{n}", "text": example.text}, ensure_ascii=False) + "\n")
    return path
