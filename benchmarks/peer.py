"""The whole job by proponent and by another open implementation, EleutherAI's bergson, as two command lines.

    python benchmarks/peer.py MODEL CORPUS FACTS --peer ENVIRONMENT/bin --passages 1000 --queries 50

Second moments, R, the task mix, features, what can be searched, and 50 queries traced: processor seconds of
each whole process tree, model, passages, queries, threads and total feature dimension the same.  README.md
tells how the peer's environment is made.

bergson reads its second moments from an optimizer's state.  It is made here, by Adafactor over the first
passages, and no time of that is counted for bergson; proponent estimates its own, and that is counted.  With
``--same-state`` a second row has proponent read bergson's state as well.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from inputs import arguments, model_folder, passages
from processes import Usage, here, threads_environment, usage
from side_by_side import machine
from transformers import Adafactor, AutoTokenizer

from proponent.corpus.corpus import Corpus
from proponent.corpus.queries import Queries
from proponent.gradients.backprop import Batch
from proponent.gradients.layers import find_matrices
from proponent.gradients.model import LanguageModel, load_model

STEPS, ROWS = 16, 8  # of Adafactor, and passages in each
IGNORED = -100
JOIN = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main() -> None:
    """Make what both are given, run both, print the table."""
    given = parsed()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = with_joining_template(model_folder(given.model, given.corpus, work), work / "model")
        text = passages(given.corpus, given.passages, work / "passages.jsonl")
        asked = write_queries(given.facts, given.queries, work / "queries.jsonl")
        model = load_model(folder, device="cpu")
        modules = sum(len(matrix.modules) for matrix in find_matrices(model))
        side = round((given.dim / modules) ** 0.5)
        tokens = write_optimizer(model, text, work)
        del model
        jobs = {"proponent": own(given, folder, text, asked, work / "run")}
        if given.same_state:
            state = ("--second-moment", work / "optimizer.pt")
            jobs["proponent, bergson's state"] = own(given, folder, text, asked, work / "same", *state)
        if given.peer:
            jobs["bergson trackstar"] = [peer(given, folder, text, asked, side, work)]
        found = {name: total(commands, work, given.threads) for name, commands in jobs.items()}
    print(f"{given.model}, {given.passages:,} passages, {tokens:,} tokens, {given.queries} queries")
    dims = {"bergson trackstar": modules * side**2}
    print("| job | dimensions | wall seconds | processor seconds | of bergson's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, spent in found.items():
        share = f"{spent.cpu / found['bergson trackstar'].cpu:.2f}" if given.peer else ""
        print(f"| {name} | {dims.get(name, given.dim):,} | {spent.wall:.1f} | {spent.cpu:.1f} | {share} |")
    print(f"{given.threads} threads each; {machine()}")


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = arguments(__doc__, "facts")
    parser.add_argument("--peer", type=Path, help="python or bin folder of the environment with bergson")
    parser.add_argument("--passages", type=int, default=1000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--dim", type=int, default=2**16)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a batch")
    parser.add_argument("--same-state", action="store_true", help="also with bergson's second moments")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    return parser.parse_args()


def with_joining_template(folder: str, made: Path) -> str:
    """A folder of the same model with a chat template that joins its messages and adds nothing.

    bergson takes the gradient of a target alone only in a chat; so both see the same text and targets.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = JOIN
    tokenizer.save_pretrained(made)
    for file in [Path(folder) / "config.json", *Path(folder).glob("*.safetensors*")]:
        (made / file.name).symlink_to(file.absolute())
    return str(made)


def write_queries(facts: str, count: int, path: Path) -> Path:
    """Prompts and targets, as both read them; the space between belongs to the target."""
    with path.open("w", encoding="utf-8") as file:
        for n, query in enumerate(Queries.read(facts, limit=count)):
            fields = {"id": f"q{n}", "prompt": query.prompt, "target": f" {query.target.strip()}"}
            file.write(json.dumps(fields, ensure_ascii=False) + "\n")
    return path


def write_optimizer(model: LanguageModel, text: Path, work: Path) -> int:
    """Adafactor's state after some steps of no length on the first passages; the passages' tokens."""
    rows = [model.encoder.passage(example.text, 512) for example in Corpus.read(str(text))]
    model.causal.requires_grad_(True)
    optimizer = Adafactor(model.causal.parameters(), lr=0.0, scale_parameter=False, relative_step=False)
    for start in range(0, STEPS * ROWS, ROWS):
        part = [row for row in rows[start : start + ROWS] if len(row) > 1]
        if part:
            batch = Batch.of(part, [1] * len(part))
            labels = torch.where(batch.predicted, batch.tokens, IGNORED)
            model.causal(input_ids=batch.tokens, labels=labels, use_cache=False).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.save(optimizer.state_dict(), work / "optimizer.pt")
    return sum(map(len, rows))


def own(
    given: argparse.Namespace, folder: str, text: Path, asked: Path, run: Path, *options: str | Path
) -> list[Sequence[str | Path]]:
    """The two commands of proponent; options: more of `index`."""
    hits = run.with_suffix(".jsonl")
    index = ["index", str(text), str(run), "--model", folder, "--dim", str(given.dim), "--device", "cpu"]
    trace = ["trace", str(run), str(asked), "--task", str(asked), "--output", str(hits), "--device", "cpu"]
    proponent = here("proponent")
    return [[proponent, *index, "--batch-tokens", str(given.tokens), *options], [proponent, *trace]]


def peer(
    given: argparse.Namespace, folder: str, text: Path, asked: Path, side: int, work: Path
) -> Sequence[str | Path]:
    """The one command of bergson: unit norm, the optimizer's normaliser, R of all passages, the task mix."""
    bin_folder = given.peer if given.peer.is_dir() else given.peer.parent
    options: dict[str, object] = {
        "model": folder,
        "precision": "fp32",
        "projection_dim": side,
        "token_batch_size": given.tokens,
        "optimizer_state": work / "optimizer.pt",
        "data.dataset": text,
        "data.prompt_column": "text",
        "data.truncation": "true",
        "query.dataset": asked,
        "query.prompt_column": "prompt",
        "query.completion_column": "target",
        "unit_normalize": "true",
        "stats_sample_size": given.passages,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return [bin_folder / "bergson", "trackstar", work / "peer", *words]


def total(commands: Sequence[Sequence[str | Path]], work: Path, threads: int) -> Usage:
    """What all commands of a job take together."""
    environment = {**threads_environment(threads), "HF_HOME": str(work / "hub"), "HF_HUB_OFFLINE": "1"}
    parts = [usage(command, work / "log", environment) for command in commands]
    return Usage(sum(part.wall for part in parts), sum(part.cpu for part in parts))


if __name__ == "__main__":
    main()
