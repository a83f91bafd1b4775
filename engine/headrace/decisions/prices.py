"""Prices that nobody told, from the win-rate model and what the outcome leaves possible."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64


def price_at(edges: Float64, win_rate: Float64, low: Float64, high: Float64, share: Float64) -> Float64:
    """The price below which a share of the auctions lies whose price is within (low, high], (n,) float64.

    edges : (b + 1,) float64, ascending.   win_rate : (b + 1,) float64 of one row of a market.
    low, high, share : (n,) float64; high may be infinite, a share is within [0, 1].

    Where the model leaves the interval without any auction, the price is `low`, or `edges[-1]` if that is higher and
    within; prices beyond the last edge are taken to lie at twice the last edge.
    """
    ends, rates = np.append(edges, 2.0 * edges[-1]), np.append(win_rate, 1.0)
    rates[0] = 0.0
    bottom = np.interp(low, ends, rates)
    top = np.interp(high, ends, rates, right=1.0)
    wanted = bottom + share * (top - bottom)
    # where the curve is level, the lowest price that reaches it: searched from the left
    place = np.clip(np.searchsorted(rates, wanted, side="left"), 1, len(rates) - 1)
    step = rates[place] - rates[place - 1]
    part = np.divide(wanted - rates[place - 1], step, out=np.ones_like(wanted), where=step > 0.0)
    price = ends[place - 1] + part * (ends[place] - ends[place - 1])
    return np.where(top > bottom, np.clip(price, low, high), low)


def median_price(edges: Float64, win_rate: Float64, low: float, high: float) -> float:
    """The price in the middle of those that are possible; see `price_at`."""
    return float(price_at(edges, win_rate, np.array([low]), np.array([high]), np.array([0.5]))[0])
