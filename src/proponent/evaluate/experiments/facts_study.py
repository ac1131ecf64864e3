"""A study whose queries are the facts of a file, each with a relation, whatever is known of its passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from proponent.corpus.facts import Fact, read_facts
from proponent.corpus.queries import Queries
from proponent.evaluate.entailment import Judge
from proponent.evaluate.experiments import study
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.verdicts import Verdicts
from proponent.files import checksum


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

    def verdicts(self, judge: Judge) -> Verdicts:
        """What a judge has said so far, kept in the study's folder."""
        return Verdicts(judge, self.folder / f"verdicts-{judge.identity[:8]}.jsonl")
