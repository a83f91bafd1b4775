"""Linear bids whose level a controller moves, so that spending keeps to its plan."""

from __future__ import annotations

import math

from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.linear import linear

PERIODS = 40
"""Of an episode; the level moves after each."""
PROPORTIONAL, INTEGRAL, DERIVATIVE = 0.5, 0.2, 0.1
FURTHEST = 3.0
"""Of the controller's signal, either way: bids of a twentieth, or twenty times."""


class Pid:
    """Bids linear · exp(signal): Zhang et al., "Feedback control of real-time display advertising", WSDM 2016.

    The error of a period is 1 - spent / planned, the plan being what was left an auction when the period began.
    """

    def __init__(self, start: Start) -> None:
        self._base = linear(start)
        self._first_price = start.first_price
        self._period = max(1, start.episode // PERIODS)
        self._signal = self._sum = self._last = 0.0
        self._planned, self._left_then, self._n = 0.0, 0, 0

    def begin(self) -> None:
        """Fit the bids; the signal and its memory go on."""
        self._base.begin()
        self._n = 0

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The linear bid at the controlled level, at most 300, and at first price at most what is left."""
        if self._n % self._period == 0:
            if self._n and self._planned:
                self._control(1 - (self._left_then - left) / self._planned)
            self._planned, self._left_then = left / n_left * self._period, left
        self._n += 1
        bid = int(min(self._base.price(value) * math.exp(self._signal), MAX_BID))
        return min(bid, left) if self._first_price else bid

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Nothing beyond the budget left, which the next bid is told."""
        return

    def _control(self, error: float) -> None:
        error = max(error, -FURTHEST)
        # the sum may not grow while the signal stands at its end
        if abs(self._signal) < FURTHEST or self._signal * error < 0:
            self._sum += error
        signal = PROPORTIONAL * error + INTEGRAL * self._sum + DERIVATIVE * (error - self._last)
        self._signal = min(max(signal, -FURTHEST), FURTHEST)
        self._last = error
