"""Bids that rise ever slower with the value."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from headrace.types import Float64
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.fitted import Fitted


def ortb(start: Start) -> Fitted:
    """Bids sqrt(c v / λ + c²) - c: Zhang, Yuan, Wang, "Optimal real-time bidding", KDD 2014, equation 8.

    c is fitted to the win rates known at the start, w(b) = b / (c + b), by least squares; 1 / λ is the free number.
    """
    c = fit_c(start.prices)

    def formula(values: Float64, number: float) -> Float64:
        part = values * number
        # the closed form, written so that it keeps its digits for small values
        return np.asarray(part / (np.sqrt(part / c + 1) + 1))

    return Fitted(start, formula)


def fit_c(prices: Float64) -> float:
    """The c of w(b) = b / (c + b) nearest to the win rates at bids 0 … 300.

    prices : (301,) float64, share of auctions by market price.
    """
    bids = np.arange(MAX_BID + 1)
    rates = np.cumsum(prices)

    def error(log_c: float) -> float:
        return float(np.square(bids / (np.exp(log_c) + bids) - rates).sum())

    return float(np.exp(minimize_scalar(error, bounds=(np.log(1e-3), np.log(1e5)), method="bounded").x))
