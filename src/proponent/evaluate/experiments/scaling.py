"""Attribution and influence against a model's size and training: the paper's Figure 2.

The run's passages are indexed again with each model, into a variant that is examined like the run itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from proponent.attribute.tail_patch import PatchStep
from proponent.errors import InputError
from proponent.evaluate.correctness import predictions
from proponent.evaluate.experiments.closed_set import ClosedSet, Scores
from proponent.evaluate.experiments.figures import Figure, Line
from proponent.evaluate.experiments.study import BM25, RANDOM, TRACKSTAR
from proponent.evaluate.experiments.tables import Table
from proponent.evaluate.experiments.training import Training, training_of
from proponent.evaluate.metrics import Estimate, estimate
from proponent.gradients.loading import load_tokenizer

KNOWN = "facts known"
COLUMNS = ("model", "parameters", "tokens read", "loss", "d", "step", KNOWN, "MRR", "Recall@10", "tail-patch")


@dataclass(frozen=True)
class Measured:
    """One model on the facts and passages that all have in common.

    training: None where there is no record of it.  dim: of its features.  step: of its tail-patch.
    known: share of the facts that its greedy answer gets right.  scores, nats: retrieval and tail-patch by
    method, and the latter as the change of log p(target).
    """

    model: str
    training: Training | None
    parameters: int
    dim: int
    step: PatchStep
    known: Estimate
    scores: dict[str, Scores]
    nats: dict[str, Estimate]

    @property
    def name(self) -> str:
        """As the table has it."""
        return self.training.name if self.training else Path(self.model).name

    @property
    def finished(self) -> bool:
        """Whether it is no checkpoint on the way."""
        return self.training is None or self.training.step is None

    @property
    def tokens(self) -> int | None:
        """Read in its training, where that is known."""
        return self.training.tokens if self.training else None

    @property
    def cells(self) -> tuple[str, ...]:
        """Its row of the table."""
        tokens, rate = self.tokens, f"{self.step.learning_rate:.2g}"
        loss = self.training.loss if self.training else None
        return (
            self.name,
            f"{self.parameters:,}",
            "—" if tokens is None else f"{tokens:,}",
            "—" if loss is None else f"{loss:.2f}",
            f"{self.dim:,}",
            f"{rate} relative" if self.step.relative else rate,
            str(self.known),
            *self.scores[TRACKSTAR].cells,
            *map(str, self.nats.values()),
        )


def scaling(study: ClosedSet) -> Table:
    """MRR, Recall@10 and tail-patch of several models, against their size and the tokens that they read."""
    found = sorted(_measured(study), key=lambda m: (not m.finished, m.parameters, m.tokens or 0))
    text = found[0].scores[BM25].cells[:2]
    rows = [m.cells for m in found] + [(BM25, *["—"] * 6, *text, *["—"] * (1 + len(found[0].nats)))]
    reported = study.ids(reported=True)
    notes = (
        f"TrackStar with its task mix. MRR, Recall@10 and the facts known over {len(reported)} facts of "
        f"{study.relations(reported)} relations; tail-patch of the top 10 over {len(study.patch_ids)} of "
        "them, in percentage points, and as the change of log p(target) in nats, which also shows it for "
        "facts that a model does not know; 95% bootstrap intervals. The step of a tail-patch is each "
        "model's own, so that it compares methods within a row: pretraining's rate over its batch where "
        "that is recorded, else relative to each matrix's size. The loss is of the training; tokens read "
        "within a pass are approximate.",
    )
    columns = (*COLUMNS, *(f"nats, {method}" for method in found[0].nats))
    figures = _against_size(found)
    figures |= _against_training(found, "tokens", "tokens read")
    figures |= _against_training(found, "loss", "loss of the training")
    return Table("Models of several sizes and trainings", columns, tuple(rows), notes, figures)


def _measured(study: ClosedSet) -> Iterator[Measured]:
    """The run's model, then every other; one model at a time is in memory."""
    own = study.index.spec
    if own["second_moment"] not in ("sample", "none"):
        raise InputError(
            f"{study.run}: its second moments are from an optimizer of its own model; other models need "
            "a run with --second-moment sample"
        )
    others = [model for model in dict.fromkeys(map(_absolute, study.given.models)) if model != own["model"]]
    for model in others:  # before hours of work: is there one?
        load_tokenizer(model, trust_remote_code=False)
    yield _measure(study.run, study)
    for model in others:
        study.given.progress.say(f"scaling: {model}")
        yield _measure(study.variants([{"model": model}])[0], study)


def _measure(run: Path, study: ClosedSet) -> Measured:
    each = ClosedSet(replace(study.given, run=run, models=()))
    asked, model = each.queries.subset(each.ids(reported=True)), each.tracer.model
    said = predictions(model, asked, each.folder / "greedy.jsonl", each.given.progress, samples=0)
    hits = {
        TRACKSTAR: each.traced("trackstar", task=True),
        BM25: each.baseline("bm25"),
        RANDOM: each.baseline("random"),
    }
    scores, effects, name = each.scores(hits), each.patched(hits), str(each.index.spec["model"])
    return Measured(
        model=name,
        training=training_of(name),
        parameters=sum(p.numel() for p in model.causal.parameters()),
        dim=each.index.dim,
        step=each.step,
        known=estimate([float(said[query.id].correct) for query in asked]),
        scores=scores,
        nats={method: estimate(list(each.nats(of).values())) for method, of in effects.items()},
    )


def _against_size(found: Sequence[Measured]) -> dict[str, Figure]:
    """Figures of the finished models; those trained on one text make a line, all others another."""
    finished = [m for m in found if m.finished]
    texts = list(dict.fromkeys(m.training.text if m.training else "" for m in finished))
    lines = {
        "" if len(texts) == 1 else f", {f'text {text[:6]}' if text else 'other text'}": [
            (float(m.parameters), m) for m in finished if (m.training.text if m.training else "") == text
        ]
        for text in texts
    }
    return _figures("size", "parameters", lines, log=True) if len(finished) > 1 else {}


def _against_training(found: Sequence[Measured], of: str, x: str) -> dict[str, Figure]:
    """Figures of the checkpoints of each training that has several here, the finished model with them.

    of: the field of a training that they are drawn against.
    """
    lines: dict[str, list[tuple[float, Measured]]] = {}
    for m in found:
        if m.training and (at := getattr(m.training, of)) is not None:
            lines.setdefault(f", {m.training.folder.name}", []).append((float(at), m))
    several = {name: sorted(line, key=lambda p: p[0]) for name, line in lines.items() if len(line) > 1}
    return _figures(of, x, several, log=False) if several else {}


def _figures(
    name: str, x: str, lines: dict[str, list[tuple[float, Measured]]], log: bool
) -> dict[str, Figure]:
    def drawn(of: dict[str, Callable[[Measured], Estimate]]) -> dict[str, Line]:
        return {
            label + suffix: [(at, value(m)) for at, m in line]
            for suffix, line in lines.items()
            for label, value in of.items()
        }

    found = drawn(
        {
            f"{TRACKSTAR}, MRR": lambda m: m.scores[TRACKSTAR].mrr,
            KNOWN: lambda m: m.known,
        }
    )
    patched = drawn({method: partial(_nats, method) for method in (TRACKSTAR, BM25, RANDOM)})
    return {
        name: Figure(f"Attribution against {x}", x, "MRR; share of facts", found, log),
        f"{name}-tail-patch": Figure(f"Tail-patch against {x}", x, "change of log p (nats)", patched, log),
    }


def _nats(method: str, measured: Measured) -> Estimate:
    return measured.nats[method]


def _absolute(model: str) -> str:
    """A folder by its whole path, as a run names it; a hub id as it is."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model
