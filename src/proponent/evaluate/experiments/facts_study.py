"""A study whose queries are the facts of a file, each with a relation, whatever is known of its passages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from proponent.attribute.attribution import Attribution
from proponent.attribute.probability import target_probabilities
from proponent.corpus.facts import Fact, read_facts
from proponent.corpus.queries import Queries
from proponent.evaluate.entailment import Judge
from proponent.evaluate.experiments import study
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.verdicts import Verdicts
from proponent.files import checksum
from proponent.index.run import Index

KNOWN = 0.5  # p(target) from which a model knows a fact
WIDER = 2**17  # a dimension beside the run's own
NARROW = 2**15  # of each of several runs, which together are as wide
CHECKPOINTS = 4  # whose scores are averaged
WHITE: dict[str, Any] = {"second_moment": "kronecker", "hessian": "identity", "moment_sample": 0}


@dataclass
class FactsStudy(Study):
    """All facts of the file that was given."""

    def made_with(self) -> dict[str, Any]:
        """The facts, the seed and how many passages are retrieved."""
        facts = checksum(self.given.facts_file)
        return {"facts": facts, "seed": self.given.seed, "retrieved": study.RETRIEVED}

    @cached_property
    def facts(self) -> Mapping[str, Fact]:
        """The facts by id."""
        return {fact.fact_id: fact for fact in read_facts(self.given.facts_file)}

    @cached_property
    def queries(self) -> Queries:
        """A query a fact."""
        return Queries.read(self.given.facts_file)

    def group(self, query_id: str) -> str:
        """The relation of a fact."""
        return self.facts[query_id].relation

    @cached_property
    def known(self) -> list[str]:
        """Ids of the facts that the run's model knows."""
        model, spec = self.tracer.model, self.tracer.spec
        encoded = [model.encoder.query(query, spec.max_length) for query in self.queries]
        p = target_probabilities(model, encoded, spec.batch_tokens)
        return [query.id for query, value in zip(self.queries, p, strict=True) if value >= KNOWN]

    def white(self, dim: int) -> Path:
        """The run with Kronecker moments and so many dimensions."""
        return self.variants([{**WHITE, "dim": dim}])[0]

    @cached_property
    def factored(self) -> Path:
        """A run with Kronecker moments: the given one where it has them, otherwise one of the run's own d."""
        given = Index(self.given.run).spec
        there = all(given[name] == WHITE[name] for name in ("second_moment", "hessian"))
        return self.given.run if there else self.white(self.index.dim)

    @cached_property
    def along(self) -> list[Path]:
        """Runs with Kronecker moments of the last checkpoints that the model's training kept; [] for none."""
        found = Path(self.tracer.spec.model).glob("checkpoints/checkpoint-*")
        kept = sorted((path for path in found if _step(path).isdecimal()), key=lambda path: int(_step(path)))
        changes = [{**WHITE, "dim": NARROW, "model": str(model)} for model in kept[-CHECKPOINTS:]]
        return [self.variants([change])[0] for change in changes]

    def averaged_hits(self, runs: Sequence[Path], method: str) -> Attribution:
        """Hits of the mean of what a method gives in several runs."""
        first, *others = runs

        def trace() -> Attribution:
            return self.opened(first).trace(self.queries, method, self.k, averaged_with=others)

        return self.hits(f"{method} in {first.name} and {len(others)} more", trace, runs)

    def verdicts(self, judge: Judge) -> Verdicts:
        """What a judge has said so far, kept in the study's folder."""
        return Verdicts(judge, self.folder / f"verdicts-{judge.identity[:8]}.jsonl")


def _step(checkpoint: Path) -> str:
    """Steps of training that a checkpoint has behind it, by its name."""
    return checkpoint.name.removeprefix("checkpoint-")
