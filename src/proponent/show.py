"""What a person sees in the terminal: tables of hits, facts of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proponent.attribute.attribution import Attribution, Hit, ScoredPassage
from proponent.corpus.sources import read_records
from proponent.errors import InputError
from proponent.index.mix import crossing_rank
from proponent.index.run import Index

if TYPE_CHECKING:
    from proponent.evaluate.demo import Demo
    from proponent.evaluate.evaluation import Judged

LONGEST_PASSAGE = 400


def print_hits(hits: Attribution) -> None:
    """Proponents and opponents of each query, as a table on stdout."""
    console = Console()
    for hit in hits:
        _print_hit(console, hit)


def _print_hit(console: Console, hit: Hit) -> None:
    console.print()
    console.print(Text.assemble((hit.query.prompt, "bold"), " → ", (hit.query.target, "bold green")))
    console.print(_table(hit))


def _table(hit: Hit) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    table.add_column("gold", justify="center", style="green")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    gold = hit.gold or frozenset()
    for role, style, passages in (
        ("proponents", "green", hit.proponents),
        ("opponents", "red", hit.opponents),
    ):
        for rank, passage in enumerate(passages, 1):
            mark = "✓" if passage.source in gold else ""
            table.add_row(Text(role if rank == 1 else "", style=style), *_row(passage, mark))
    return table


def _row(passage: ScoredPassage, mark: str) -> tuple[Text, Text, Text, Text]:
    text = " ".join(passage.text.split())
    if len(text) > LONGEST_PASSAGE:
        text = f"{text[:LONGEST_PASSAGE]} …"
    return Text(f"{passage.score:+.4f}"), Text(mark), Text(passage.id), Text(text)


def run_facts(path: Path) -> dict[str, Any]:
    """What a run is made of, as plain values: spec, layers found, counts, sizes and eigenvalues."""
    index = Index(path)
    values = index.eigenvalues.flatten().sort(descending=True).values
    skipped, side = index.summary["skipped"], index.manifest["side"]
    rank = crossing_rank(len(values))
    return {
        "run": str(path),
        "passages": index.manifest["corpus"]["passages"],
        "rows indexed": len(index),
        "tokens": index.summary["tokens"],
        "skipped": {
            "empty": skipped["empty"],
            "too short": skipped["too_short"],
            "gradient not finite": len(skipped["not_finite"]),
        },
        "size on disk": index.size(),
        "spec": dict(index.spec),
        "dimension": f"{index.dim} = {index.blocks} blocks x {side} x {side}",
        "layers": index.manifest["blocks"],
        "eigenvalues of damped R_train": {
            "largest": float(values[0]),
            f"rank {rank} (where an automatic λ lets them cross)": float(values[rank - 1]),
            "median": float(values.median()),
            "smallest": float(values[-1]),
        },
        "fingerprints": {name: index.manifest[name] for name in ("model", "tokenizer")}
        | {"corpus": index.manifest["corpus"]["fingerprint"]},
    }


def hits_facts(path: Path) -> dict[str, Any]:
    """What a result file holds, as plain values."""
    records = [record.fields for _, record in read_records(path)]
    if not records or "proponents" not in records[0]:
        raise InputError(f"{path}: neither a run folder nor a result file (no field 'proponents')")
    first = records[0]
    judged = [record["proponent_correct"] for record in records if "proponent_correct" in record]
    return {
        "result file": str(path),
        "queries": len(records),
        "method": first.get("method", "not said"),
        "λ of the task mix": first.get("mix"),
        "run": first.get("run"),
        "proponents a query": len(first["proponents"]),
        "opponents a query": len(first.get("opponents", [])),
        "top proponent is gold": f"{sum(bool(row and row[0]) for row in judged)} of {len(judged)} queries",
    }


def print_facts(facts: Mapping[str, Any]) -> None:
    """Plain values as an indented list on stdout."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if not isinstance(value, Mapping):
            table.add_row(name, Text(_readable(name, value)))
            continue
        for position, (key, inner) in enumerate(value.items()):
            table.add_row(name if position == 0 else "", Text(f"{key}: {_readable(key, inner)}"))
    Console(soft_wrap=False).print(table)


def _readable(name: str, value: Any) -> str:
    if name == "size on disk":
        return f"{value:,} bytes ({value / 2**20:,.1f} MiB)"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_run_summary(index: Index) -> None:
    """One line: what was indexed and where."""
    skipped = index.summary["skipped"]
    dropped = skipped["empty"] + skipped["too_short"] + len(skipped["not_finite"])
    notes = f", {dropped:,} skipped" if dropped else ""
    console = Console(soft_wrap=True)
    console.print(
        f"{index.folder.path}: {len(index):,} rows, {index.summary['tokens']:,} tokens{notes}, "
        f"{index.size() / 2**20:,.1f} MiB",
        highlight=False,
    )
    for name in skipped["not_finite"]:
        console.print(f"skipped: '{name}' gave a gradient that is not finite", highlight=False, markup=False)


def print_judged(judged: Sequence[Judged]) -> None:
    """Estimates of each file, overall and by group, then what each gains on the first."""
    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "", "queries", *judged[0].values):
        table.add_column(heading, justify="left" if not heading else "right")
    for verdict in judged:
        overall = verdict.estimates()
        table.add_row(verdict.name, "all", str(len(verdict.groups)), *map(str, overall.values()))
        for group, estimates in verdict.by_group():
            count = str(next(iter(estimates.values())).queries)
            table.add_row("", group, count, *map(str, estimates.values()), style="dim")
    for verdict in judged[1:]:
        difference = verdict.minus(judged[0])
        count = str(next(iter(difference.values())).queries)
        table.add_row(f"{verdict.name} − {judged[0].name}", "paired", count, *map(str, difference.values()))
    console.print(table)


def print_patch(found: Mapping[str, Any]) -> None:
    """Mean effects of hits and of random passages, in percentage points."""
    kind = " relative" if found["relative"] else ""
    title = (
        f"change of the target's probability in percentage points, {found['queries']} queries, "
        f"learning rate {found['learning_rate']:g}{kind}"
    )
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in found["hits"]:
        table.add_column(heading, justify="right")
    for name in ("hits", "random"):
        cells = (f"{e['mean']:+.2f} [{e['low']:+.2f}, {e['high']:+.2f}]" for e in found[name].values())
        table.add_row(name, *cells)
    Console().print(table)


def print_demo(demo: Demo, shown: int = 3) -> None:
    """A dozen facts with their top passages, then how often each method's top passage states the fact."""
    console = Console()
    for hit in demo.shown:
        _print_hit(console, Hit(hit.query, hit.proponents[:shown], hit.opponents[:1]))
    table = Table(title=f"{demo.queries} facts: does the top passage state the fact?", title_justify="left")
    table.add_column("method")
    for heading in ("top 1 gold", "MRR", "Recall@10"):
        table.add_column(heading, justify="right")
    for row in demo.retrieval:
        table.add_row(row.method, f"{row.top:.1%}", f"{row.mrr:.3f}", f"{row.recall:.3f}")
    console.print()
    console.print(table)
    console.print(f"λ of the task mix: {demo.mix:.3f} (automatic)", highlight=False)
    folder = demo.folder
    for name, place in (
        ("corpus", "corpus/"),
        ("model", "model/"),
        ("run", "run/"),
        ("results", "hits/"),
    ):
        console.print(f"{name:<8} {folder / place}", highlight=False, soft_wrap=True)
    console.print(
        f"\nnext: proponent trace {folder / 'run'} --prompt 'The capital of France is' --target Paris",
        highlight=False,
        soft_wrap=True,
    )
