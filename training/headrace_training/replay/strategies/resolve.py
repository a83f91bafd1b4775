"""The re-solving pacer: a bid follows from the budget and the auctions left, and what these are foretold to cost."""

from __future__ import annotations

import math

import numpy as np

from headrace.types import Float64
from headrace_training.kernels.outlook import (
    MAX_BID,
    N_BINS,
    OCTAVES,
    SMALLEST_PRICE,
    STEPS,
    Outlook,
    begin_block,
    end_block,
    foretell,
    learn_auction,
    second_price_bid,
)
from headrace_training.replay.strategies.base import NO_BID, Start, Strategy
from headrace_training.replay.strategies.censoring import PriceGuess
from headrace_training.replay.strategies.shading import Shading

LEVEL_HALF_LIVES = (60.0, 250.0, 1000.0, 4000.0, 16000.0)
SHAPE_HALF_LIFE = 4000.0
WINDOW_HALF_LIVES = (125.0, 500.0, 2000.0, 8000.0, 32000.0)
"""Memories, in auctions: whole ranges, so that the log itself tells which to trust."""
BLOCK = 125
"""Auctions over which forecasts are held against what came; an eighth of an episode where that is less."""
KEPT_A_BLOCK = 0.995
EVERY = 10
"""Auctions between two forecasts."""
TRUSTED_AUCTIONS = 100.0
"""Weight of the prices known at the start, at most."""
TRUSTED_LEVEL = 20.0
RIDGE = 0.1
"""Squared error of each forecast before the first block: ten blocks of a tenth."""


def resolve(start: Start) -> Strategy:
    """The pacer for what a winner pays."""
    return Shading(start) if start.first_price else Resolve(start)


class Resolve:
    """Second price: buys what is worth its price at the exchange rate of value for money that uses the budget up.

    The rate is solved anew at each bid (Agrawal, Wang, Ye, "A dynamic near-optimal algorithm for online linear
    programming", Operations Research 62(4), 2014) on a stacked forecast of the joint distribution of value and price.
    Before the first auction values are not known; the first one stands for all, at the prices known at the start.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._block = max(1, min(BLOCK, start.episode // 8))
        self._outlook: Outlook | None = None
        self._guess = PriceGuess(start)
        self._n = 0
        self._value, self._left = 0.0, 0

    def begin(self) -> None:
        """Nothing changes but the budget."""

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The highest price worth paying; none for what is worth nothing."""
        self._value, self._left = value, left
        if value <= 0.0:
            return NO_BID
        if self._outlook is None:
            self._outlook = new_outlook(self._start, value)
        if self._n % EVERY == 0:
            foretell(self._outlook)
        if self._n % self._block == 0:
            begin_block(self._outlook, left / n_left)
        return int(second_price_bid(self._outlook, value, left, n_left))

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Remember the price; where it is censored, one that the others seen make likely."""
        if self._outlook is None:
            return
        price = self._guess.price(price, min(bid, self._left))
        learn_auction(self._outlook, self._value, price)
        self._n += 1
        if self._n % self._block == 0:
            end_block(self._outlook, KEPT_A_BLOCK)


def new_outlook(start: Start, value: float) -> Outlook:
    """What is expected when all that is known are prices and one value."""
    halves = np.array((SHAPE_HALF_LIFE, *WINDOW_HALF_LIVES))
    n_memories, n_levels = len(halves), len(LEVEL_HALF_LIVES)
    log_prices = np.log(np.maximum(np.arange(MAX_BID + 1), SMALLEST_PRICE))
    level_price, level_value = float(start.prices @ log_prices), math.log(value)
    origin = (level_value - level_price) / math.log(2.0)
    weight = min(start.weight or TRUSTED_AUCTIONS, TRUSTED_AUCTIONS)
    mass = np.tile(_prior(start.prices, level_price) * weight, (n_memories, 1))
    mass[0] /= math.exp(level_price)
    ridge = np.eye(n_memories) * RIDGE, np.stack([np.eye(n_levels) * RIDGE] * 2)
    outlook = Outlook(
        mass=mass,
        weight=np.full(n_memories, weight),
        keep=0.5 ** (1 / halves),
        sums=np.repeat([[level_price], [level_value]], n_levels, axis=1) * TRUSTED_LEVEL,
        counts=np.full(n_levels, TRUSTED_LEVEL),
        kept=0.5 ** (1 / np.array(LEVEL_HALF_LIVES)),
        level_mix=np.full((2, n_levels), 1 / n_levels),
        level_errors=ridge[1],
        levels_then=np.zeros((2, n_levels)),
        # the shape at today's levels counts as much as all windows
        curve_mix=np.array([0.5] + [0.5 / (n_memories - 1)] * (n_memories - 1)),
        curve_errors=ridge[0],
        spend_then=np.zeros(n_memories),
        curves=np.zeros((n_memories + 1, N_BINS + 1)),
        block=np.zeros(4),
        now=np.array([level_price, level_value, origin, 0.0]),
    )
    foretell(outlook)
    return outlook


def _prior(prices: Float64, level_price: float) -> Float64:
    """Price of an auction by bin when all values are the first one; (432,) float64."""
    price = np.arange(1, MAX_BID + 1)
    places = (level_price / math.log(2.0) - np.log2(price) + OCTAVES / 2) * STEPS
    return np.asarray(np.bincount(places.astype(np.int64), price * prices[1:], N_BINS), dtype=np.float64)
