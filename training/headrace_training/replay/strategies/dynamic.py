"""Dynamic programming for auctions that are drawn independently from one joint distribution of value and price."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64, Int64
from headrace_training.kernels.programme import fill_by_kind, table_bid
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.log import AuctionLog
from headrace_training.replay.strategies.base import NO_BID, Start
from headrace_training.replay.strategies.censoring import PriceGuess
from headrace_training.replay.strategies.rlb import empty_table

STEPS = 1024
"""Of the budget, at most."""
VALUES_A_PRICE = 8
PRICE_EDGES = np.unique(
    np.concatenate([np.arange(40), np.arange(40, 100, 3), np.arange(100, MAX_BID, 10), [MAX_BID, MAX_BID + 1]])
)
"""Prices that are taken as one, exact while they are low."""


class Dynamic:
    """The optimum of an independent and identically distributed market, by the distribution of all auctions so far.

    The table is filled anew as an episode begins, whenever twice as many episodes have been seen; in the first episode
    of all, prices are those known at the start and every value is the first one. Of the kinds of impressions 8 stand
    for the values of each price. A distribution that is given is never learned: a log's own is a reference for what
    such a market allows, and no contender. Raises ConfigError at first price, and for a table that is too large.
    """

    def __init__(self, start: Start, known: AuctionLog | None = None) -> None:
        self._start = start
        self._step = max(1.0, start.budget / STEPS)
        self._worth = empty_table("dynamic", start, int(start.budget / self._step))
        self._guess = PriceGuess(start)
        self._learns = known is None
        self._filled = False
        self._values: list[float] = []
        self._prices: list[int] = []
        self._last = (0.0, 0)
        if known is not None:
            self._fill(known.values, known.prices.astype(np.int64))

    def begin(self) -> None:
        """Fill the table when enough is new."""
        episodes = len(self._values) // self._start.episode
        if self._learns and episodes and episodes & (episodes - 1) == 0:
            self._fill(np.array(self._values), np.array(self._prices))

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The highest price that is worth paying; none for what is worth nothing."""
        if not self._filled and value > 0:
            prices = np.repeat(np.arange(MAX_BID + 1), np.rint(self._start.prices * 10_000).astype(np.int64))
            self._fill(np.full(len(prices), value), prices)
        bid = int(table_bid(self._worth, self._step, value, left, n_left)) if value > 0 else NO_BID
        self._last = value, left
        return bid

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Remember the auction."""
        if self._learns:
            value, left = self._last
            self._values.append(value)
            self._prices.append(self._guess.price(price, min(bid, left)))

    def _fill(self, values: Float64, prices: Int64) -> None:
        weights, kind_values, kind_prices = kinds(values, prices)
        self._worth[:] = 0
        fill_by_kind(weights, kind_values, kind_prices / self._step, self._worth)
        self._filled = True


def kinds(values: Float64, prices: Int64) -> tuple[Float64, Float64, Float64]:
    """Shares, values and prices of impressions that stand for all; prices of 0 and above 300 are left out.

    values, prices : (n,). Each group of prices is cut at quantiles of its values, and each part is its means.
    """
    group = np.searchsorted(PRICE_EDGES, prices, side="right") - 1
    order = np.lexsort((values, group))
    found = []
    for price in range(1, len(PRICE_EDGES) - 1):
        first, last = np.searchsorted(group[order], [price, price + 1])
        for part in np.array_split(order[first:last], VALUES_A_PRICE):
            if len(part):
                found.append((len(part) / len(values), values[part].mean(), prices[part].mean()))
    weights, kind_values, kind_prices = np.array(found).reshape(-1, 3).T.copy()
    return weights, kind_values, kind_prices
