"""Prices that nobody told of: drawn from those that are known, above the bid that lost."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import UNSEEN, Start

HALF_LIFE = 4000.0
TRUSTED_AUCTIONS = 100.0
"""Weight of the prices known at the start, at most."""
GROWN = 1e9


class PriceGuess:
    """A price for each auction: the one told, or one drawn at random from what it may have been.

    A loss says that the price was above the bid. The draw is from the prices known at the start and all since, drawn
    ones included, which are forgotten by halves: the self-consistency of Efron, "The two sample problem with censored
    data", 1967, one auction at a time, by imputation.
    """

    def __init__(self, start: Start, number: int = 0) -> None:
        self._weights = start.prices * min(start.weight or TRUSTED_AUCTIONS, TRUSTED_AUCTIONS)
        self._one = 1.0
        self._rng = np.random.default_rng((start.seed, number))

    def price(self, price: int, above: int) -> int:
        """The price told, or, where it is UNSEEN, one above the given; 301 stands for any higher one."""
        if price == UNSEEN:
            price = self._draw(above)
        # newer ones weigh more, which is to forget the older
        self._one *= 2 ** (1 / HALF_LIFE)
        self._weights[min(price, MAX_BID)] += self._one
        if self._one > GROWN:
            self._weights /= self._one
            self._one = 1.0
        return price

    def _draw(self, above: int) -> int:
        if above >= MAX_BID:
            return MAX_BID + 1
        upper: Float64 = np.cumsum(self._weights[above + 1 :])
        place = int(np.searchsorted(upper, self._rng.random() * upper[-1], side="right"))
        return above + 1 + min(place, len(upper) - 1)
