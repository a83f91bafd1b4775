"""The ladder from what was gained to the best in hindsight, rung by rung.

Gain is value less spend; the premium that a promise of impressions adds to bids is no value. The rungs take back one
limit after another; each is what the largest constant multiplier that keeps the day's budget would have gained with the
limits that are left. Where purchases are reported, gain counts what predicted values came to on average by them; bids
were made of the predicted ones:

0. actual: what was gained.
1. pacing: bids are priced as they were, with the landscape of then, the highest bids and the budgets.
2. prediction: the same, but bids are made of values as reported purchases have them.
3. prices: bids are shaded with the day's own distribution of prices.
4. shading: in first-price auctions a win costs the price itself.
5. caps: no highest bids and no limits of line items.
6. stops: auctions count in which bidding was stopped or late.
7. promises: bids are made of value alone, without the premium of a promise.
8. budget: everything worth its price is bought.

A part is what its rung adds, never below zero, so that actual gain and parts add up to the last rung. In second-price
auctions rungs 3 and 4 add nothing, without a promise rung 7; without reported purchases rung 2 is not known and adds
nothing. The multiplier does not pass 1; where it meets the budget,
the last auction is bought in part (the fractional knapsack by value over price).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.types import Bool, Float64
from headrace_training.kernels.surplus import shade_values
from headrace_training.regret.chances import Chances

PARTS = ("pacing", "prediction", "prices", "shading", "caps", "stops", "promises", "budget")
LEAST_PRICES = 50
"""Auctions from which a row of the market has a distribution of its own for the day; others share one."""
_BISECTIONS = 40
_LEAST_OCTAVE = -40.0

Play = Callable[[Float64], tuple[Float64, Float64]]
"""Value and spend of each auction, micros, at a multiplier of each; both 0 where it is not won."""


@dataclass(frozen=True)
class Ladder:
    """Gains, micros: ``actual``, and of the eight rungs above it.

    value, spend : of what was won.   value_within_budget : of the best within the budget, rung 7.
    """

    actual: float
    rungs: Float64
    value: float
    spend: float
    value_within_budget: float

    @property
    def parts(self) -> Float64:
        """What each rung adds, (8,), never negative."""
        parts: Float64 = np.diff(np.maximum.accumulate(np.concatenate([[self.actual], self.rungs])))
        return parts


def climb(chances: Chances, prices_cpm: Float64, true_value: Float64 | None = None) -> Ladder:
    """The ladder of one campaign's day at prices, (n,) float64 CPM micros, none below its floor.

    true_value : (n,) float64, CPM micros, what values came to by reported purchases; left out: what was predicted.
    """
    c, predicted = _told(chances, true_value)
    paid = np.where(np.isnan(c.paid), prices_cpm, c.paid)
    each = np.where(c.won, c.weight, 0.0) / 1000.0
    value, spend = float(c.value @ each), float(paid @ each)
    going, all_of_them = ~c.stopped, np.ones(len(c.value), np.bool_)
    no_caps = np.full(len(c.value), np.inf)
    free = _perfect(c, c.pull, prices_cpm, no_caps)
    plays = [
        (_shaded(predicted, prices_cpm, _rates_of_then(c)), going, c.line_budgets),
        (_shaded(c, prices_cpm, _rates_of_then(c)), going, c.line_budgets),
        (_shaded(c, prices_cpm, _rates_of_day(c, prices_cpm)), going, c.line_budgets),
        (_perfect(c, c.pull, prices_cpm, c.cap), going, c.line_budgets),
        (free, going, {}),
        (free, all_of_them, {}),
        (_perfect(c, c.value, prices_cpm, no_caps), all_of_them, {}),
    ]
    best = [_best_constant(c, play, mask, of_lines) for play, mask, of_lines in plays]
    everything = float(np.maximum(c.value - prices_cpm, 0.0) @ c.weight) / 1000.0
    gains = np.array([*(gain for gain, _ in best), everything])
    return Ladder(value - spend, gains, value, spend, best[-1][1])


def forgone(chances: Chances, prices_cpm: Float64, thought: Float64, true_value: Float64) -> float:
    """What bids made of the values predicted gained less than bids made of values thought better, micros; below 0 where
    the better ones are none.

    thought, true_value : (n,) float64, CPM micros; see `climb`.
    """
    c, predicted = _told(chances, true_value)
    better = replace(c, pull=thought + (chances.pull - chances.value))
    gains = [
        _best_constant(each, _shaded(each, prices_cpm, _rates_of_then(c)), ~c.stopped, c.line_budgets)[0]
        for each in (predicted, better)
    ]
    return gains[1] - gains[0]


def _told(chances: Chances, true_value: Float64 | None) -> tuple[Chances, Chances]:
    """The chances at their true values, once with bids made of these and once of those predicted."""
    if true_value is None:
        return chances, chances
    premium = chances.pull - chances.value
    return replace(chances, value=true_value, pull=true_value + premium), replace(chances, value=true_value)


def _rates_of_then(c: Chances) -> list[Float64]:
    return [rates for _, rates in c.prices.curves]


def _perfect(c: Chances, worth_cpm: Float64, prices_cpm: Float64, cap: Float64) -> Play:
    """Bids are made of a worth; who bids as much as the price pays the price."""

    def play(multiplier: Float64) -> tuple[Float64, Float64]:
        won = (np.minimum(worth_cpm * multiplier, cap) >= prices_cpm) * c.weight / 1000.0
        return c.value * won, prices_cpm * won

    return play


def _shaded(c: Chances, prices_cpm: Float64, rates: Sequence[Float64]) -> Play:
    """In first-price auctions the bid is shaded with these win rates of each row of the market, and paid."""
    rows_of = [np.flatnonzero(c.first & (c.prices.group == number)) for number in range(len(rates))]

    def play(multiplier: Float64) -> tuple[Float64, Float64]:
        bids = np.minimum(c.pull * multiplier, c.cap)
        for (edges, _), of_row, rows in zip(c.prices.curves, rates, rows_of, strict=True):
            if len(rows):
                shaded = np.empty(len(rows))
                shade_values(bids[rows], np.maximum(c.floor[rows], 1.0), edges, of_row, shaded)
                bids[rows] = shaded
        won = (bids >= prices_cpm) * c.weight / 1000.0
        return c.value * won, np.where(c.first, bids, prices_cpm) * won

    return play


def _rates_of_day(c: Chances, prices_cpm: Float64) -> list[Float64]:
    """The day's own win rates at the edges of each row of the market."""
    rates = []
    for number, (edges, _) in enumerate(c.prices.curves):
        rows = np.flatnonzero(c.prices.group == number)
        if len(rows) < LEAST_PRICES:
            rows = np.arange(len(prices_cpm))
        order = rows[np.argsort(prices_cpm[rows], kind="stable")]
        total = np.concatenate([[0.0], np.cumsum(c.weight[order])])
        below = np.searchsorted(prices_cpm[order], edges, side="right")
        rates.append(total[below] / total[-1])
    return rates


def _best_constant(c: Chances, play: Play, mask: Bool, line_budgets: Mapping[int, float]) -> tuple[float, float]:
    """Gain and value of the largest multiplier that keeps the budgets, micros."""
    highest = np.ones(len(c.value))
    for line, budget in line_budgets.items():
        rows = mask & (c.line == line)
        highest[c.line == line] = _largest(play, highest, rows, budget)[0]
    low, high = _largest(play, highest, mask, c.budget)
    value, spend = _totals(play, np.minimum(highest, low), mask)
    if low < high:
        # the auctions between the two are bought in part
        more_value, more_spend = _totals(play, np.minimum(highest, high), mask)
        part = (c.budget - spend) / (more_spend - spend)
        value, spend = value + part * (more_value - value), c.budget
    return value - spend, value


def _largest(play: Play, highest: Float64, mask: Bool, budget: float) -> tuple[float, float]:
    """The largest multiplier up to 1 whose spend keeps a budget, and one just above that does not; both 1 if 1 does."""
    if _totals(play, highest, mask)[1] <= budget:
        return 1.0, 1.0
    low, high = _LEAST_OCTAVE, 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        if _totals(play, np.minimum(highest, 2.0**middle), mask)[1] <= budget:
            low = middle
        else:
            high = middle
    return 2.0**low, 2.0**high


def _totals(play: Play, multiplier: Float64, mask: Bool) -> tuple[float, float]:
    value, spend = play(multiplier)
    return float(value[mask].sum()), float(spend[mask].sum())
