"""Verbs that need nothing of the user but text, or not even that."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import proponent as pp
from proponent.cli import options
from proponent.cli.options import choice, number, positive, verb
from proponent.cli.printing import resumable, show
from proponent.progress import OnStderr

Sources = Annotated[
    list[str], typer.Argument(help="As of 'index'; then the MODEL folder, last.", metavar="CORPUS... MODEL")
]


@verb()
def pretrain(
    corpus: Sources,
    size: Annotated[str, choice("Of the model.", "nano", "tiny", "small", "medium", "base")] = "tiny",
    epochs: Annotated[float, positive("Passes over the corpus.")] = 14,
    checkpoints: Annotated[int, number("Evenly spaced checkpoints to keep.")] = 4,
    id_field: options.IdField = None,
    text_field: options.TextField = None,
    text_as: options.TextAs = "lines",
    limit: options.Limit = None,
    seed: options.Seed = 0,
) -> None:
    """Train a small Llama-shaped model from scratch on a corpus.

    With Adafactor, checkpoints kept.  Run it again to go on after an interruption.
    """
    how = {"text_as": text_as, "id_field": id_field, "text_field": text_field, "limit": limit}
    words = "give a corpus and, last, the model folder: proponent pretrain CORPUS MODEL"
    text, folder = options.read_sources(corpus, words, **how)
    with resumable():
        train = partial(pp.pretrain, text, folder, size, seed=seed, epochs=epochs, progress=OnStderr())
        made = train(checkpoints=checkpoints)
    counts = f"{made.parameters:,} parameters, {made.tokens:,} tokens, {made.steps:,} steps"
    show(f"{made.directory}: {counts}, loss {made.loss:.3f}")


@verb()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to put it.", metavar="[DIR]")] = Path(
        "proponent-demo"
    ),
    counterfactual: Annotated[
        bool, options.option("Train again without the passages of a dozen facts.", "--counterfactual")
    ] = False,
    seed: options.Seed = 0,
) -> None:
    """The whole way on made-up text of real facts.

    Pretrain a model, index its corpus, trace every fact and compare with BM25.
    """
    options.require_folder(directory)
    from proponent.cli.demo import print_counterfactual, print_demo
    from proponent.demo.counterfactual import counterfactual as trained_again
    from proponent.demo.story import run_demo

    with resumable():
        found = run_demo(directory, seed, OnStderr())
        if counterfactual:
            print_counterfactual(trained_again(found, seed, OnStderr()))
            return
    print_demo(found)
