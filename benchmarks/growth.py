"""How cost grows: passages, their length, the feature dimension, the model, queries, beside the formulas.

    python benchmarks/growth.py small medium CORPUS

Every line is measured on rows of random tokens; the corpus only gives the random models their vocabulary.
The cost model (``proponent.scale``) counts operations from shapes; the rate of each stage is taken from one
line, the reference or the first of its table, and every other line is predicted with these rates.  An
exponent is the slope of a line through log seconds over log size, as measured and as predicted.  Cholesky
factors and eigenvalues are timed on one block of R and multiplied by the number of blocks, which are equal.
Searches are of random rows in memory, of blocks of 1,024 coordinates.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from asked import best, patched, random_rows, searched
from inputs import model_folder
from side_by_side import machine
from stages import FACTORS, GRADIENTS, MOMENTS, SUMS, WHITENING, StageClock

from proponent.build.indexing import build_index
from proponent.corpus.corpus import Corpus
from proponent.gradients.features import FeatureExtractor, extract
from proponent.gradients.layers import plan_layers
from proponent.gradients.model import LanguageModel, load_model
from proponent.gradients.moments import fold_moments, sample_moments
from proponent.gradients.spec import FeatureSpec
from proponent.gradients.sweep import Sweep
from proponent.index.hessian import HessianBlock, HessianSum, split_blocks
from proponent.index.whitening import BlockWhitening, Whitening
from proponent.scale.cost import disk_bytes
from proponent.scale.shapes import Job, shapes
from proponent.scale.stages import build_stages

BATCH_TOKENS = 2048
PASS_TOKENS = 4096  # in each timed pass
ROWS = 512  # in each timed sum of R
SAMPLE_TOKENS = 2048  # of the timed second moments
PARTS = ("lengths", "dims", "passages", "search", "tail-patch")
NAMES = {  # the cost model's names of the clock's stages
    GRADIENTS: "gradients",
    MOMENTS: "second moments",
    SUMS: "R",
    FACTORS: "factors",
    WHITENING: "whitening",
}


@dataclass(frozen=True)
class Case:
    """One line: a model, the feature dimension, the length of passages and their number, and queries."""

    model: str
    dim: int
    tokens: int
    passages: int
    queries: int = 0


@dataclass(frozen=True)
class Line:
    """A measured case: seconds of each stage of ``passages`` passages, and the operations in them."""

    case: Case
    seconds: dict[str, float]
    counted: dict[str, int]
    disk: int


def main() -> None:
    """Measure every line and print the tables."""
    given = parsed()
    reference = Case(given.model, given.base_dim, 128, 1000)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folders = {m: model_folder(m, given.corpus, work) for m in (given.model, given.second)}
        models = {name: load_model(folder, device="cpu") for name, folder in folders.items()}
        made: dict[Case, Line] = {}

        def line(**changes: Any) -> Line:
            case = replace(reference, **changes)
            if case not in made:
                made[case] = measure(models[case.model], case)
            return made[case]

        if {"lengths", "dims"} & set(given.parts):
            rates = Rates.measured(line().counted, line().seconds)
            spoken = ", ".join(f"{stage} {rate / 1e9:.0f}" for stage, rate in rates.by_stage.items())
            print(f"Rates of the reference ({reference}), billion operations a second: {spoken}")
        for model in models if "lengths" in given.parts else ():
            at = [line(model=model, tokens=tokens) for tokens in given.lengths]
            show(f"length, {model}", "tokens", at, lambda c: c.tokens, rates, ("gradients", "second moments"))
        if "dims" in given.parts:
            at = [line(dim=dim) for dim in given.dims]
            stages = ("gradients", "R", "factors", "whitening")
            show(f"dimension, {given.model}", "d", at, lambda c: c.dim, rates, stages)
        if "passages" in given.parts:
            show_builds(given, models, folders, work)
        if "search" in given.parts:
            show_searches(given)
        if "tail-patch" in given.parts:
            show_steps(given, models[given.model])
    print(machine())


def show_builds(
    given: argparse.Namespace, models: dict[str, LanguageModel], folders: dict[str, str], work: Path
) -> None:
    """A table of whole builds by the number of passages."""
    small = Case(given.model, given.build_dim, 32, 0)
    at = [built(models, folders, replace(small, passages=n), work) for n in given.passages]
    rates = Rates.measured(at[0].counted, at[0].seconds)
    title = f"passages, {given.model}, whole builds, rates of the first line"
    show(title, "passages", at, lambda c: c.passages, rates, tuple(rates.by_stage))


def show_steps(given: argparse.Namespace, model: LanguageModel) -> None:
    """A table of tail-patches by the length of passages."""
    cases = [Case(given.model, 0, tokens, 16) for tokens in given.lengths]
    at = [asked_line(case, *patched(model, case.tokens)) for case in cases]
    rates = Rates.measured(at[0].counted, at[0].seconds)
    title = f"tail-patch of 16 pairs, {given.model}, rates of the first line"
    show(title, "tokens", at, lambda c: c.tokens, rates, tuple(rates.by_stage))


def show_searches(given: argparse.Namespace) -> None:
    """A table for each of passages, d and queries, the other two as they are in the first."""
    first = Case("", given.base_dim, 128, given.rows[0], given.queries[0])
    ways: dict[str, tuple[Sequence[int], Callable[[Case], int]]] = {
        "passages": (given.rows, lambda case: case.passages),
        "dim": ([dim for dim in given.dims if dim >= 2**11], lambda case: case.dim),
        "queries": (given.queries, lambda case: case.queries),
    }
    for name, (sizes, size) in ways.items():
        changes: list[dict[str, Any]] = [{name: count} for count in sizes]
        cases = [replace(first, **change) for change in changes]
        at = [asked_line(case, *searched(case.passages, case.dim, case.queries)) for case in cases]
        own = Rates.measured(at[0].counted, at[0].seconds)
        others = f"{first.passages:,} passages, d = {first.dim:,}, {first.queries} queries"
        title = f"search by {name}, else of {others}; rates of the first line"
        show(title, name, at, size, own, tuple(own.by_stage))


def asked_line(case: Case, spent: dict[str, float], counted: dict[str, int]) -> Line:
    """A line of what is asked of an index; nothing is written."""
    return Line(case, spent, counted, 0)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("model", "second", "corpus"):
        parser.add_argument(name)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--lengths", type=int, nargs="+", default=[32, 128, 512, 1024])
    parser.add_argument("--dims", type=int, nargs="+", default=[2**10, 2**12, 2**14, 2**16])
    parser.add_argument("--passages", type=int, nargs="+", default=[1000, 5000, 20000])
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 2048, 4096], help="of searches")
    parser.add_argument("--queries", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--base-dim", type=int, default=2**14, help="d where lengths and models vary")
    parser.add_argument("--build-dim", type=int, default=2**12, help="d where passages vary")
    return parser.parse_args()


def measure(model: LanguageModel, case: Case) -> Line:
    """Time each stage on as much as tells its rate, and scale it to the case's passages."""
    plan = plan_layers(model, case.dim, 8)
    job = Job(*shapes(model, case.dim, 8), case.passages, case.tokens, batch_tokens=BATCH_TOKENS)
    features = job.features
    rows = random_rows(model, case.tokens, max(2, PASS_TOKENS // case.tokens))
    some = rows[: max(2, SAMPLE_TOKENS // case.tokens)]
    sweep = Sweep(model, plan.matrices, BATCH_TOKENS)
    moments = sample_moments(sweep, some, [1] * len(some))
    extractor = FeatureExtractor(model, plan, fold_moments(plan, moments, 0), BATCH_TOKENS)
    drawn = torch.randn(ROWS, plan.dim)
    sums = [HessianSum.empty(features.width) for _ in plan.blocks]
    sample = min(job.sample, case.passages)
    times = {
        "gradients": best(lambda: extract([extractor], rows, [1] * len(rows), "loss")) / len(rows),
        "R": best(lambda: add(sums, drawn)) / ROWS,
    }
    block = HessianBlock(torch.cov(torch.randn(features.width, 2 * features.width)), ROWS, 1.0)
    whitening = Whitening((BlockWhitening.of(block, 0.1),) * features.blocks)
    times["whitening"] = best(lambda: whitening.whiten(drawn)) / ROWS
    found = {stage: spent * case.passages for stage, spent in times.items()}
    spent = best(lambda: sample_moments(sweep, some, [1] * len(some)))
    found["second moments"] = spent / len(some) * sample
    one = best(lambda: BlockWhitening.of(block, 0.1), rounds=1)
    found["factors"] = one * features.blocks
    return Line(case, found, counted(job), disk_bytes(job))


def counted(job: Job) -> dict[str, int]:
    """Operations of each stage of a build that has any."""
    return {stage.name: stage.operations for stage in build_stages(job) if stage.operations}


def add(sums: Sequence[HessianSum], features: torch.Tensor) -> None:
    """Add features [n, d] to the sums of all blocks of R."""
    for block, part in zip(sums, split_blocks(features, len(sums)), strict=True):
        block.add(part)


def built(models: dict[str, LanguageModel], folders: dict[str, str], case: Case, work: Path) -> Line:
    """A whole build on passages of random tokens, timed by its own stages."""
    model = models[case.model]
    text, tokens = work / f"{case.passages}.jsonl", 0
    with text.open("w", encoding="utf-8") as file:
        for n, row in enumerate(random_rows(model, case.tokens, case.passages)):
            written = model.encoder.decode(list(row))
            tokens += len(model.encoder.passage(written, 512))
            file.write(json.dumps({"id": str(n), "text": written}) + "\n")
    spec = FeatureSpec(folders[case.model], dim=case.dim, batch_tokens=BATCH_TOKENS)
    clock = StageClock()
    index = build_index(Corpus.read(str(text)), spec, work / f"run{case.passages}", "cpu", clock)
    job = Job(*shapes(model, case.dim, 8), case.passages, round(tokens / case.passages), spec.moment_sample)
    found = {NAMES[name]: spent for name, spent in clock.seconds.items()}
    return Line(case, found, counted(job), index.size())


@dataclass(frozen=True)
class Rates:
    """What a machine reaches: operations a second in each stage, all > 0."""

    by_stage: Mapping[str, float]

    @classmethod
    def measured(cls, counted: Mapping[str, int], seconds: Mapping[str, float]) -> Rates:
        """The rates of one measured index; seconds > 0 of every stage."""
        return cls({stage: counted[stage] / seconds[stage] for stage in counted})

    def seconds(self, counted: Mapping[str, int]) -> dict[str, float]:
        """Seconds of every stage for so many operations."""
        return {stage: counted[stage] / self.by_stage[stage] for stage in counted}


def show(
    title: str,
    unit: str,
    lines: Sequence[Line],
    size: Callable[[Case], int],
    rates: Rates,
    stages: Sequence[str],
) -> None:
    """A table: seconds a stage over seconds predicted, bytes, and the exponents of both."""
    print(f"\n{title}: measured seconds (predicted)")
    heads = [*stages, "GB on disk"] if all(line.disk for line in lines) else stages
    print(f"| {unit} | " + " | ".join(heads) + " |")
    print("| ---: |" + " ---: |" * len(heads))
    predicted = [rates.seconds(line.counted) for line in lines]
    for line, guess in zip(lines, predicted, strict=True):
        cells = [f"{line.seconds[stage]:.3g} ({guess[stage]:.3g})" for stage in stages]
        cells += [f"{line.disk / 1e9:.3g}"] if line.disk else []
        print(f"| {size(line.case):,} | {' | '.join(cells)} |")
    sizes = [size(line.case) for line in lines]
    exponents = [
        f"{slope(sizes, [line.seconds[stage] for line in lines]):.2f} "
        f"({slope(sizes, [guess[stage] for guess in predicted]):.2f})"
        for stage in stages
    ]
    if all(line.disk for line in lines):
        exponents.append(f"{slope(sizes, [line.disk for line in lines]):.2f}")
    print(f"| exponent | {' | '.join(exponents)} |", flush=True)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through logarithms."""
    across, up = ([math.log(value) for value in side] for side in (sizes, values))
    centre, height = sum(across) / len(across), sum(up) / len(up)
    spread = sum((a - centre) ** 2 for a in across)
    if not spread:
        return math.nan
    return sum((a - centre) * (u - height) for a, u in zip(across, up, strict=True)) / spread


if __name__ == "__main__":
    main()
