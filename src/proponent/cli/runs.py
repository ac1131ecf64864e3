"""Verbs that make a run and look into it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

import proponent as pp
from proponent.cli import options, parts
from proponent.cli.options import choice, number, option, positive, verb
from proponent.cli.printing import resumable, show, show_json
from proponent.errors import InputError
from proponent.progress import OnStderr

SOURCES = (
    "Files (.jsonl, .csv, .tsv, .txt, also .gz or .zst; .parquet), globs, URLs of them, a folder or "
    "hf:OWNER/NAME; then the folder of the RUN or its URL, last."
)
MOMENTS = option(
    "From a sample, in two forms, none, or of an optimizer.pt.", metavar="sample|kronecker|none|FILE"
)
HESSIAN = choice("R_train, or the identity in its place; by itself as V is.", "train", "identity")
SIZE = option("Of a passage in the index: full, or a power of two.", metavar="64B...4KB...128KB|full")
CODES = option("Of a passage in the new index: a power of two.", metavar="64B...4KB...128KB")
LENGTH = number("Longest chunk, in tokens; by itself 512 or the model's most.", least=2)
DAMPING = option("Of R_train: a rule, or relative to its mean eigenvalue.", metavar="oas|ledoit-wolf|X")
METHOD = option(
    "trackstar, cosine, dot, trak, kronecker, exact, or one changed: 'trackstar,hessian=none'; by itself "
    "trackstar, or kronecker for a run with such moments.",
    metavar="METHOD",
)
MERGE = option("Show near-identical passages as one.", "--merge-duplicates")
CERTIFIED = option("Of a compact run: what its full run would find.", metavar="sure|PROBABILITY")
AVERAGED = option("Average with a run of another checkpoint; once for each.", metavar="RUN")
QUERIES = typer.Argument(help="JSONL of queries or facts.", metavar="[QUERIES]")
TASK = option("Queries whose shared directions are mixed out.", metavar="FILE")


@verb()
def index(
    corpus: Annotated[list[str], typer.Argument(help=SOURCES, metavar="CORPUS... RUN")],
    model: Annotated[str, option("Hugging Face model folder or hub id.", metavar="MODEL")],
    dim: Annotated[int, number("Feature dimension.")] = 2**16,
    layer_groups: Annotated[int, number("Groups of layers; each gives two blocks.")] = 8,
    second_moment: Annotated[str, MOMENTS] = "sample",
    hessian: Annotated[str | None, HESSIAN] = None,
    output_function: Annotated[str, choice("Of the passages' tokens.", "loss", "margin", "logit")] = "loss",
    max_length: Annotated[int | None, LENGTH] = None,
    batch_tokens: Annotated[int, number("Tokens computed at once, padding included.")] = 2048,
    size: Annotated[str, SIZE] = "full",
    damping: Annotated[str, DAMPING] = "oas",
    dtype: Annotated[str, choice("Of the matrix products.", "float32", "bfloat16")] = "float32",
    id_field: options.IdField = None,
    text_field: options.TextField = None,
    text_as: options.TextAs = "lines",
    limit: options.Limit = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
    workers: options.Workers = None,
    ray: options.Ray = None,
    task: parts.Task = None,
    finish: parts.Finish = False,
) -> None:
    """Index a corpus: one influence gradient a passage.

    Run it again to go on after an interruption.
    """
    how = {"text_as": text_as, "id_field": id_field, "text_field": text_field, "limit": limit}
    words = "give a corpus and, last, the folder of the run: proponent index CORPUS RUN --model M"
    text, run = options.read_sources(corpus, words, **how)
    length, added = max_length or 0, _number_or_word(damping)
    spec = pp.FeatureSpec(model, dim, layer_groups, second_moment, output=output_function, max_length=length)
    spec = replace(spec, batch_tokens=batch_tokens, damping=added, dtype=dtype, seed=seed, size=size)
    spec = _with_hessian(spec, hessian)
    with resumable():
        made = parts.build(parts.Ways(workers, ray, task, finish), text, spec, run, device, trust_remote_code)
    if made is not None:
        _show_summary(made)


def _with_hessian(spec: pp.FeatureSpec, hessian: str | None) -> pp.FeatureSpec:
    """The spec with what was asked for; InputError for damping without an R_train."""
    spec = spec if hessian is None else replace(spec, hessian=hessian)
    if spec.hessian == "identity" and spec.damping != "oas":
        raise InputError("--damping is of R_train, which this run takes for the identity; leave it out")
    return spec


@verb()
def compact(
    run: options.Run,
    output: Annotated[str, typer.Argument(help="Folder or URL of the compact run.", metavar="OUTPUT")],
    size: Annotated[str, CODES] = "4KB",
    as_json: options.Json = False,
) -> None:
    """Make a small index of a full one: a few kilobytes a passage.

    It keeps the texts, and of each row the signs of a sketch.

    Run it again to go on after an interruption.
    """
    options.require_folder(output)
    with resumable():
        made = pp.compact(run, output, size, OnStderr())
    if as_json:
        show_json(pp.info(output).values)
    else:
        _show_summary(made)


@verb()
def trace(
    run: options.Run,
    queries: Annotated[str | None, QUERIES] = None,
    prompt: Annotated[str | None, option("One prompt, instead of QUERIES.")] = None,
    target: Annotated[str | None, option("What the model says after it.")] = None,
    output: Annotated[Path | None, option("Write result JSONL here.", "--output", "-o")] = None,
    k: options.K = 10,
    method: Annotated[str | None, METHOD] = None,
    task: Annotated[str | None, TASK] = None,
    mix: Annotated[str, option("λ of the task mix, from 0 up to but not 1.", metavar="auto|X")] = "auto",
    tokens: Annotated[bool, option("Show what each token contributes.", "--tokens")] = False,
    diverse: Annotated[bool, option("Choose passages that do not repeat each other.", "--diverse")] = False,
    merge_duplicates: Annotated[bool, MERGE] = False,
    exact_top: Annotated[int | None, number("Score the best so many again without projection.")] = None,
    certified: Annotated[str | None, CERTIFIED] = None,
    within: Annotated[float | None, positive("Seconds after which a certified search stops.")] = None,
    full: options.Full = None,
    averaged_with: Annotated[list[str] | None, AVERAGED] = None,
    limit: options.Limit = None,
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    ray: options.Ray = None,
    as_json: options.Json = False,
) -> None:
    """List the passages estimated to raise and lower a target.

    Proponents are estimated to push the model towards the target, opponents away from it.
    """
    _require_one_of(queries, prompt, target)
    _require_mix(mix, task)
    options.require_output(output, options.RESULTS, [run, queries, task, *(averaged_with or ())])
    pp.Method.of(method or "trackstar")
    opened = pp.Index(run)
    asked = pp.Queries.read(queries, limit=limit) if queries else pp.Queries.of(str(prompt), str(target))
    shared = pp.Queries.read(task) if task is not None else None
    make = partial(pp.trace, tokens=tokens, diverse=diverse, merge_duplicates=merge_duplicates)
    make = partial(make, exact_top=exact_top, certified=certified, within=within, full=full)
    make = partial(make, averaged_with=averaged_with or (), ray=ray, progress=OnStderr())
    hits = make(opened, asked, method, k, shared, mix, device, trust_remote_code)
    if (weight := hits.settings["mix"]) is not None:
        OnStderr().say(f"task mix: λ = {weight:.4f} ({'automatic' if mix == 'auto' else 'given'})")
    _give_hits(hits, output, len(opened), as_json)


def _require_one_of(queries: str | None, prompt: str | None, target: str | None) -> None:
    """Raise InputError unless there is a file of queries, or a prompt with its target."""
    if queries is not None and (prompt is not None or target is not None):
        raise InputError("give either QUERIES or --prompt and --target, not both")
    if queries is None and (prompt is None or target is None):
        raise InputError("give QUERIES, or --prompt and --target")


@verb(
    epilog="The first passage is the one that supports the queries most, each further one what adds most to "
    "those before it. The file is a corpus as it stands: 'pretrain' and 'index' read it."
)
def select(
    run: options.Run,
    queries: Annotated[str, typer.Argument(help="JSONL of target queries or facts.", metavar="QUERIES")],
    budget: Annotated[int, number("Passages to choose.")],
    output: Annotated[Path | None, option("Write the subset here (JSONL).", "--output", "-o")] = None,
    per_source: Annotated[int | None, number("Chunks of one passage, at most.")] = None,
    function: Annotated[str, choice("What the set is to be good at.", "support", "log-det")] = "support",
    decay: Annotated[float, number("Weight of a query's next support.", least=0, most=1)] = 0.5,
    epsilon: Annotated[float | None, positive("Choose from random samples; loses so much.")] = None,
    method: Annotated[str | None, METHOD] = None,
    task: Annotated[str | None, TASK] = None,
    mix: Annotated[str, option("λ of the task mix, from 0 up to but not 1.", metavar="auto|X")] = "auto",
    limit: options.Limit = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Choose the passages that support a set of queries most.

    Greedily, within 1 − 1/e of the best subset of one scan's candidates (1/2 with --per-source, ε less with
    --epsilon); it says how close to the best of the whole run.
    """
    _require_mix(mix, task)
    options.require_output(output, options.SUBSET, [run, queries, task])
    pp.Method.of(method or "trackstar")
    opened, aim = pp.Index(run), pp.Aim(budget, function, decay, per_source, epsilon, seed)
    aim.check(len(opened))
    asked = pp.Queries.read(queries, limit=limit)
    shared = pp.Queries.read(task) if task is not None else None
    found = pp.select(opened, asked, aim, method, shared, mix, device, trust_remote_code, OnStderr())
    if output is not None:
        found.write(output)
    if as_json:
        for record in found.records():
            show_json(record, indent=None)
    elif output is None:
        show(str(found))
    OnStderr().say(f"{found.summary}{f', written to {output}' if output else ''}")


@verb()
def info(
    path: Annotated[str, typer.Argument(help="A run or a result file.", metavar="RUN|HITS")],
    as_json: options.Json = False,
) -> None:
    """Tell what a run or a result file holds."""
    found = pp.info(path)
    show(found, found.values if as_json else None)


@verb()
def check(
    run: options.Run,
    repair: Annotated[bool, typer.Option("--repair", help="Make what is damaged again.")] = False,
    corpus: Annotated[list[str] | None, option("What the run was made of.", metavar="CORPUS")] = None,
    id_field: options.IdField = None,
    text_field: options.TextField = None,
    text_as: options.TextAs = "lines",
    limit: options.Limit = None,
    full: options.Full = None,
    device: options.Device = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.Json = False,
) -> None:
    """Verify every file of a run, and make damaged ones again.

    Repaired files have the bytes that they had. Texts are made again of the corpus: give it, with the options
    that the run was made with, as often as it has parts.
    """
    for given, name in ((corpus, "--corpus"), (full, "--full")):
        if given and not repair:
            raise InputError(f"{name} is for a repair; add --repair, or leave it out")
    if repair:
        read = partial(pp.Corpus.read, id_field=id_field, text_field=text_field, limit=limit, text_as=text_as)
        text = read(*corpus) if corpus else None
        with resumable():
            found = pp.repair(run, text, device, OnStderr(), trust_remote_code, full)
    else:
        found = pp.check(run, OnStderr())
    show(found, found.values if as_json else None)
    if not found.sound:
        raise InputError(found.line)


def _show_summary(index: pp.Index) -> None:
    """What was indexed and where, in a line, then a line for each passage that has no finite gradient."""
    skipped, tokens = index.summary["skipped"], index.summary["tokens"]
    dropped = skipped["empty"] + skipped["too_short"] + len(skipped["not_finite"])
    notes = f", {dropped:,} skipped" if dropped else ""
    size = f"{index.size() / 2**20:,.1f} MiB"
    show(f"{index.folder.name}: {len(index):,} rows, {tokens:,} tokens{notes}, {size}")
    for name in skipped["not_finite"]:
        show(f"skipped: '{name}' gave a gradient that is not finite")


def _give_hits(hits: pp.Attribution, output: Path | None, rows: int, as_json: bool) -> None:
    """Write them where that is asked for, and show them otherwise; as JSON either way."""
    from proponent.attribute.table import print_hits

    if output is not None:
        hits.write(output)
        OnStderr().say(f"{len(hits)} queries traced, written to {output}")
    if as_json:
        for record in hits.records():
            show_json(record, indent=None)
    elif output is None:
        print_hits(hits, rows)


def _number_or_word(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _require_mix(mix: str, task: str | None) -> None:
    """Raise InputError for a λ that is none, or that has no task."""
    weight = _number_or_word(mix)
    if weight != "auto" and not (isinstance(weight, float) and 0 <= weight < 1):
        raise InputError(f"the mix is '{mix}'; give 'auto' or a number from 0 up to, not including, 1")
    if weight != "auto" and task is None:
        raise InputError(f"a mix of {mix} needs a task; give the queries of one, or leave out the mix")
