"""What a run or a result file is made of, as plain values and in words."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proponent.attribute.attribution import AVERAGED, Attribution
from proponent.errors import InputError
from proponent.evaluate.text import labelled
from proponent.index.codec import CODE_BYTES
from proponent.index.folder import is_run
from proponent.index.mix import crossing_rank
from proponent.index.run import Index
from proponent.remote import is_url

LISTED = 5  # weights that are named in the table


@dataclass(frozen=True)
class Info:
    """What a run or a result file is made of, as plain values; printed, it is a table."""

    values: Mapping[str, Any]

    def __str__(self) -> str:
        return labelled((_run_rows if "spec" in self.values else _results_rows)(self.values))


def info(path: str | os.PathLike[str]) -> Info:
    """What a run or a result file is made of; InputError for what is neither."""
    name = os.fspath(path)
    if not is_url(name) and not os.path.exists(name):
        raise InputError(f"{name}: no such run or result file")
    return Info(_of_run(name) if is_run(name) else _of_results(name))


def _of_run(path: str) -> dict[str, Any]:
    index = Index(path)
    manifest = index.manifest
    values = index.spectrum().flatten().sort(descending=True).values
    rank = crossing_rank(len(values))
    fingerprints = {"model": manifest["model"], "tokenizer": manifest["tokenizer"]}
    return {
        "run": path,
        "passages": manifest["corpus"]["passages"],
        "rows": len(index),
        "tokens": index.summary["tokens"],
        "skipped": index.summary["skipped"],
        "bytes": index.size(),
        "spec": dict(index.spec),
        "dim": index.dim,
        "blocks": index.blocks,
        "side": manifest["side"],
        "codec": manifest["codec"],
        "layers": manifest["blocks"],
        "uncovered": manifest["uncovered"],
        "eigenvalues": {
            "largest": float(values[0]),
            "crossing_rank": rank,
            "at_crossing": float(values[rank - 1]),
            "median": float(values.median()),
            "smallest": float(values[-1]),
        },
        "made_with": manifest["made_with"],
        "fingerprints": {**fingerprints, "corpus": manifest["corpus"]["fingerprint"]},
    }


def _of_results(path: str) -> dict[str, Any]:
    """None stands for what the file does not say; errors as ``Attribution.read``."""
    hits = Attribution.read(path)
    judged = [correct for hit in hits if (correct := hit.correct()) is not None]
    return {
        "results": path,
        "queries": len(hits),
        **hits.settings,
        "proponents": len(hits[0].proponents),
        "opponents": len(hits[0].opponents),
        "judged": len(judged) or None,
        "top_gold": sum(correct[0] for correct in judged) if judged else None,
    }


def _run_rows(facts: Mapping[str, Any]) -> dict[str, str | None]:
    spectrum, side, made_with = facts["eigenvalues"], facts["side"], facts["made_with"]
    versions = [f"{name} {version}" for name, version in made_with["versions"].items()]
    return {
        "run": facts["run"],
        "passages": f"{facts['passages']:,}",
        "rows": f"{facts['rows']:,} (passages, or chunks of long ones)",
        "tokens": f"{facts['tokens']:,}",
        "skipped": _skipped(**facts["skipped"]),
        "size on disk": f"{facts['bytes'] / 2**20:,.1f} MiB",
        "settings": "\n".join(f"{name}: {value}" for name, value in facts["spec"].items()),
        "dimension": f"{facts['dim']:,} = {facts['blocks']} blocks x {side} x {side}",
        "codec": _codec(facts),
        "layers": "\n".join(_readable_block(name, paths) for name, paths in facts["layers"].items()),
        "left out": _left_out(facts["uncovered"]),
        "R_train": "eigenvalues, damped: "
        + ", ".join(f"{name} {spectrum[name]:.4g}" for name in ("largest", "median", "smallest")),
        "λ": "chosen for each task at trace time, where the eigenvalues of R_train and R_eval cross: "
        f"rank {spectrum['crossing_rank']:,} (σ_train = {spectrum['at_crossing']:.4g}), "
        "or lower for a small task",
        "made with": ", ".join([f"{made_with['threads']} threads", *versions]),
        "fingerprints": ", ".join(f"{name} {hash[:12]}" for name, hash in facts["fingerprints"].items()),
    }


def _results_rows(facts: Mapping[str, Any]) -> dict[str, str | None]:
    judged, mix = facts["judged"], facts["mix"]
    return {
        "result file": facts["results"],
        "queries": f"{facts['queries']:,}",
        "method": facts["method"],
        "λ of the task mix": None if mix is None else f"{mix:.4f}",
        "run": facts["run"],
        "averaged with": ", ".join(facts.get(AVERAGED, [])) or None,
        "proponents a query": str(facts["proponents"]),
        "opponents a query": str(facts["opponents"]),
        "top proponent is gold": judged and f"{facts['top_gold']:,} of {judged:,} queries",
    }


def _codec(facts: Mapping[str, Any]) -> str:
    size = facts["spec"]["size"]
    if not size:
        return f"{facts['codec']}, {CODE_BYTES * facts['dim']:,} bytes a passage"
    return f"{facts['codec']} of {8 * size:,} coordinates of a sketch, {size:,} bytes a passage"


def _skipped(empty: int, too_short: int, not_finite: Sequence[str]) -> str:
    broken = f"{len(not_finite):,} whose gradient was not finite: {', '.join(not_finite)}"
    parts = {f"{empty:,} empty": empty, f"{too_short:,} too short": too_short, broken: not_finite}
    return "\n".join(part for part, some in parts.items() if some) or "none"


def _left_out(shares: Mapping[str, float]) -> str:
    """The first weights that have no features, largest share first, and how many more there are."""
    lines = [f"{name}: {share:.1%} of the squared gradient" for name, share in shares.items()]
    more = [f"and {len(lines) - LISTED:,} more"] if len(lines) > LISTED else []
    return "\n".join(lines[:LISTED] + more) or "none"


def _readable_block(name: str, matrices: Sequence[str]) -> str:
    """A block's matrices by layer, as ``attention 0-3: 4 layers x (q_proj+k_proj+v_proj, o_proj)``.

    matrices: full paths of the modules, those of one matrix joined by ``+``.
    """
    layers: dict[str, list[list[list[str]]]] = {}
    for matrix in matrices:
        # the number of the layer is the first that stands alone in a path
        parts = [re.split(r"\.(\d+)\.", path, maxsplit=1) for path in matrix.split("+")]
        layers.setdefault(parts[0][1], []).append([rest.split(".") for _, _, rest in parts])
    paths = [path for layer in layers.values() for matrix in layer for path in matrix]
    # names of modules that all paths begin with, but for the last of each, are left out
    shared = 0
    while len({path[shared] for path in paths}) == 1 and all(len(path) > shared + 1 for path in paths):
        shared += 1
    kinds = Counter(
        ", ".join("+".join(".".join(path[shared:]) for path in matrix) for matrix in layer)
        for layer in layers.values()
    )
    held = "; ".join(f"{n} layer{'s' * (n > 1)} x ({names})" for names, n in kinds.items())
    kind, _, span = name.partition(" ")
    first, _, last = span.partition("-")
    return f"{kind} {first if first == last else span}: {held}"
