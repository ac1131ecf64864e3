"""How good an attribution is: metrics, gold passages, experiments and their reports.

The package can be called as the function that it shares its name with, since ``proponent.evaluate`` is both.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Any:
        """Judge hits against gold; see ``proponent.evaluate.evaluation.evaluate``."""
        from proponent.evaluate.evaluation import evaluate

        return evaluate(*given, **named)


sys.modules[__name__].__class__ = _Evaluate
