"""Dynamic programming over auctions and budget left, by the prices of the past and the mean value."""

from __future__ import annotations

import math

import numpy as np

from headrace.errors import ConfigError
from headrace.types import Float64
from headrace_training.kernels.programme import fill_by_price, table_bid
from headrace_training.replay.strategies.base import NO_BID, Start

MAX_CELLS = 100_000_000
"""Of a table: 800 MB."""


class Rlb:
    """Cai et al., "Real-time bidding by reinforcement learning in display advertising", WSDM 2017, as published.

    Prices are those known at the start, and so is the mean value; where it is not, it is that of the values so far.
    Raises ConfigError at first price, and for a table that is too large.
    """

    def __init__(self, start: Start) -> None:
        self._worth = empty_table("rlb", start, start.budget)
        fill_by_price(start.prices, self._worth)
        self._mean, self._sum, self._n = start.value, 0.0, 0

    def begin(self) -> None:
        """The table is that of every episode."""

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The highest price that is worth paying; none for what is worth nothing."""
        self._sum += value
        self._n += 1
        # the table counts in mean values
        mean = self._sum / self._n if math.isnan(self._mean) else self._mean
        if value <= 0 or mean <= 0:
            return NO_BID
        return int(table_bid(self._worth, 1.0, value / mean, left, n_left))

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """Nothing: what is known at the start stands."""


def empty_table(name: str, start: Start, steps: int) -> Float64:
    """A table of (episode + 1, steps + 1) float64; ConfigError for what no table can serve."""
    if start.first_price:
        raise ConfigError("--strategy", got=name, expected="another at first price", hint=f"{name} is for second price")
    if (start.episode + 1) * (steps + 1) > MAX_CELLS:
        raise ConfigError(
            "--strategy",
            got=f"{name} with {start.episode} auctions and a budget of {start.budget}",
            expected=f"a table of at most {MAX_CELLS} cells",
            hint="give a shorter --episode",
        )
    return np.zeros((start.episode + 1, steps + 1))
