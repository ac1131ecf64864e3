"""Verbs that make a run and look into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from proponent.cli.options import Device, Json, Run, Seed, app, require_queries, require_writable
from proponent.errors import InputError


@app.command()
def index(
    corpus: Annotated[
        list[str],
        typer.Argument(
            help="Files (.jsonl, .jsonl.gz, .jsonl.zst, .parquet, .txt, .txt.gz), globs, a folder or "
            "hf:OWNER/NAME; then the RUN folder, last.",
            metavar="CORPUS... RUN",
        ),
    ],
    model: Annotated[str, typer.Option(help="Hugging Face model folder or hub id.")],
    dim: Annotated[int, typer.Option(help="Feature dimension.")] = 2**16,
    layer_groups: Annotated[int, typer.Option(help="Groups of layers; each gives two blocks.")] = 8,
    second_moment: Annotated[
        str, typer.Option(help="'sample', 'none', or an optimizer.pt file.", metavar="sample|none|FILE")
    ] = "sample",
    output_function: Annotated[
        str, typer.Option(help="Of the passages' tokens: loss, margin or logit.")
    ] = "loss",
    max_length: Annotated[int, typer.Option(help="Longest chunk of a passage, in tokens.")] = 512,
    batch_tokens: Annotated[int, typer.Option(help="Tokens computed at once, padding included.")] = 2048,
    damping: Annotated[
        str,
        typer.Option(
            help="Of R_train: 'oas' or 'ledoit-wolf', read off the data, or relative to its mean eigenvalue.",
            metavar="oas|ledoit-wolf|NUMBER",
        ),
    ] = "oas",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    id_field: Annotated[str | None, typer.Option(help="Field of the ids.", show_default=False)] = None,
    text_field: Annotated[str | None, typer.Option(help="Field of the text.", show_default="text")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first passages.", show_default=False)] = None,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Index a corpus: one influence gradient a passage.  Run it again to go on after an interruption."""
    if len(corpus) < 2:
        raise InputError(
            "give a corpus and, last, the folder of the run: proponent index CORPUS RUN --model M"
        )
    *sources, run = corpus
    from proponent.build.indexing import build_index
    from proponent.corpus.corpus import Corpus
    from proponent.gradients.spec import FeatureSpec
    from proponent.progress import OnStderr

    text = Corpus.read(*sources, id_field=id_field, text_field=text_field, limit=limit)
    spec = FeatureSpec(
        model=model,
        dim=dim,
        layer_groups=layer_groups,
        second_moment=second_moment,
        output=output_function,
        max_length=max_length,
        batch_tokens=batch_tokens,
        damping=_number_or_rule(damping),
        dtype=dtype,
        seed=seed,
    )
    made = build_index(text, spec, run, device, OnStderr())
    from proponent.cli.facts import print_run_summary

    print_run_summary(made)


@app.command()
def trace(
    run: Run,
    queries: Annotated[
        Path | None,
        typer.Argument(help="JSONL of queries or facts.", metavar="[QUERIES]", show_default=False),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="One prompt, instead of QUERIES.")] = None,
    target: Annotated[str | None, typer.Option(help="What the model says after it.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write result JSONL here.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Proponents and opponents a query.")] = 10,
    method: Annotated[
        str, typer.Option(help="trackstar, cosine, dot, trak, or changed: 'trackstar,hessian=none'.")
    ] = "trackstar",
    task: Annotated[
        Path | None, typer.Option(help="Queries whose shared directions are mixed out.", show_default=False)
    ] = None,
    mix: Annotated[
        str, typer.Option(help="λ of the task mix: auto, or 0 up to 1.", metavar="auto|0..1")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(help="Only the first queries.", show_default=False)] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """List the passages that pushed the model towards a target (proponents) and away from it (opponents)."""
    if queries is not None and (prompt is not None or target is not None):
        raise InputError("give either QUERIES or --prompt and --target, not both")
    if queries is None and (prompt is None or target is None):
        raise InputError("give QUERIES, or --prompt and --target")
    require_writable(output)
    from proponent.attribute.table import print_hits
    from proponent.attribute.tracing import trace as trace_queries
    from proponent.corpus.queries import Queries
    from proponent.index.run import Index
    from proponent.progress import OnStderr

    opened = Index(run)
    require_queries(queries)
    require_queries(task)
    asked = Queries.read(queries, limit=limit) if queries else Queries.of(str(prompt), str(target))
    shared = Queries.read(task) if task is not None else None
    hits = trace_queries(opened, asked, method, k, shared, mix, device)
    if (weight := hits.settings["mix"]) is not None:
        OnStderr().say(f"task mix: λ = {weight:.4f} ({'automatic' if mix == 'auto' else 'given'})")
    if output is not None:
        hits.write(output)
        OnStderr().say(f"{len(hits)} queries traced, written to {output}")
    if as_json:
        for record in hits.records():
            print(json.dumps(record, ensure_ascii=False))
    elif output is None:
        print_hits(hits, len(opened))


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A run folder or a result file.", metavar="RUN|HITS")],
    as_json: Json = False,
) -> None:
    """Tell what a run or a result file holds."""
    if not path.exists():
        raise InputError(f"{path}: no such run or result file")
    from proponent.cli.facts import hits_facts, print_results, print_run, run_facts

    is_run = path.is_dir()
    facts = run_facts(path) if is_run else hits_facts(path)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    elif is_run:
        print_run(facts)
    else:
        print_results(facts)


@app.command()
def check(run: Run) -> None:
    """Compare every file of a run with its checksum."""
    from proponent.index.run import Index

    print(f"{run}: sound, {Index(run).check()} files")


def _number_or_rule(damping: str) -> float | str:
    try:
        return float(damping)
    except ValueError:
        return damping
