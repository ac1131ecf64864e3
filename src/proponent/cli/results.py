"""Verbs that judge results: baselines, metrics, tail-patch, experiments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from proponent.cli.options import Device, Json, Run, Seed, app, require_queries, require_writable
from proponent.errors import InputError


@app.command()
def evaluate(
    hits: Annotated[list[Path], typer.Argument(help="Result files.", metavar="HITS...")],
    gold: Annotated[Path, typer.Option(help="Facts with the ids of their gold passages.")],
    sentences: Annotated[
        Path | None, typer.Option(help="Annotated sentences, where the facts list none.", show_default=False)
    ] = None,
    split: Annotated[
        str, typer.Option(help="Also by 'relation', or by 'correct': whether the model gets the fact right.")
    ] = "relation",
    run: Annotated[
        Path | None, typer.Option(help="Run whose model '--split correct' asks.", show_default=False)
    ] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """MRR, Recall@10 and precision@10 of result files, with 95% intervals and paired differences."""
    from proponent.cli.scores import print_judged
    from proponent.evaluate.command import evaluate_files
    from proponent.evaluate.evaluation import as_plain
    from proponent.progress import OnStderr

    judged = evaluate_files(hits, gold, sentences, split, run, device, OnStderr())
    if as_json:
        print(json.dumps([as_plain(verdict) for verdict in judged], ensure_ascii=False, indent=2))
    else:
        print_judged(judged)


@app.command()
def baseline(
    kind: Annotated[str, typer.Argument(help="bm25, embedding or random.", metavar="bm25|embedding|random")],
    corpus: Annotated[str, typer.Argument(help="As of 'index'.")],
    queries: Annotated[Path, typer.Argument(help="JSONL of queries or facts.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Write result JSONL here.")],
    k: Annotated[int, typer.Option("-k", help="Passages a query.")] = 10,
    model: Annotated[
        str | None, typer.Option(help="Sentence-transformers model of 'embedding'.", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first queries.", show_default=False)] = None,
    seed: Seed = 0,
) -> None:
    """Retrieve without gradients, into the same result files."""
    require_writable(output)
    require_queries(queries)
    from proponent.attribute.baselines import bm25, embedding, random_passages
    from proponent.corpus.corpus import Corpus
    from proponent.corpus.queries import Queries
    from proponent.progress import OnStderr

    text, asked = Corpus.read(corpus), Queries.read(queries, limit=limit)
    kinds = {
        "bm25": lambda: bm25(text, asked, k),
        "embedding": lambda: embedding(text, asked, k, model),
        "random": lambda: random_passages(text, asked, k, seed),
    }
    if kind not in kinds:
        raise InputError(f"no baseline '{kind}'; choose one of {', '.join(kinds)}")
    kinds[kind]().write(output)
    OnStderr().say(f"{len(asked)} queries, written to {output}")


@app.command("tail-patch")
def tail_patch(
    hits: Annotated[Path, typer.Argument(help="A result file.", metavar="HITS")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="Run whose model and second moments to use; default: the one in HITS.", show_default=False
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Default: pretraining's over its batch size, or 0.001 relative.", show_default=False
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first queries.", show_default=False)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Keep the effect of every step here (JSONL).", show_default=False
        ),
    ] = None,
    device: Device = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """How much one training step on a proponent raises the target's probability, beside random passages."""
    require_writable(output)
    from proponent.cli.scores import print_patch
    from proponent.evaluate.command import patch_file
    from proponent.progress import OnStderr

    found = patch_file(hits, run, learning_rate, limit, output, device, seed, OnStderr())
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_patch(found)


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(
            help="table1, dimension, outputs, topk, correctness, lambda, damping, rate, specificity."
        ),
    ],
    run: Run,
    facts: Annotated[Path, typer.Option(help="Facts with the ids of their gold passages.")],
    patch_queries: Annotated[int, typer.Option(help="Facts that tail-patch samples.")] = 60,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """One of the paper's tables or figures from a finished run; run it again to go on."""
    from proponent.evaluate.experiments.runner import run_experiment
    from proponent.evaluate.experiments.study import Study
    from proponent.progress import OnStderr

    print(run_experiment(name, Study(run, facts, patch_queries, seed, device, OnStderr())).markdown())


@app.command()
def report(run: Run) -> None:
    """One self-contained HTML page of all experiments of a run."""
    from proponent.evaluate.experiments.report import write_report

    print(write_report(run))
