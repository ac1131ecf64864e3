"""What else might make Kronecker features truer: each lever beside the plain cosine, by retrained models.

    python benchmarks/levers.py RUN FACTS

RUN: a run whose model ``pretrain`` made and whose ``experiment lds`` has kept its retrained models' answers.
Every row is the mean LDS over the facts of the relations to choose on, the same over those to report on, and
there the paired difference from the row that it is to beat.  Weights are learned on the former alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proponent.attribute.tracing import Tracer
from proponent.evaluate.experiments.facts_study import NARROW, WHITE
from proponent.evaluate.experiments.given import Given
from proponent.evaluate.experiments.lds import Halves, correlations
from proponent.evaluate.experiments.study import every_other
from proponent.evaluate.metrics import estimate, paired_difference
from proponent.index.run import Index
from proponent.progress import OnStderr

WIDE = 2**17
DRAWS = 4  # of the projections that are averaged
DIAGONAL_DAMPING = 0.1  # of the mean
STEPS, RATE = 500, 0.05  # of fitting the blocks' weights

Lever = tuple[str, str, Tensor]  # its name, that of the row to beat, scores [q, rows]


@dataclass
class Features:
    """Whitened features of a run's queries [q, d] and rows [n, d], cut into blocks."""

    queries: Tensor
    rows: Tensor
    blocks: int

    @classmethod
    def of(cls, tracer: Tracer, study: Halves, output: str = "loss") -> Features:
        """Of the study's queries and all rows."""
        asked = tracer.features(list(study.queries), output)
        rows = torch.cat([shard.rows.decode() for shard in tracer.index.shards()])
        return cls(tracer.index.whitening.whiten(asked), rows, tracer.index.blocks)

    def cosines(self) -> Tensor:
        """Of every query with every row."""
        return unit(self.queries) @ unit(self.rows).T

    def by_block(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The features of each block."""
        parts = (features.chunk(self.blocks, 1) for features in (self.queries, self.rows))
        return zip(*parts, strict=True)

    @cached_property
    def shares(self) -> Tensor:
        """What each block adds to the cosines [b, q, rows]."""
        whole = self.queries.norm(dim=1)[:, None] * self.rows.norm(dim=1)
        return torch.stack([q @ m.T / whole for q, m in self.by_block()])

    def cut(self, widths: Tensor) -> Features:
        """The first so many coordinates of each block [b], in an order that is the same for all."""
        order = torch.randperm(self.rows.shape[1] // self.blocks, generator=torch.Generator().manual_seed(0))
        kept = [(q[:, order[:w]], m[:, order[:w]]) for (q, m), w in zip(self.by_block(), widths, strict=True)]
        queries, rows = (torch.cat(parts, 1) for parts in zip(*kept, strict=True))
        return Features(queries, rows, self.blocks)

    def centred(self) -> Features:
        """Less the mean of the rows, queries too."""
        mean = self.rows.mean(0)
        return Features(self.queries - mean, self.rows - mean, self.blocks)

    def corrected(self) -> Features:
        """With every coordinate's second moment, in the eigenbasis of each block's sides, divided out."""
        found = [_with_diagonal(q, m) for q, m in self.by_block()]
        queries, rows = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
        return Features(queries, rows, self.blocks)


def unit(rows: Tensor) -> Tensor:
    """Rows of length one; those of length zero stay."""
    return torch.nn.functional.normalize(rows)


def _with_diagonal(queries: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    side = int(rows.shape[1] ** 0.5)
    square = rows.view(-1, side, side)
    _, left = torch.linalg.eigh(torch.einsum("nij,nkj->ik", square, square))
    _, right = torch.linalg.eigh(torch.einsum("nji,njk->ik", square, square))
    turned = [(left.T @ x.view(-1, side, side) @ right).flatten(1) for x in (queries, rows)]
    moment = turned[1].square().mean(0)
    scale = (moment + DIAGONAL_DAMPING * moment.mean()).rsqrt()
    return turned[0] * scale, turned[1] * scale


@dataclass
class Judge:
    """LDS on the relations to choose on and on those to report on."""

    study: Halves

    @cached_property
    def chosen_on(self) -> Tensor:
        """Whether each query may be chosen on [q]."""
        groups = [self.study.group(query.id) for query in self.study.queries]
        chosen = set(every_other(groups))
        return torch.tensor([group in chosen for group in groups])

    @cached_property
    def truth(self) -> Tensor:
        """log p(target) after training on each half [halves, q]."""
        return self.study.truth.mean(0)

    def sums(self, scores: Tensor) -> Tensor:
        """Of scores [..., rows] over each half [..., halves]."""
        return scores.double() @ self.study.inside_by_row.double()

    def values(self, scores: Tensor) -> Tensor:
        """LDS of every query [q]."""
        return torch.tensor(correlations(self.sums(scores), self.truth))

    def weights(self, shares: Tensor) -> Tensor:
        """Weights > 0 of the blocks [b] whose sum predicts truth best on the queries to choose on.

        By Pearson's correlation over halves, which has a gradient where Spearman's has none.
        """
        parts = self.sums(shares)[:, self.chosen_on]
        parts = parts - parts.mean(2, keepdim=True)
        wanted = unit((self.truth - self.truth.mean(0)).T[self.chosen_on].double())
        raw = torch.zeros(len(parts), dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([raw], RATE)
        for _ in range(STEPS):
            predicted = unit(torch.einsum("b,bqh->qh", raw.exp(), parts))
            loss = -(predicted * wanted).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        found: Tensor = raw.detach().exp()
        return found / found.mean()


def features_of(study: Halves, **change: Any) -> Features:
    """Of a run with Kronecker moments and this change."""
    (run,) = study.variants([{**WHITE, **change}])
    return Features.of(study.opened(run), study)


def levers(study: Halves, judge: Judge) -> Iterator[Lever]:
    """Every lever's scores."""
    own = study.index.dim
    name = f"cosine, {own:,}"
    yield name, name, features_of(study, dim=own).cosines()
    yield f"R_train on top, {own:,}", name, features_of(study, dim=own, hessian="train").cosines()
    for output in ("margin", "logit"):
        scores = features_of(study, dim=own, output=output).cosines()
        yield f"passages by {output}, {own:,}", name, scores
    by_margin = [
        study.variants([{**WHITE, "dim": NARROW, "model": Index(run).spec["model"], "output": "margin"}])[0]
        for run in study.along
    ]
    yield from averages(study, by_margin)
    yield from wide_levers(study, judge)
    yield from exact_levers(study, by_margin)


def averages(study: Halves, by_margin: list[Path]) -> Iterator[Lever]:
    """Over draws of the projections, and over checkpoints; by_margin: the checkpoints' runs of margins."""
    narrow = f"cosine, {NARROW:,}"
    draws = [features_of(study, dim=NARROW, seed=seed).cosines() for seed in range(DRAWS)]
    yield narrow, narrow, draws[0]
    yield f"{DRAWS} draws of {NARROW:,} averaged", narrow, torch.stack(draws).mean(0)
    losses, margins = (
        torch.stack([Features.of(study.opened(run), study).cosines() for run in runs]).mean(0)
        for runs in (study.along, by_margin)
    )
    name = f"{len(by_margin)} checkpoints of {NARROW:,} averaged"
    yield name, narrow, losses
    yield f"{name}, by margin", name, margins


def wide_levers(study: Halves, judge: Judge) -> Iterator[Lever]:
    """Those of many coordinates: other outputs, and what blocks count or how wide they are."""
    wide, whole = f"cosine, {WIDE:,}", features_of(study, dim=WIDE)
    yield wide, wide, whole.cosines()
    yield f"passages by margin, {WIDE:,}", wide, features_of(study, dim=WIDE, output="margin").cosines()
    yield "mean of the rows taken off both sides", wide, whole.centred().cosines()
    yield "diagonal on top", wide, whole.corrected().cosines()
    alone = torch.stack([unit(q) @ unit(m).T for q, m in whole.by_block()])
    yield "mean of the blocks' cosines", wide, alone.mean(0)
    weights = judge.weights(whole.shares)
    print("weights of the blocks: " + ", ".join(f"{weight:.2f}" for weight in weights.tolist()))
    yield "blocks weighted", wide, torch.einsum("b,bqn->qn", weights.float(), whole.shares)
    each = WIDE // 2 // whole.blocks
    even = f"every block at half, {WIDE // 2:,}"
    yield even, even, whole.cut(torch.full((whole.blocks,), each)).cosines()
    truth = torch.stack([judge.values(one)[judge.chosen_on].mean() for one in alone])
    truest, widths = truth.argsort(descending=True), torch.zeros(whole.blocks, dtype=torch.long)
    widths[truest[: whole.blocks // 2]] = 2 * each
    yield "the truer half of the blocks alone", even, whole.cut(widths).cosines()
    widths[truest] = torch.linspace(1.5, 0.5, whole.blocks).mul(each).long()
    yield "truer blocks wider, 1.5 to 0.5", even, whole.cut(widths).cosines()


def exact_levers(study: Halves, by_margin: list[Path]) -> Iterator[Lever]:
    """Those that are seen without projection; by_margin: the checkpoints' runs of margins."""
    yield "exact", "exact", study.exact_scores("exact", study.factored)
    (margin,) = study.variants([{**WHITE, "dim": WIDE, "output": "margin"}])
    yield "exact, passages by margin", "exact", study.exact_scores("exact", margin)
    losses, margins = (
        torch.stack([study.exact_scores("exact", run) for run in runs]).mean(0)
        for runs in (study.along, by_margin)
    )
    name = f"exact, {len(by_margin)} checkpoints averaged"
    yield name, "exact", losses
    yield f"{name}, by margin", name, margins


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("facts", type=Path)
    given = parser.parse_args()
    study = Halves(Given(given.run, given.facts, progress=OnStderr()))
    judge, found = Judge(study), dict[str, Tensor]()
    print("| lever | LDS, chosen on | LDS, reported on | minus the row to beat |\n| --- | --- | --- | --- |")
    for name, beside, scores in levers(study, judge):
        values = found[name] = judge.values(scores)
        chosen, reported = values[judge.chosen_on].tolist(), values[~judge.chosen_on].tolist()
        other = found[beside][~judge.chosen_on].tolist()
        gain = "—" if name == beside else f"{paired_difference(reported, other)} ({beside})"
        print(f"| {name} | {estimate(chosen)} | {estimate(reported)} | {gain} |", flush=True)


if __name__ == "__main__":
    main()
