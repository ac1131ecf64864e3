"""The experiments by name.  Settings are chosen on some relations; tables report on the others."""

from __future__ import annotations

from collections.abc import Callable

from proponent.evaluate.experiments.comparisons import correctness, rates, specificity, table1, topk
from proponent.evaluate.experiments.results import Result
from proponent.evaluate.experiments.study import Study
from proponent.evaluate.experiments.sweeps import damping, dimension, lambdas, outputs

EXPERIMENTS: dict[str, Callable[[Study], Result]] = {
    "table1": table1,
    "topk": topk,
    "correctness": correctness,
    "lambda": lambdas,
    "damping": damping,
    "dimension": dimension,
    "outputs": outputs,
    "rate": rates,
    "specificity": specificity,
}
