"""The best that a campaign could have done, knowing every price: a fractional knapsack, with a goal as second limit.

Bids never pass the value, so only auctions that cost at most what they are worth (and at most the highest bid allowed)
can be won. The linear programme over them, maximise sum(value x) with sum(cost x) <= budget, sum((cost - credit) x)
<= 0 and 0 <= x <= 1, is solved through its dual: for a price mu of the goal the rest is a knapsack by density, whose
optimum is convex in mu (Dantzig, "Discrete-variable extremum problems", 1957). Every value tried is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.types import Float64

DOUBLINGS = 60
HALVINGS = 40
PRECISION = 1e-7


@dataclass(frozen=True, slots=True)
class Optimum:
    """What the optimum wins: value, cost and credit in the units they came in; ``bound`` is an upper bound of value."""

    bound: float
    value: float
    cost: float
    credit: float


def optimum(value: Float64, cost: Float64, credit: Float64 | None, budget: float) -> Optimum:
    """The best choice among n auctions, fractions of auctions allowed.

    value, cost : (n,) float64 > 0.   budget : the most that the cost may sum to, may be infinite.
    credit : (n,) float64, what an auction adds to what may be spent under the goal; None without a goal.
    """
    plain = _knapsack(value, value, cost, cost if credit is None else credit, budget)
    if credit is None or plain.credit >= plain.cost:
        return plain
    low, high = 0.0, 1.0
    best = plain
    for _ in range(DOUBLINGS):
        best = _at(high, value, cost, credit, budget)
        if best.credit >= best.cost:
            break
        low, high = high, high * 2.0
    bound = best.bound
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        found = _at(middle, value, cost, credit, budget)
        bound = min(bound, found.bound)
        if found.credit >= found.cost:
            high, best = middle, found
        else:
            low = middle
        if high - low <= PRECISION * high:
            break
    return Optimum(bound, best.value, best.cost, best.credit)


def _at(mu: float, value: Float64, cost: Float64, credit: Float64, budget: float) -> Optimum:
    return _knapsack(value + mu * (credit - cost), value, cost, credit, budget)


def _knapsack(gain: Float64, value: Float64, cost: Float64, credit: Float64, budget: float) -> Optimum:
    """Take by gain / cost, highest first, until the budget is spent; ``bound`` is the gain that this brings."""
    good = np.flatnonzero(gain > 0.0)
    order = good[np.argsort(-(gain[good] / cost[good]), kind="stable")]
    spent = np.cumsum(cost[order])
    n_whole = int(np.searchsorted(spent, budget, side="right"))
    before = float(spent[n_whole - 1]) if n_whole else 0.0
    taken = np.zeros(len(order))
    taken[:n_whole] = 1.0
    if n_whole < len(order):
        taken[n_whole] = (budget - before) / cost[order[n_whole]]
    return Optimum(*(float(taken @ column[order]) for column in (gain, value, cost, credit)))
