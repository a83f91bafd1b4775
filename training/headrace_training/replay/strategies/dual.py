"""Bids value / λ; the price λ of money rises with what is spent and falls with what is saved."""

from __future__ import annotations

import math

from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.linear import linear

FURTHEST = 50.0
"""Of log λ from where it began: what is beyond is no bid, or any."""


class Dual:
    """Balseiro, Lu, Mirrokni, "The best of many worlds: dual mirror descent", Operations Research 71(1), 2023.

    After each auction log λ moves by (paid / rate - 1) / sqrt(n), the mirror of the entropy, where rate is the budget
    an auction and n the auctions of an episode. λ begins where the linear strategy bids.
    """

    def __init__(self, start: Start) -> None:
        self._base = linear(start)
        self._rate = start.rate
        self._first_price = start.first_price
        self._step = 1 / math.sqrt(start.episode)
        self._moved = 0.0
        self._begun = False

    def begin(self) -> None:
        """λ stays: the budget of an auction is the same."""
        if not self._begun:
            self._base.begin()
            self._begun = True

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """Value / λ, at most 300, and at first price at most what is left."""
        bid = int(min(self._base.price(value) * math.exp(-self._moved), MAX_BID))
        return min(bid, left) if self._first_price else bid

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Move λ."""
        paid = (bid if self._first_price else price) if won else 0
        used = paid / self._rate if self._rate else 0.0
        self._moved = min(max(self._moved + self._step * (used - 1), -FURTHEST), FURTHEST)
