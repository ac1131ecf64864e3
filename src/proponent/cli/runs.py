"""Verbs that make a run and look into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proponent.cli import options
from proponent.cli.options import choice, number, option, verb
from proponent.cli.printing import resumable, show, show_json
from proponent.errors import InputError
from proponent.progress import OnStderr

if TYPE_CHECKING:
    from proponent.index.run import Index


@verb()
def index(
    corpus: Annotated[
        list[str],
        typer.Argument(
            help="Files (.jsonl, .csv, .tsv, .txt, also .gz or .zst; .parquet), globs, a folder or "
            "hf:OWNER/NAME; then the RUN folder, last.",
            metavar="CORPUS... RUN",
        ),
    ],
    model: Annotated[str, option("Hugging Face model folder or hub id.", metavar="MODEL")],
    dim: Annotated[int, number("Feature dimension.")] = 2**16,
    layer_groups: Annotated[int, number("Groups of layers; each gives two blocks.")] = 8,
    second_moment: Annotated[
        str, option("From a sample, none, or an optimizer.pt.", metavar="sample|none|FILE")
    ] = "sample",
    output_function: Annotated[str, choice("Of the passages' tokens.", "loss", "margin", "logit")] = "loss",
    max_length: Annotated[
        int | None, number("Longest chunk, in tokens; by itself 512 or the model's most.", least=2)
    ] = None,
    batch_tokens: Annotated[int, number("Tokens computed at once, padding included.")] = 2048,
    damping: Annotated[
        str,
        option("Of R_train: a rule, or relative to its mean eigenvalue.", metavar="oas|ledoit-wolf|X"),
    ] = "oas",
    dtype: Annotated[str, choice("Of the matrix products.", "float32", "bfloat16")] = "float32",
    id_field: options.IdField = None,
    text_field: options.TextField = None,
    text_as: options.TextAs = "lines",
    limit: options.Limit = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Index a corpus: one influence gradient a passage.

    Run it again to go on after an interruption.
    """
    if len(corpus) < 2:
        raise InputError(
            "give a corpus and, last, the folder of the run: proponent index CORPUS RUN --model M"
        )
    *sources, run = corpus
    options.require_folder(run)
    from proponent.corpus.corpus import Corpus

    text = Corpus.read(*sources, text_as=text_as, id_field=id_field, text_field=text_field, limit=limit)
    from proponent.build.indexing import build_index
    from proponent.gradients.spec import FeatureSpec

    spec = FeatureSpec(
        model=model,
        dim=dim,
        layer_groups=layer_groups,
        second_moment=second_moment,
        output=output_function,
        max_length=max_length or 0,
        batch_tokens=batch_tokens,
        damping=_number_or_word(damping),
        dtype=dtype,
        seed=seed,
    )
    with resumable():
        made = build_index(text, spec, run, device, OnStderr(), trust_remote_code)
    _show_summary(made)


@verb()
def trace(
    run: options.Run,
    queries: Annotated[
        Path | None, typer.Argument(help="JSONL of queries or facts.", metavar="[QUERIES]")
    ] = None,
    prompt: Annotated[str | None, option("One prompt, instead of QUERIES.")] = None,
    target: Annotated[str | None, option("What the model says after it.")] = None,
    output: Annotated[Path | None, option("Write result JSONL here.", "--output", "-o")] = None,
    k: options.K = 10,
    method: Annotated[
        str,
        option("trackstar, cosine, dot, trak, or one changed: 'trackstar,hessian=none'.", metavar="METHOD"),
    ] = "trackstar",
    task: Annotated[Path | None, option("Queries whose shared directions are mixed out.")] = None,
    mix: Annotated[str, option("λ of the task mix, from 0 up to but not 1.", metavar="auto|X")] = "auto",
    limit: options.Limit = None,
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """List the passages that raised and lowered a target.

    Proponents pushed the model towards the target, opponents away from it.
    """
    if queries is not None and (prompt is not None or target is not None):
        raise InputError("give either QUERIES or --prompt and --target, not both")
    if queries is None and (prompt is None or target is None):
        raise InputError("give QUERIES, or --prompt and --target")
    _require_mix(mix, task)
    options.require_output(output, options.RESULTS, [run, queries, task])
    from proponent.attribute.method import Method
    from proponent.corpus.queries import Queries
    from proponent.index.run import Index

    Method.of(method)
    opened = Index(run)
    options.require_queries(queries)
    options.require_queries(task)
    asked = Queries.read(queries, limit=limit) if queries else Queries.of(str(prompt), str(target))
    shared = Queries.read(task) if task is not None else None
    from proponent.attribute.table import print_hits
    from proponent.attribute.tracing import trace as trace_queries

    hits = trace_queries(opened, asked, method, k, shared, mix, device, trust_remote_code)
    if (weight := hits.settings["mix"]) is not None:
        OnStderr().say(f"task mix: λ = {weight:.4f} ({'automatic' if mix == 'auto' else 'given'})")
    if output is not None:
        hits.write(output)
        OnStderr().say(f"{len(hits)} queries traced, written to {output}")
    if as_json:
        for record in hits.records():
            show_json(record, indent=None)
    elif output is None:
        print_hits(hits, len(opened))


@verb()
def info(
    path: Annotated[Path, typer.Argument(help="A run folder or a result file.", metavar="RUN|HITS")],
    as_json: options.Json = False,
) -> None:
    """Tell what a run or a result file holds."""
    from proponent.evaluate.info import info as look

    found = look(path)
    if as_json:
        show_json(found.values)
    else:
        show(found)


@verb()
def check(run: options.Run) -> None:
    """Compare every file of a run with its checksum."""
    from proponent.evaluate.info import check as compare

    show(f"{run}: sound, {compare(run)} files")


def _show_summary(index: Index) -> None:
    """What was indexed and where, in a line, then a line for each passage that has no finite gradient."""
    skipped = index.summary["skipped"]
    dropped = skipped["empty"] + skipped["too_short"] + len(skipped["not_finite"])
    notes = f", {dropped:,} skipped" if dropped else ""
    show(
        f"{index.folder.path}: {len(index):,} rows, {index.summary['tokens']:,} tokens{notes}, "
        f"{index.size() / 2**20:,.1f} MiB"
    )
    for name in skipped["not_finite"]:
        show(f"skipped: '{name}' gave a gradient that is not finite")


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _require_mix(mix: str, task: Path | None) -> None:
    """Raise InputError for a λ that is none, or that has no task."""
    weight = _number_or_word(mix)
    if weight != "auto" and not (isinstance(weight, float) and 0 <= weight < 1):
        raise InputError(f"the mix is '{mix}'; give 'auto' or a number from 0 up to, not including, 1")
    if weight != "auto" and task is None:
        raise InputError(f"a mix of {mix} needs a task; give the queries of one, or leave out the mix")
