"""The re-solving pacer at first price: bids are shaded by the learned win rates of the exchange."""

from __future__ import annotations

import math

import numpy as np

from headrace_training.kernels.shading import (
    N_VALUES,
    N_WORTHS,
    Market,
    foretell_first_price,
    learn_first_price,
    money_for_value,
    shaded_bid,
)
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import NO_BID, Start
from headrace_training.replay.strategies.censoring import TRUSTED_AUCTIONS, PriceGuess

KEEP = 0.5 ** (1 / 1000)
KEEP_COST = 0.5 ** (1 / 250)
TRUSTED_COSTS = 20.0
"""Auctions for which costs are held to be as foretold."""
EVERY = 20
"""Auctions between two forecasts."""
HUGE_WORTH = 1e12


class Shading:
    """Bids the most of (μ value - bid) · win rate; μ is solved at each bid so that the budget left lasts.

    Lagrange's condition of "most value within the budget" at first price: Zhang et al., "MEOW: a space-efficient
    nonparametric bid shading algorithm", KDD 2021, for the surplus, with money's worth μ in place of 1. What auctions
    cost of late, by what was foretold of them, corrects the forecast.
    """

    def __init__(self, start: Start) -> None:
        n_exchanges = start.n_exchanges
        weight = min(start.weight or TRUSTED_AUCTIONS, TRUSTED_AUCTIONS)
        self._guesses = [PriceGuess(start, number) for number in range(n_exchanges)]
        self._market = Market(
            prices=np.tile(start.prices * weight, (n_exchanges + 1, 1)),
            rates=np.zeros((n_exchanges, MAX_BID + 1)),
            values=np.zeros(N_VALUES),
            costs=np.zeros((n_exchanges, N_WORTHS)),
            spend=np.zeros(N_VALUES + N_WORTHS),
        )
        self._origin: float | None = None
        self._foretold = self._paid = start.rate * TRUSTED_COSTS
        self._n = 0
        self._octaves, self._exchange = 0.0, 0

    def begin(self) -> None:
        """Nothing changes but the budget."""

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The shaded bid, at most what is left; none for what is worth nothing."""
        self._exchange, self._octaves = exchange, -math.inf
        if value <= 0:
            return NO_BID
        if self._origin is None:
            self._origin = math.log2(value)
            self._market.values[N_VALUES // 2] = TRUSTED_AUCTIONS
        if self._n % EVERY == 0:
            foretell_first_price(self._market, TRUSTED_AUCTIONS)
        self._octaves = math.log2(value) - self._origin
        correction = self._paid / self._foretold if self._foretold and self._paid else 1.0
        money = self._octaves + money_for_value(self._market, left / n_left / correction)
        worth = 2**money if money < math.log2(HUGE_WORTH) else HUGE_WORTH
        return int(shaded_bid(self._market.rates[exchange], worth, left))

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Remember the price, and what the bid cost beside what was foretold."""
        if self._origin is None:
            return
        if 0 <= bid <= MAX_BID:
            foretold = bid * self._market.rates[self._exchange, bid]
            self._foretold = self._foretold * KEEP_COST + foretold
            self._paid = self._paid * KEEP_COST + (bid if won else 0)
        price = self._guesses[self._exchange].price(price, bid)
        learn_first_price(self._market, self._exchange, price, self._octaves, KEEP)
        self._n += 1
