"""What runs and result files are made of, as plain values and as lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proponent.corpus.sources import read_records
from proponent.errors import InputError
from proponent.index.mix import crossing_rank
from proponent.index.run import Index


def run_facts(path: Path) -> dict[str, Any]:
    """What a run is made of, as plain values: spec, layers found, counts, sizes and eigenvalues."""
    index = Index(path)
    values = index.spectrum().flatten().sort(descending=True).values
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
