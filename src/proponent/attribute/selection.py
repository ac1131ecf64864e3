"""Sets of passages with a guarantee: monotone submodular functions of a set, and greedy selection.

A set function f is submodular where a passage adds less to a larger set, and monotone where it never takes
away.  Greedy selection of N passages then reaches at least 1 − 1/e of the best set of N (Nemhauser, Wolsey,
Fisher, 1978); docs/theory.md has the proofs, tests/attribute/test_selection.py what could refute them.
"""

from __future__ import annotations

import heapq
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import pad

TOGETHER = 256  # passages whose gains are formed at a time
LAZY = 32  # stale gains that lazy greedy renews at a time
# Below this share of a list's first weight a further support is worth less than rounding.
WORTHLESS = 2.0**-60


class SetFunction(ABC):
    """A monotone submodular function of a set of n passages, with the set chosen so far; f(∅) = 0.

    n: passages that can be chosen.  value: f of the set so far.
    """

    n: int
    value: float = 0.0

    @abstractmethod
    def gains(self, passages: Tensor) -> Tensor:
        """f(S + m) − f(S) >= 0 of passages m [p], float64 [p]; 0 for one that is in the set."""

    @abstractmethod
    def add(self, passage: int) -> None:
        """Take a passage into the set."""

    def all_gains(self) -> Tensor:
        """The gains [n] of all passages."""
        return torch.cat([self.gains(part) for part in torch.arange(self.n).split(TOGETHER)])


class Support(SetFunction):
    """How well a set supports queries: each counts its best supports in it, the j-th with weight decay^j.

    f(S) = Σ_q Σ_j decay^j s_(j)(q, S), with s_(0) >= s_(1) >= ... the positive parts of the scores of S.
    decay = 0 is facility location: only the best support counts.  decay = 1 is the sum of all scores, to
    which every passage adds the same whatever else is in the set: its best set is the top by score.

    support: scores [q, n]; what is negative counts 0.  decay: in [0, 1].
    """

    def __init__(self, support: Tensor, decay: float = 0.0) -> None:
        self._support = support.double().clamp(min=0)
        self.n, self.value, self._decay = support.shape[1], 0.0, decay
        self._lists = self._support.new_empty(len(support), 0)  # supports of each query so far, descending
        self._chosen = torch.zeros(self.n, dtype=torch.bool)

    def gains(self, passages: Tensor) -> Tensor:
        """See ``SetFunction``; q · log N comparisons a passage."""
        gains = self.gains_of(self._support[:, passages])
        return gains.masked_fill(self._chosen[passages], 0)

    def gains_of(self, support: Tensor) -> Tensor:
        """What further passages with supports [q, p] >= 0 would add, [p]."""
        held = self._lists.shape[1]
        weights = self._decay ** torch.arange(held + 1, dtype=torch.float64)
        # behind the new one each moves down a place: it loses (w_j − w_(j+1)) of its support
        lost = self._lists * (weights[:-1] - weights[1:])
        behind = pad(lost.flip(1).cumsum(1).flip(1), (0, 1))  # [q, held + 1]
        places = torch.searchsorted(-self._lists.contiguous(), -support.contiguous(), right=True)
        return (weights[places] * support - behind.gather(1, places)).clamp(min=0).sum(0)

    def add(self, passage: int) -> None:
        """See ``SetFunction``."""
        self.value += float(self.gains(torch.tensor([passage])))
        self._chosen[passage] = True
        longer = torch.cat([self._lists, self._support[:, passage, None]], 1)
        self._lists = longer.sort(1, descending=True).values[:, : self._depth]

    @property
    def _depth(self) -> int:
        """Supports of a query that can still count."""
        if self._decay in (0.0, 1.0):  # a second support counts nothing, or all the same
            return 1
        return math.ceil(math.log(WORTHLESS) / math.log(self._decay))


class LogDeterminant(SetFunction):
    """How many different things the features of a set say: f(S) = log det(I + K_S), in nats.

    K_S: rows and columns of the set in K [n, n], positive semi-definite: inner products of features, each
    feature scaled by what it is worth.  A passage adds log(1 + what of its own variance the set leaves open).
    """

    def __init__(self, kernel: Tensor) -> None:
        self._kernel = kernel.double()
        self.n, self.value = len(kernel), 0.0
        self._left = self._kernel.diagonal().clone()  # [n] variance that the set leaves open
        # of the Cholesky factor of I + K_S, for every passage; room for more rows than there are yet
        self._rows, self._count = self._kernel.new_empty(1, self.n), 0
        self._chosen = torch.zeros(self.n, dtype=torch.bool)

    def gains(self, passages: Tensor) -> Tensor:
        """See ``SetFunction``."""
        return self._left[passages].clamp(min=0).log1p().masked_fill(self._chosen[passages], 0)

    def add(self, passage: int) -> None:
        """See ``SetFunction``; one row of a Cholesky factor, |S| · n operations."""
        self.value += float(self.gains(torch.tensor([passage])))
        rows = self._rows[: self._count]
        row = (self._kernel[passage] - rows[:, passage] @ rows) / (1 + self._left[passage]).sqrt()
        if self._count == len(self._rows):
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self._count] = row
        self._count += 1
        self._left = self._left - row.square()
        self._chosen[passage] = True


@dataclass(frozen=True)
class Terms:
    """What a set may be.

    budget: passages at most.  groups: of each passage, and each: how many of one group at most; () for no
    such limit.  beyond: how many passages there are besides those to choose from.  outside: what one of them
    would add to the set so far, at most.
    """

    budget: int
    groups: Sequence[str] = ()
    each: int = 0
    beyond: int = 0
    outside: Callable[[], float] = float

    def take(self, ordered: Iterable[int], used: Counter[str]) -> Iterator[int]:
        """The passages whose groups still have room, in order; used: room taken, which this counts."""
        for passage in ordered:
            if self.groups:
                if used[self.groups[passage]] == self.each:
                    continue
                used[self.groups[passage]] += 1
            yield passage


@dataclass(frozen=True)
class Chosen:
    """Passages in the order in which they were chosen, and what each added to f.

    limit: f of the best set of the same terms is no more, those outside included.
    lost: what those outside cost the guarantee at most, summed over the steps; 0 where none could have added
    more at any step, so that the same set would have been chosen, up to ties, from all there are.  None where
    the guarantee is against the best set of those to choose from alone, as of random samples.
    """

    passages: tuple[int, ...]
    gains: tuple[float, ...]
    limit: float
    lost: float | None

    @property
    def value(self) -> float:
        """f of the set."""
        return math.fsum(self.gains)

    @property
    def share(self) -> float:
        """At least so much of the best set's f is reached, in [0, 1]: by these numbers, not by theory."""
        return min(1.0, self.value / self.limit) if self.limit > 0 else 1.0


def choose(function: SetFunction, terms: Terms) -> Chosen:
    """Choose greedily, each time the passage that adds most, of equals the first.

    f(S) >= (1 − 1/e) f(best) − lost; with groups f(S) >= f(best) / 2 − lost.  Lazy (Minoux, 1978): a gain can
    only fall, so one that was formed for a smaller set is a bound, and most need not be formed again.  Ends
    early where nothing adds anything.
    """
    record = _Record(function, terms)
    heap = [(-gain, passage, 0) for passage, gain in enumerate(record.first.tolist())]
    heapq.heapify(heap)
    used, worthless = Counter[str](), False
    while heap and not (record.full or worthless):
        if heap[0][2] == len(record.passages):
            for passage in terms.take([heapq.heappop(heap)[1]], used):
                worthless = not record.take(passage)
        else:
            stale = [heapq.heappop(heap)[1] for _ in range(min(LAZY, len(heap)))]
            for passage, gain in zip(stale, function.gains(torch.tensor(stale)).tolist(), strict=True):
                heapq.heappush(heap, (-gain, passage, len(record.passages)))
    return record.chosen()


def choose_by_samples(function: SetFunction, terms: Terms, epsilon: float, seed: int = 0) -> Chosen:
    """Choose from a random sample at each step: f(S) >= (1 − 1/e − ε) f(best) in expectation.

    Of those to choose from.  Each of N steps forms (n / N) ln(1 / ε) gains, n ln(1 / ε) in all, whatever N is
    (Mirzasoleiman et al., 2015).  epsilon: in (0, 1).  Raises ValueError for groups: nothing is proved then.
    """
    if terms.groups:
        raise ValueError("stochastic greedy has no bound with groups")
    record, draw = _Record(function, terms), torch.Generator().manual_seed(seed)
    left = torch.arange(function.n)
    size = math.ceil(function.n / terms.budget * math.log(1 / epsilon))
    while not record.full and len(left):
        order = torch.randperm(len(left), generator=draw)[:size].sort().values
        gains = function.gains(left[order])
        best = int(gains.argmax())
        if gains[best] > 0:
            record.take(int(left[order[best]]))
        gone = gains <= 0  # what adds nothing now never will
        gone[best] = True
        kept = torch.ones(len(left), dtype=torch.bool)
        kept[order[gone]] = False
        left = left[kept]
    return replace(record.chosen(), lost=None)


class _Record:
    """What was chosen so far, and what is known of the best set."""

    def __init__(self, function: SetFunction, terms: Terms) -> None:
        self._function, self._terms = function, terms
        self.passages, self.gains, self._lost = list[int](), list[float](), 0.0
        self.first = function.all_gains()
        self._limit = self._best_at_most(self.first)

    @property
    def full(self) -> bool:
        return len(self.passages) >= self._terms.budget

    def take(self, passage: int) -> bool:
        """Take a passage if it adds anything; whether it did."""
        gain = float(self._function.gains(torch.tensor([passage])))
        if gain <= 0:
            return False
        self._lost += max(0.0, self._terms.outside() - gain)
        self._function.add(passage)
        self.passages.append(passage)
        self.gains.append(gain)
        if len(self.passages) == self._terms.budget // 2:
            self._limit = min(self._limit, self._best_at_most(self._function.all_gains()))
        return True

    def chosen(self) -> Chosen:
        limit = min(self._limit, self._best_at_most(self._function.all_gains()))
        budget, beyond = self._terms.budget, self._terms.beyond
        lost = self._lost + (budget - len(self.passages)) * self._terms.outside()
        # a best set has at most ``beyond`` of those outside; with groups they may meet the largest losses
        lost *= min(1.0, beyond / budget) if not self._terms.groups else float(beyond > 0)
        return Chosen(tuple(self.passages), tuple(self.gains), limit, lost)

    def _best_at_most(self, gains: Tensor) -> float:
        """f of the best set, at most: f(S) and the largest gains that a set of the terms can have on top."""
        budget, outside = self._terms.budget, self._terms.outside()
        order = gains.sort(descending=True, stable=True).indices.tolist()
        most = [float(gains[passage]) for passage in islice(self._terms.take(order, Counter()), budget)]
        most = sorted([*most, *[outside] * min(budget, self._terms.beyond)], reverse=True)[:budget]
        return self._function.value + math.fsum(most)
