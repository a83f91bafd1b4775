"""What could have been won with hindsight."""

from __future__ import annotations

import math

import numpy as np

from headrace.types import Float64, Int32


def oracle_value(values: Float64, prices: Int32, budget: int) -> float:
    """The most value that a budget buys of one episode at its market prices, the last impression in part.

    The fractional knapsack by value / price: Dantzig, Operations Research 5(2), 1957.

    values : (n,) float64 >= 0.   prices : (n,) int32 >= 0.   budget >= 0, in the prices' unit.
    """
    sold = prices > 0
    value, price = values[sold], prices[sold].astype(np.int64)
    order = np.argsort(-(value / price), kind="stable")
    spent = np.cumsum(price[order])
    n_whole = int(np.searchsorted(spent, budget, side="right"))
    parts = [values[~sold], value[order[:n_whole]]]
    if n_whole < len(order):
        left = budget - (int(spent[n_whole - 1]) if n_whole else 0)
        parts.append(value[order[n_whole : n_whole + 1]] * (left / price[order[n_whole]]))
    return math.fsum(np.concatenate(parts))
