"""Verbs that judge results: baselines, metrics, tail-patch, experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import proponent as pp
from proponent.cli import options
from proponent.cli.options import number, option, positive, verb
from proponent.cli.printing import resumable, show
from proponent.errors import InputError
from proponent.evaluate.experiments.catalogue import EXPERIMENTS, named
from proponent.progress import OnStderr

GOLD = (
    "one JSON object a line with fact_id (the query's id), relation, entity0, entity1, their _uri and "
    "predicate_uri, prompt0 and trex_sentences, a list of the ids of the passages that state the fact"
)
PAIRS = "query_id and passage_id, and a label where not every pair is gold"
SENTENCES = option("Annotated sentences, where the facts list none; again for more.", metavar="SENTENCES")
SPLIT = option("Groups: by a field, or 'correct': whether the model is right.", metavar="FIELD")
ASKED_RUN = option("Run whose model '--split correct' asks; by itself that of HITS.", metavar="RUN")
PATCHED_RUN = option("Run whose model and second moments to use; by itself that of HITS.", metavar="RUN")
RATE = positive("By itself pretraining's over its batch size, or 0.001 relative.")
OUTPUT = option("Keep the effect of every step here (JSONL).", "--output", "-o")


@verb(
    epilog=f"FACTS hold {GOLD}. Or they are pairs, in JSON lines, CSV or TSV, with {PAIRS}. SENTENCES "
    "(files, globs or folders) hold sentence_id and fact_triples, lists of three URIs. FIELD is any of a "
    "result record or of a fact, such as c4_frequency_bucket; many numbers are cut at their quartiles."
)
def evaluate(
    hits: Annotated[list[str], typer.Argument(help="Result files.", metavar="HITS...")],
    gold: Annotated[str, option("Facts with the ids of their gold passages, or pairs.", metavar="FACTS")],
    sentences: Annotated[list[str] | None, SENTENCES] = None,
    split: Annotated[str, SPLIT] = "relation",
    run: Annotated[str | None, ASKED_RUN] = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """How well result files find each query's gold passages.

    MRR, Recall@10, precision@10, AUPRC and Recall@50, with 95% bootstrap intervals, and paired
    differences from the first file.
    """
    from proponent.evaluate.evaluation import compared
    from proponent.evaluate.gold import asked_by
    from proponent.evaluate.splits import split_by

    read = {path: pp.Attribution.read(path) for path in hits}
    try:
        facts = pp.Gold.read(gold, sentences or None, asked_by(read.values()))
    except InputError as error:
        about = f"; --gold takes {GOLD}; or pairs, with {PAIRS}" if str(error).startswith(gold) else ""
        raise InputError(f"{error}{about}") from error
    group: Callable[[Any], str] | None = None
    if split == "correct":
        group = _by_correctness(read, facts, run, device)
    elif split != "relation":
        group = split_by(split, [hit for found in read.values() for hit in found], facts)
    judged = [pp.evaluate(found, facts, name, group) for name, found in read.items()]
    note = getattr(group, "note", None)
    shown = f"{compared(judged)}\n{note}" if note else compared(judged)
    show(shown, [verdict.plain() for verdict in judged] if as_json else None)


def _by_correctness(
    read: Mapping[str, pp.Attribution], facts: pp.Gold, run: str | None, device: str | None
) -> Callable[[Any], str]:
    """Ask the model of a run, or of the first file's run, the queries of this file that have gold."""
    from proponent.evaluate.correctness import by_correctness
    from proponent.evaluate.patching import run_of

    name, first = next(iter(read.items()))
    index = run_of(first, run, name)
    asked = pp.Queries.of(facts.query_of(hit) for hit in facts.common(first, name))
    return by_correctness(pp.Tracer(index, device).model, asked, OnStderr())


@verb()
def baseline(
    kind: Annotated[str, typer.Argument(help="What retrieves.", metavar="bm25|embedding|random")],
    corpus: Annotated[str, typer.Argument(help="As of 'index'.", metavar="CORPUS")],
    queries: Annotated[str, typer.Argument(help="JSONL of queries or facts.", metavar="QUERIES")],
    output: Annotated[Path, option("Write result JSONL here.", "--output", "-o", metavar="FILE")],
    k: options.K = 10,
    model: Annotated[
        str | None, option("Sentence-transformers model of 'embedding'.", metavar="MODEL")
    ] = None,
    id_field: options.IdField = None,
    text_field: options.TextField = None,
    text_as: options.TextAs = "lines",
    limit: options.Limit = None,
    seed: options.Seed = 0,
) -> None:
    """Retrieve without gradients, into the same result files."""
    from proponent.attribute.baselines import require_kind

    require_kind(kind)
    options.require_output(output, options.RESULTS, [corpus, queries])
    text = pp.Corpus.read(corpus, text_as=text_as, id_field=id_field, text_field=text_field)
    asked = pp.Queries.read(queries, limit=limit)
    pp.baseline(kind, text, asked, k, model=model, seed=seed).write(output)
    OnStderr().say(f"{len(asked)} queries, written to {output}")


@verb("tail-patch")
def tail_patch(
    hits: Annotated[str, typer.Argument(help="A result file.", metavar="HITS")],
    run: Annotated[str | None, PATCHED_RUN] = None,
    learning_rate: Annotated[float | None, RATE] = None,
    limit: options.Limit = None,
    output: Annotated[Path | None, OUTPUT] = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """How much one training step on a proponent raises the target.

    The change of the target's probability, beside that by random passages of the run.
    """
    options.require_output(output, options.EFFECTS, [hits, run])
    patch = partial(pp.tail_patch, learning_rate=learning_rate, limit=limit, output=output, device=device)
    found = patch(pp.Attribution.read(hits), run, seed=seed, name=hits, progress=OnStderr())
    show(found, found.plain() if as_json else None)


LIST = "\n".join(["Experiments:", *(f"  {name:<12} {e.about}" for name, e in EXPERIMENTS.items())])


@verb(epilog=f"\b\n{LIST}")
def experiment(
    name: Annotated[
        str | None, typer.Argument(help="Its name; without one they are listed.", metavar="[NAME]")
    ] = None,
    run: Annotated[str | None, typer.Argument(help="Folder of a finished run.", metavar="[RUN]")] = None,
    queries: Annotated[
        list[Path] | None, typer.Argument(help="Prompts and targets, for 'tasks'.", metavar="[QUERIES...]")
    ] = None,
    facts: Annotated[
        Path | None, option("Facts, with the ids of their gold passages for most.", metavar="FACTS")
    ] = None,
    sentences: Annotated[
        Path | None, option("Annotated sentences, for 'headroom'.", metavar="SENTENCES")
    ] = None,
    nli: Annotated[
        str | None, option("Judges entailment, for 'open-set' and 'headroom'.", metavar="MODEL")
    ] = None,
    model: Annotated[
        list[str] | None, option("A model to compare, for 'scaling'; again for more.", metavar="MODEL")
    ] = None,
    patch_queries: Annotated[int, number("Queries that tail-patch samples.")] = 60,
    device: options.Device = None,
    seed: options.Seed = 0,
) -> None:
    """One of the paper's tables or figures from a finished run.

    Run it again to go on after an interruption.
    """
    if name is None:
        show(LIST)
        return
    named(name)
    if run is None:
        raise InputError(f"give the run: proponent experiment {name} RUN; --help says what else it needs")
    make = partial(pp.experiment, patch_queries=patch_queries, seed=seed, device=device, progress=OnStderr())
    with resumable():
        table = make(
            name, run, facts, sentences=sentences, nli=nli, models=model or (), queries=queries or ()
        )
    show(table)


@verb()
def report(run: options.Run) -> None:
    """One self-contained HTML page of all experiments of a run."""
    show(pp.report(run))
