"""How a query's scores are spread over the whole corpus, from a sample that a scan takes along."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLE = 4096  # scores that are kept of a large corpus, up to twice as many
QUANTILES = (0.02, 0.5, 0.98)
# Positions times this modulo 2^32 are spread evenly and without a period (Knuth's multiplicative hash).
GOLDEN = 2654435761


class Background:
    """Scores [q, m] of a sample of passages, chosen by their positions: the same whatever parts they come in.

    Of up to ``2 · SAMPLE`` passages all are taken.
    """

    def __init__(self, queries: int) -> None:
        self._below = 2**32  # hashes of the positions that are kept
        self._scores = torch.empty(queries, 0)
        self._hashes = torch.empty(0, dtype=torch.long)

    @classmethod
    def of_all(cls, parts: Sequence[Background]) -> Background:
        """What one would be that was given the passages of all parts, in any order."""
        made = cls(len(parts[0]._scores))
        made._below = min(part._below for part in parts)
        for part in parts:
            made._take(part._scores, part._hashes)
        return made

    def add(self, scores: Tensor, positions: Tensor) -> None:
        """Take scores [q, n] of the passages at positions [n]."""
        self._take(scores, (positions * GOLDEN).bitwise_and_(2**32 - 1))  # modulo 2^32

    def _take(self, scores: Tensor, hashes: Tensor) -> None:
        kept = hashes < self._below
        self._scores = torch.cat([self._scores, scores[:, kept]], 1)
        self._hashes = torch.cat([self._hashes, hashes[kept]])
        while len(self._hashes) > 2 * SAMPLE:
            self._below //= 2
            kept = self._hashes < self._below
            self._scores, self._hashes = self._scores[:, kept], self._hashes[kept]

    def quantiles(self) -> Tensor:
        """``QUANTILES`` [q, 3] float64 of each query's scores, by nearest rank; NaN where there are none."""
        if not self._scores.shape[1]:
            return torch.full((len(self._scores), len(QUANTILES)), torch.nan, dtype=torch.float64)
        places = [round(level * (self._scores.shape[1] - 1)) for level in QUANTILES]
        return self._scores.sort(1).values[:, places].double()
