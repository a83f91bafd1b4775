"""What the others bid: the best competing bid of every auction, drawn without regard to ours.

Competitors do not react to us. So every auction has a price that is known beforehand, and the best that a campaign
could have done is a plain optimum over these prices. A budgeted competitor leaves when it would have run out of money
in a market without us.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.special import ndtri

from headrace.simulate.scenario import Competitor
from headrace.types import Bool, Float64, Int64


def best_bids(
    rng: np.random.Generator,
    competitors: Sequence[Competitor],
    hour: Int64,
    day: Int64,
    factor: Float64,
    *,
    first_price: bool,
) -> Float64:
    """The highest competing bid of n auctions of one exchange, CPM micros; 0 where nobody competes.

    hour : (n,) of the UTC day, 0 to 23.   day : (n,) UTC days, ascending.   factor : (n,) price shocks.
    """
    best = np.zeros(len(hour))
    budgeted: list[Float64] = []
    budgets: list[float] = []
    for competitor in competitors:
        seasons = np.array(competitor.hours or [1.0] * 24)[hour] * factor * competitor.shade
        if competitor.kind != "budgeted":
            np.maximum(best, seasons * _highest(rng, competitor, len(hour)), out=best)
            continue
        for _ in range(competitor.bidders):
            budgeted.append(seasons * _highest(rng, competitor, len(hour), bidders=1))
            budgets.append(competitor.daily_budget_micros * 1000.0)
    if budgeted:
        bids, limits = np.stack(budgeted), np.array(budgets)
        edges = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(day)]
        for start, end in pairwise(edges):
            part = slice(start, end)
            best[part] = _until_broke(best[part], bids[:, part], limits, first_price)
    return best


def _highest(rng: np.random.Generator, competitor: Competitor, n: int, bidders: int | None = None) -> Float64:
    """The highest of the values of equal log-normal bidders, each of them there or not; 0 where nobody is.

    The distribution function of the highest of k, each there with probability q, is (1 - q + q F)^k, so one uniform
    number makes it.
    """
    drawn = rng.random(n)
    q, k = competitor.present, bidders or competitor.bidders
    root = drawn ** (1.0 / k)
    level = np.clip((root - (1.0 - q)) / q if q > 0.0 else np.zeros(n), 0.0, 1.0 - 1e-12)
    there = level > 0.0
    result = np.zeros(n)
    result[there] = competitor.median_cpm_micros * np.exp(competitor.sigma * ndtri(level[there]))
    return result


def _until_broke(others: Float64, bids: Float64, budgets: Float64, first_price: bool) -> Float64:
    """The best bid of one day's auctions where b bidders, (b, n), each stay until their budget is spent."""
    active: Bool = np.ones(bids.shape, bool)
    left = budgets.copy()
    start = 0
    while start < bids.shape[1]:
        stage = np.where(active[:, start:], bids[:, start:], 0.0)
        all_bids = np.vstack([others[None, start:], stage])
        winner = np.argmax(all_bids, axis=0)
        ranked = np.partition(all_bids, -2, axis=0)
        price = ranked[-1] if first_price else ranked[-2]
        spent = np.stack([np.cumsum(np.where(winner == row + 1, price, 0.0)) for row in range(len(bids))])
        broke = spent >= left[:, None]
        ends = np.where(broke.any(axis=1) & active[:, start], broke.argmax(axis=1), bids.shape[1])
        first = int(np.argmin(ends))
        if ends[first] >= stage.shape[1]:
            break
        left -= spent[:, ends[first]]
        start += int(ends[first]) + 1
        active[first, start:] = False
    result: Float64 = np.maximum(others, np.where(active, bids, 0.0).max(axis=0))
    return result
