"""Strategies that are a formula with one free number, fitted so that the expected spend is the budget."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from headrace.types import Float64
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import Start

REMEMBERED_VALUES = 4096
HALVINGS = 60
SMALLEST, LARGEST = 1e-12, 1e12


class ValueSample:
    """The latest values of auctions; before the first, the mean that is known, or nothing."""

    def __init__(self, start: Start) -> None:
        first = start.history.values[-REMEMBERED_VALUES:] if start.history else np.array([start.value])
        self._ring = np.zeros(REMEMBERED_VALUES)
        self._n = 0
        self._first = first[np.isfinite(first)]

    def add(self, value: float) -> None:
        """Remember one more."""
        self._ring[self._n % REMEMBERED_VALUES] = value
        self._n += 1

    def values(self) -> Float64:
        """At most 4,096, in no order."""
        return self._ring[: min(self._n, REMEMBERED_VALUES)] if self._n else self._first


Formula = Callable[[Float64, float], Float64]
"""Bids for (n,) values and a number: (n,) float64, not below 0, and not falling as the number rises."""


class Fitted:
    """A formula of the value and one number, by which bids rise; the number is fitted as each episode begins.

    Prices are those known at the start, values the latest: what an auction costs is then expected to be the budget's
    part of it. Before any value is known, the first one stands for all.
    """

    def __init__(self, start: Start, formula: Formula) -> None:
        self._formula = formula
        self._rate = start.rate
        self._first_price = start.first_price
        self._sample = ValueSample(start)
        self._costs = bid_costs(start.prices, start.first_price)
        self._number: float | None = None

    def begin(self) -> None:
        """Fit to the values seen so far."""
        self._number = None
        if len(self._sample.values()):
            self._fit()

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """What the formula gives, at most 300, and at first price at most what is left."""
        bid = int(min(self.price(value), MAX_BID))
        return min(bid, left) if self._first_price else bid

    def price(self, value: float) -> float:
        """What the formula gives for one more value, CPM units."""
        self._sample.add(value)
        if self._number is None:
            self._fit()
        assert self._number is not None
        return float(self._formula(np.array([value]), self._number)[0])

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Nothing: the formula stands until the next episode."""

    def _fit(self) -> None:
        values = self._sample.values()
        low, high = np.log(SMALLEST), np.log(LARGEST)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            bids = np.minimum(self._formula(values, float(np.exp(middle))), MAX_BID).astype(np.int64)
            if self._costs[bids].mean() <= self._rate:
                low = middle
            else:
                high = middle
        self._number = float(np.exp(low))


def bid_costs(prices: Float64, first_price: bool) -> Float64:
    """What a bid is expected to cost, won or not; (301,) float64 by the bid, CPM units.

    prices : (301,) float64, share of auctions by market price.
    """
    if first_price:
        return np.asarray(np.arange(MAX_BID + 1) * np.cumsum(prices), dtype=np.float64)
    return np.asarray(np.cumsum(np.arange(MAX_BID + 1) * prices))
