"""Verbs that need nothing of the user but text, or not even that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from proponent.cli.options import Seed, app
from proponent.errors import InputError


@app.command()
def pretrain(
    corpus: Annotated[
        list[str],
        typer.Argument(help="As of 'index'; then the MODEL folder, last.", metavar="CORPUS... MODEL"),
    ],
    size: Annotated[str, typer.Option(help="tiny, small, medium or base.")] = "tiny",
    epochs: Annotated[float, typer.Option(help="Passes over the corpus.")] = 14,
    id_field: Annotated[str | None, typer.Option(help="Field of the ids.", show_default=False)] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of the text.", show_default="text")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first passages.", show_default=False)] = None,
    seed: Seed = 0,
) -> None:
    """Train a small Llama-shaped model from nothing on a corpus, with Adafactor, checkpoints kept."""
    if len(corpus) < 2:
        raise InputError("give a corpus and, last, the model folder: proponent pretrain CORPUS MODEL")
    *sources, folder = corpus
    from proponent.corpus.corpus import Corpus
    from proponent.demo.pretrain import pretrain as pretrain_model
    from proponent.progress import OnStderr

    text = Corpus.read(*sources, id_field=id_field, text_field=text_field, limit=limit)
    made = pretrain_model(text, folder, size, seed=seed, epochs=epochs, progress=OnStderr())
    print(
        f"{made.directory}: {made.parameters:,} parameters, {made.tokens:,} tokens, {made.steps:,} steps, "
        f"loss {made.loss:.3f}"
    )


@app.command()
def demo(
    directory: Annotated[Path, typer.Argument(help="Where to put it.", metavar="[DIR]")] = Path(
        "proponent-demo"
    ),
    seed: Seed = 0,
) -> None:
    """The whole way on made-up text of real facts: pretrain, index, trace, compare with BM25."""
    from proponent.cli.scores import print_demo
    from proponent.demo.story import run_demo
    from proponent.progress import OnStderr

    print_demo(run_demo(directory, seed, OnStderr()))
