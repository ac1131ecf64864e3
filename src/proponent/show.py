"""What a person sees in the terminal: tables of hits, facts of runs."""

from __future__ import annotations

import re
import shlex
from collections import Counter
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
    from proponent.evaluate.metrics import Estimate

LONGEST_PASSAGE = 400


def print_hits(hits: Attribution, rows: int) -> None:
    """Proponents and opponents of each query, as a table on stdout.  rows: how many were searched."""
    console = Console()
    gold = any(hit.gold for hit in hits)
    for hit in hits:
        _print_hit(console, hit, gold)
    mix = hits.settings.get("mix")
    weight = "no task mix" if mix is None else f"task mix λ = {mix:.4f}"
    console.print()
    console.print(Text(f"{hits.settings['method']}, {weight}, {rows:,} rows searched", style="dim"))


def _print_hit(console: Console, hit: Hit, gold: bool, probability: float | None = None) -> None:
    """One hit under its query.  gold: whether to mark gold passages.  probability: p(target), if known."""
    header = Text.assemble((hit.query.prompt, "bold"), " → ", (hit.query.target, "bold green"))
    if probability is not None:
        header.append(f"   p = {probability:.2f}", style="dim")
    console.print()
    console.print(header)
    console.print(_table(hit, gold))


def _table(hit: Hit, gold: bool) -> Table:
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    table.add_column("score", justify="right")
    if gold:
        table.add_column("gold", justify="center", style="green")
    table.add_column("id", style="dim", overflow="fold", max_width=24)
    table.add_column("passage", overflow="fold")
    right = hit.gold or frozenset()
    for role, style, passages in (
        ("proponents", "green", hit.proponents),
        ("opponents", "red", hit.opponents),
    ):
        for rank, passage in enumerate(passages, 1):
            score, *rest = _row(passage)
            marks = [Text("✓" if passage.source in right else "")] if gold else []
            table.add_row(Text(role if rank == 1 else "", style=style), score, *marks, *rest)
    return table


def _row(passage: ScoredPassage) -> tuple[Text, Text, Text]:
    text = " ".join(passage.text.split())
    if len(text) > LONGEST_PASSAGE:
        text = f"{text[:LONGEST_PASSAGE]} …"
    return Text(f"{passage.score:+.4f}"), Text(passage.id), Text(text)


def run_facts(path: Path) -> dict[str, Any]:
    """What a run is made of, as plain values: spec, layers found, counts, sizes and eigenvalues."""
    index = Index(path)
    values = index.eigenvalues.flatten().sort(descending=True).values
    rank = crossing_rank(len(values))
    return {
        "run": str(path),
        "passages": index.manifest["corpus"]["passages"],
        "rows": len(index),
        "tokens": index.summary["tokens"],
        "skipped": {name: index.summary["skipped"][name] for name in ("empty", "too_short", "not_finite")},
        "bytes": index.size(),
        "spec": dict(index.spec),
        "dim": index.dim,
        "blocks": index.blocks,
        "side": index.manifest["side"],
        "layers": index.manifest["blocks"],
        "eigenvalues": {
            "largest": float(values[0]),
            "crossing_rank": rank,
            "at_crossing": float(values[rank - 1]),
            "median": float(values.median()),
            "smallest": float(values[-1]),
        },
        "fingerprints": {name: index.manifest[name] for name in ("model", "tokenizer")}
        | {"corpus": index.manifest["corpus"]["fingerprint"]},
    }


def hits_facts(path: Path) -> dict[str, Any]:
    """What a result file holds, as plain values; None for what it does not say."""
    records = [record.fields for _, record in read_records(path)]
    if not records or "proponents" not in records[0]:
        raise InputError(f"{path}: neither a run folder nor a result file (no field 'proponents')")
    first = records[0]
    judged = [record["proponent_correct"] for record in records if "proponent_correct" in record]
    return {
        "results": str(path),
        "queries": len(records),
        "method": first.get("method"),
        "mix": first.get("mix"),
        "run": first.get("run"),
        "proponents": len(first["proponents"]),
        "opponents": len(first.get("opponents") or []),
        "judged": len(judged) or None,
        "top_gold": sum(bool(row and row[0]) for row in judged) if judged else None,
    }


def print_run(facts: Mapping[str, Any]) -> None:
    """The facts of a run in words, on stdout."""
    spectrum = facts["eigenvalues"]
    _print_rows(
        {
            "run": facts["run"],
            "passages": f"{facts['passages']:,}",
            "rows": f"{facts['rows']:,} (passages, or chunks of long ones)",
            "tokens": f"{facts['tokens']:,}",
            "skipped": _skipped(facts["skipped"]),
            "size on disk": f"{facts['bytes'] / 2**20:,.1f} MiB",
            "settings": "\n".join(f"{name}: {value}" for name, value in facts["spec"].items()),
            "dimension": f"{facts['dim']:,} = {facts['blocks']} blocks x {facts['side']} x {facts['side']}",
            "layers": "\n".join(_readable_block(name, paths) for name, paths in facts["layers"].items()),
            "R_train": "eigenvalues, damped: "
            + ", ".join(f"{name} {spectrum[name]:.4g}" for name in ("largest", "median", "smallest")),
            "λ": "chosen for each task at trace time, where the eigenvalues of R_train and R_eval cross: "
            f"rank {spectrum['crossing_rank']:,} (σ_train = {spectrum['at_crossing']:.4g}), "
            "or lower for a small task",
            "fingerprints": ", ".join(f"{name} {hash[:12]}" for name, hash in facts["fingerprints"].items()),
        }
    )


def print_results(facts: Mapping[str, Any]) -> None:
    """The facts of a result file in words, on stdout; what it does not say is left out."""
    judged, mix = facts["judged"], facts["mix"]
    _print_rows(
        {
            "result file": facts["results"],
            "queries": f"{facts['queries']:,}",
            "method": facts["method"],
            "λ of the task mix": None if mix is None else f"{mix:.4f}",
            "run": facts["run"],
            "proponents a query": str(facts["proponents"]),
            "opponents a query": str(facts["opponents"]),
            "top proponent is gold": judged and f"{facts['top_gold']:,} of {judged:,} queries",
        }
    )


def _print_rows(rows: Mapping[str, str | None]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value is not None:
            table.add_row(name, Text(value))
    Console(soft_wrap=False).print(table)


def _skipped(skipped: Mapping[str, Any]) -> str:
    broken = skipped["not_finite"]
    parts = [
        f"{skipped['empty']:,} empty" if skipped["empty"] else "",
        f"{skipped['too_short']:,} too short" if skipped["too_short"] else "",
        f"{len(broken):,} whose gradient was not finite: {', '.join(broken)}" if broken else "",
    ]
    return "\n".join(part for part in parts if part) or "none"


def _readable_block(name: str, matrices: Sequence[str]) -> str:
    """A block's matrices by layer, as ``attention 0-3: 4 layers x (q_proj+k_proj+v_proj, o_proj)``.

    matrices: full paths of the modules, those of one matrix joined by ``+``.
    """
    layers: dict[str, list[list[str]]] = {}
    for matrix in matrices:
        # the number of the layer is the first that stands alone in a path
        parts = [re.split(r"\.(\d+)\.", path, maxsplit=1) for path in matrix.split("+")]
        layers.setdefault(parts[0][1], []).append([rest for _, _, rest in parts])
    paths = [rest for layer in layers.values() for matrix in layer for rest in matrix]
    cut = 0
    while len({path[cut:].partition(".")[0] for path in paths}) == 1 and all("." in p[cut:] for p in paths):
        cut += paths[0][cut:].index(".") + 1
    kinds = Counter(
        ", ".join("+".join(rest[cut:] for rest in matrix) for matrix in layer) for layer in layers.values()
    )
    held = "; ".join(f"{n} layer{'s' * (n > 1)} x ({names})" for names, n in kinds.items())
    kind, _, span = name.partition(" ")
    first, _, last = span.partition("-")
    return f"{kind} {first if first == last else span}: {held}"


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
    console = Console(highlight=False)
    for verdict in judged:
        rows = [("all", verdict.estimates()), *verdict.by_group()]
        _print_estimates(console, verdict.name, rows)
    for verdict in judged[1:]:
        rows = [("paired", verdict.minus(judged[0]))]
        _print_estimates(console, f"{verdict.name} minus {judged[0].name}", rows)


def _print_estimates(
    console: Console, title: str, rows: Sequence[tuple[str, Mapping[str, Estimate]]]
) -> None:
    """Rows of estimates with their intervals, under a title that may be longer than the table is wide."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for heading in ("n", *rows[0][1]):
        table.add_column(heading, justify="right")
    for group, estimates in rows:
        count = str(next(iter(estimates.values())).queries)
        cells = (f"{e.mean:.3f} [{e.low:.2f}, {e.high:.2f}]" for e in estimates.values())
        table.add_row(group, count, *cells, style="" if group in ("all", "paired") else "dim")
    console.print(title, style="bold", soft_wrap=True, markup=False)
    console.print(table)
    console.print()


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


def print_demo(demo: Demo, passages: int = 3) -> None:
    """A dozen facts with their top passages, then how often each method's top passage states the fact."""
    console = Console(highlight=False)
    every = len(demo.probabilities)
    knows = f"{demo.known:,}" if demo.known else "none"
    these = f"{len(demo.shown)} of {'them' if demo.known else 'all'}"
    console.print(
        f"The model knows {knows} of the {every:,} facts (p(target) >= 0.5).  Here are {these}, spread over "
        "the relations.  ✓ gold: the sentence was written to state this fact."
    )
    for hit in demo.shown:
        few = Hit(hit.query, hit.proponents[:passages], hit.opponents[:1])
        _print_hit(console, few, gold=True, probability=demo.probabilities[hit.query.id])
    console.print(
        f"\nDoes the top passage state the fact?  All {every:,} facts, and the {demo.known:,} known ones:",
        style="bold",
    )
    console.print(_retrieval_table(demo))
    console.print()
    console.print(
        "BM25 looks for the words of a fact, so it is strong where sentences repeat them. Influence asks "
        "which sentences moved the model, and those need not state the fact. The paper, too, found BM25 "
        "ahead at finding facts and TrackStar ahead at finding what moves the model."
    )
    console.print(f"\nλ of the task mix: {demo.mix:.3f} (automatic)")
    for name, place in (("corpus", "corpus"), ("model", "model"), ("run", "run"), ("results", "hits")):
        console.print(f"{name:<8} {demo.folder / place}", soft_wrap=True, markup=False)
    query = demo.shown[0].query
    command = ("trace", str(demo.folder / "run"), "--prompt", query.prompt, "--target", query.target)
    console.print(f"\nnext: proponent {shlex.join(command)}", soft_wrap=True, markup=False)


def _retrieval_table(demo: Demo) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("\nmethod")
    for group in ("all", "known"):
        for heading in (f"{group}\ntop 1", f"{group}\nMRR", f"{group}\nRecall@10"):
            table.add_column(heading, justify="right")
    for row in demo.retrieval:
        cells = ((f"{s.top:.1%}", f"{s.mrr:.3f}", f"{s.recall:.3f}") for s in (row.every, row.known))
        table.add_row(row.method, *(cell for group in cells for cell in group))
    return table
