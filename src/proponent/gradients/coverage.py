"""stub"""

from __future__ import annotations

from collections.abc import Sequence

from proponent.gradients.layers import Matrix
from proponent.gradients.model import LanguageModel


def uncovered(model: LanguageModel, matrices: Sequence[Matrix], row: Sequence[int]) -> dict[str, float]:
    return {}
