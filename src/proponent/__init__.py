"""proponent: which training text made a language model say what it said.

The public names are loaded when they are first used, so that importing the package is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proponent.attribute.attribution import Attribution as Attribution
    from proponent.attribute.baselines import baseline as baseline
    from proponent.attribute.method import Method as Method
    from proponent.attribute.subset import Aim as Aim
    from proponent.attribute.subset import Subset as Subset
    from proponent.attribute.subset import select as select
    from proponent.attribute.tracing import Tracer as Tracer
    from proponent.attribute.tracing import trace as trace
    from proponent.build.compact import compact as compact
    from proponent.build.indexing import build_index as build_index
    from proponent.build.repair import repair as repair
    from proponent.build.soundness import check as check
    from proponent.corpus.corpus import Corpus as Corpus
    from proponent.corpus.example import Example as Example
    from proponent.corpus.example import Query as Query
    from proponent.corpus.queries import Queries as Queries
    from proponent.errors import InputError as InputError
    from proponent.evaluate.evaluation import evaluate as evaluate
    from proponent.evaluate.experiments.catalogue import experiment as experiment
    from proponent.evaluate.experiments.report import report as report
    from proponent.evaluate.gold import Gold as Gold
    from proponent.evaluate.info import info as info
    from proponent.evaluate.patching import tail_patch as tail_patch
    from proponent.gradients.spec import FeatureSpec as FeatureSpec
    from proponent.index.run import Index as Index
    from proponent.pretraining import pretrain as pretrain
    from proponent.scale.plan import plan as plan

_HOMES = {
    "Aim": "proponent.attribute.subset",
    "Attribution": "proponent.attribute.attribution",
    "Corpus": "proponent.corpus.corpus",
    "Example": "proponent.corpus.example",
    "FeatureSpec": "proponent.gradients.spec",
    "Gold": "proponent.evaluate.gold",
    "Index": "proponent.index.run",
    "InputError": "proponent.errors",
    "Method": "proponent.attribute.method",
    "Queries": "proponent.corpus.queries",
    "Query": "proponent.corpus.example",
    "Tracer": "proponent.attribute.tracing",
    "baseline": "proponent.attribute.baselines",
    "build_index": "proponent.build.indexing",
    "check": "proponent.build.soundness",
    "compact": "proponent.build.compact",
    "evaluate": "proponent.evaluate.evaluation",
    "experiment": "proponent.evaluate.experiments.catalogue",
    "info": "proponent.evaluate.info",
    "plan": "proponent.scale.plan",
    "pretrain": "proponent.pretraining",
    "repair": "proponent.build.repair",
    "report": "proponent.evaluate.experiments.report",
    "select": "proponent.attribute.subset",
    "Subset": "proponent.attribute.subset",
    "tail_patch": "proponent.evaluate.patching",
    "trace": "proponent.attribute.tracing",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'proponent' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
