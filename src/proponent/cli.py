"""The command line: one verb for each verb of the library, and one error line for bad input.

Nothing heavy is imported before a verb needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from proponent.errors import InputError

app = typer.Typer(
    name="proponent",
    help="Tell which training text made a language model say what it said.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Run = Annotated[Path, typer.Argument(help="Folder of a run, made by 'proponent index'.", metavar="RUN")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default: the best there is.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Seed = Annotated[int, typer.Option(help="Seed of everything that is random.")]


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
    batch_tokens: Annotated[int, typer.Option(help="Tokens in a batch, padding included.")] = 2048,
    damping: Annotated[float, typer.Option(help="Of R_train, relative to its mean eigenvalue.")] = 1.0,
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
    from proponent.attribute.indexing import build_index
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
        damping=damping,
        dtype=dtype,
        seed=seed,
    )
    made = build_index(text, spec, run, device, OnStderr())
    from proponent.show import print_run_summary

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
    from proponent.corpus.queries import Queries

    if queries is not None and (prompt is not None or target is not None):
        raise InputError("give either QUERIES or --prompt and --target, not both")
    if queries is not None:
        asked = Queries.read(queries, limit=limit)
    elif prompt is not None and target is not None:
        asked = Queries.of(prompt, target)
    else:
        raise InputError("give QUERIES, or --prompt and --target")
    shared = Queries.read(task) if task is not None else None
    from proponent.attribute.tracing import trace as trace_queries
    from proponent.index.run import Index
    from proponent.progress import OnStderr
    from proponent.show import print_hits

    opened = Index(run)
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
        print_hits(hits)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A run folder or a result file.", metavar="RUN|HITS")],
    as_json: Json = False,
) -> None:
    """Tell what a run or a result file holds."""
    from proponent.show import hits_facts, print_facts, run_facts

    facts = run_facts(path) if path.is_dir() else hits_facts(path)
    if as_json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print_facts(facts)


@app.command()
def check(run: Run) -> None:
    """Compare every file of a run with its checksum."""
    from proponent.index.run import Index

    print(f"{run}: sound, {Index(run).check()} files")


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
    from proponent.gradients.pretrain import pretrain as pretrain_model
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
    from proponent.evaluate.demo import run_demo
    from proponent.progress import OnStderr
    from proponent.show import print_demo

    print_demo(run_demo(directory, seed, OnStderr()))


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"error: {error.filename or 'system'}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
