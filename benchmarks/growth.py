"""How cost grows: passages, their length, the feature dimension and the model, beside the cost model.

    python benchmarks/growth.py small medium CORPUS

Every line is measured on rows of random tokens; the corpus only gives the random models their vocabulary.
The cost model (``proponent.build.cost``) counts operations from shapes; the rate of each stage is taken from
one line, the reference, and every other line is predicted with these rates.  An exponent is the slope of a
line through log seconds over log size, as measured and as predicted.  Cholesky factors and eigenvalues are
timed on one block of R and multiplied by the number of blocks, which are equal.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from inputs import model_folder, shapes
from side_by_side import machine, seconds
from stages import FACTORS, GRADIENTS, MOMENTS, SUMS, WHITENING, StageClock

from proponent.build.cost import disk_bytes, operations
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

BATCH_TOKENS = 2048
PASS_TOKENS = 4096  # in each timed pass
ROWS = 512  # in each timed sum of R
SAMPLE_TOKENS = 2048  # of the timed second moments
PARTS = ("lengths", "dims", "passages")
NAMES = {  # the cost model's names of the clock's stages
    GRADIENTS: "gradients",
    MOMENTS: "second moments",
    SUMS: "R",
    FACTORS: "factors",
    WHITENING: "whitening",
}


@dataclass(frozen=True)
class Case:
    """One line: a model, the feature dimension, the length of passages and their number."""

    model: str
    dim: int
    tokens: int
    passages: int


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
            small = Case(given.model, given.build_dim, 32, 0)
            at = [built(models, folders, replace(small, passages=n), work) for n in given.passages]
            own = Rates.measured(at[0].counted, at[0].seconds)
            title = f"passages, {given.model}, whole builds, rates of the first line"
            show(title, "passages", at, lambda c: c.passages, own, tuple(own.by_stage))
    print(machine())


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
    parser.add_argument("--base-dim", type=int, default=2**14, help="d where lengths and models vary")
    parser.add_argument("--build-dim", type=int, default=2**12, help="d where passages vary")
    return parser.parse_args()


def measure(model: LanguageModel, case: Case) -> Line:
    """Time each stage on as much as tells its rate, and scale it to the case's passages."""
    plan = plan_layers(model, case.dim, 8)
    shape, features = shapes(model, plan)
    rows = random_rows(model, case.tokens, max(2, PASS_TOKENS // case.tokens))
    some = rows[: max(2, SAMPLE_TOKENS // case.tokens)]
    sweep = Sweep(model, plan.matrices, BATCH_TOKENS)
    moments = sample_moments(sweep, some, [1] * len(some))
    extractor = FeatureExtractor(model, plan, fold_moments(plan, moments, 0), BATCH_TOKENS)
    drawn = torch.randn(ROWS, plan.dim)
    sums = [HessianSum.empty(features.width) for _ in plan.blocks]
    sample = min(256, case.passages)
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
    counted = operations(shape, features, case.passages, case.tokens, sample)
    return Line(case, found, counted, disk_bytes(features, case.passages))


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
    shape, features = shapes(model, plan_layers(model, case.dim, 8))
    counted = operations(shape, features, case.passages, round(tokens / case.passages), spec.moment_sample)
    found = {NAMES[name]: spent for name, spent in clock.seconds.items()}
    return Line(case, found, counted, index.size())


def random_rows(model: LanguageModel, tokens: int, count: int) -> list[tuple[int, ...]]:
    """Rows of random tokens, the special ones (the first few) left out."""
    draw = random.Random(0)
    return [tuple(draw.randrange(8, model.vocabulary) for _ in range(tokens)) for _ in range(count)]


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


def best(work: Callable[[], object], rounds: int = 2) -> float:
    """Seconds of the fastest of some calls."""
    return min(seconds(work) for _ in range(rounds))


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
    print(f"| {unit} | " + " | ".join(stages) + " | GB on disk |")
    print("| ---: |" + " ---: |" * (len(stages) + 1))
    predicted = [rates.seconds(line.counted) for line in lines]
    for line, guess in zip(lines, predicted, strict=True):
        cells = [f"{line.seconds[stage]:.3g} ({guess[stage]:.3g})" for stage in stages]
        print(f"| {size(line.case):,} | {' | '.join(cells)} | {line.disk / 1e9:.3g} |")
    sizes = [size(line.case) for line in lines]
    exponents = [
        f"{slope(sizes, [line.seconds[stage] for line in lines]):.2f} "
        f"({slope(sizes, [guess[stage] for guess in predicted]):.2f})"
        for stage in stages
    ]
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
