"""A user-written bidding strategy, as the engine runs it, in a replay."""

from __future__ import annotations

import math

import numpy as np

from headrace.bidding.settings import BiddingConfig
from headrace.bidding.strategies.grammar import FIELDS
from headrace.bidding.strategies.strategy import Strategy as Compiled
from headrace.kernels.price import call_strategy
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import NO_BID, Start, Strategy

MICROS = 1_000_000.0
"""A CPM unit of the log is told as so many micros."""


class Written:
    """Bids what a user's function answers within the engine's limits; NO_BID for what is no price.

    The function is told what another strategy would bid, as ``paced_cpm`` and ``shaded_cpm``, values that make a mean
    impression worth the mean price known at the start, and the share of auctions that each bid would have won by then.

    written : with its defaults as parameters.   usual : hears of every auction, and of the bid made in it.

    Attributes: ``name``; ``asked`` and ``wrong``, how often the function was asked and answered no price.
    """

    def __init__(self, written: Compiled, usual: Strategy, start: Start) -> None:
        self.name, self.asked, self.wrong = written.name, 0, 0
        self._address = written.address
        self._usual = usual
        self._start = start
        self._mean_price = float(start.prices @ np.arange(MAX_BID + 1))
        self._worth = self._mean_price / start.value if start.value > 0.0 else 0.0
        self._most = BiddingConfig().strategy_max_over_value
        self._asked = np.zeros((1, len(FIELDS)))
        self._parameters = written.row([])[None]
        self._edges = np.arange(MAX_BID + 1) * MICROS
        self._wins = np.minimum(np.cumsum(start.prices), 1.0)[None]
        self._answer = np.empty(1)

    def begin(self) -> None:
        """An episode begins."""
        self._usual.begin()

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The function's bid, rounded down to whole CPM units."""
        usual = max(self._usual.bid(value, exchange, left, n_left), 0) * MICROS
        if self._worth == 0.0 and value > 0.0:
            self._worth = self._mean_price / value
        worth = value * self._worth * MICROS
        highest = min(MAX_BID * MICROS, left * MICROS, worth * self._most)
        if highest < MICROS:
            return NO_BID
        shares = min(left / max(self._start.budget, 1), 1.0), min(n_left / self._start.episode, 1.0)
        self._asked[0] = (worth, usual / worth, usual, usual, 0.0, highest, float(self._start.first_price), *shares)
        call_strategy(self._address, self._asked, self._parameters, self._edges, self._wins, self._answer)
        answer = float(self._answer[0])
        self.asked += 1
        if not 0.0 <= answer < math.inf:
            self.wrong += 1
            return NO_BID
        return int(min(answer, highest) / MICROS) if answer > 0.0 else NO_BID

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """The other strategy learns."""
        self._usual.learn(bid, won, price, click)
