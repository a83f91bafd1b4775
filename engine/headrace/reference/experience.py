"""Plain NumPy twins of `headrace.kernels.experience`."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64


def real_shares(
    real: Float64, due: Float64, bid: Float64, n_bid: Float64, prior: float, low: float, high: float
) -> Float64:
    """(m,) what happened over what was expected."""
    each = prior * np.divide(bid, n_bid, out=np.zeros_like(bid), where=n_bid > 0)
    return np.clip(_ratio(real + each, due + each), low, high)


def bid_shares(part: Float64, whole: Float64, n: Float64, prior: float, least: float) -> Float64:
    """(m,) shares that are bid on."""
    each = prior * _ratio(whole, n)
    return np.clip(_ratio(part + each, whole + each), least, 1.0)


def levels(
    matched: Float64, mass: Float64, matched_lately: Float64, mass_lately: Float64, prior: float, error: float
) -> Float64:
    """(m,) impressions a week of expected traffic."""
    usual = matched / (mass + prior)
    lately = (matched_lately + prior * usual) / (mass_lately + prior)
    told = error**2 * matched_lately
    result: Float64 = usual + told / (1.0 + told) * (lately - usual)
    return result


def _ratio(top: Float64, bottom: Float64) -> Float64:
    return np.divide(top, bottom, out=np.ones_like(top), where=bottom > 0.0)
