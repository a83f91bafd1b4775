"""From a (person, item, moment) to the probability of a purchase; training and serving both call these kernels."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from headrace.types import Float32, Float64, Int64

N_FEATURES = 6
_MS_PER_DAY = 86_400_000.0
_CAP_DAYS = 365.0


@njit(nogil=True, cache=True)
def _months_since(last_ms: int, now_ms: int) -> float:
    if last_ms <= 0:
        return _CAP_DAYS / 30.0
    days = (now_ms - last_ms) / _MS_PER_DAY
    return min(max(days, 0.0), _CAP_DAYS) / 30.0


@njit(nogil=True, cache=True)
def purchase_features(
    dots: Float32,
    popularity: Float32,
    n_events: Int64,
    n_bought: Int64,
    last_purchase_ms: Int64,
    last_event_ms: Int64,
    now_ms: Int64,
    out: Float32,
) -> None:
    """Fill the six features of n (person, item, moment) rows.

    Columns: factor dot product; log1p(popularity * 1e6); log1p(events of the person); log1p(purchases of the item by
    the person); thirtieths of days since their last purchase of it; the same since their last event. Days are
    clipped to 0…365; a time of 0 is "never" and counts as 365 days.

    dots, popularity : (n,) float32. Product of person's and item's factors; share of recent interactions, >= 0.
    n_events, n_bought : (n,) int64, >= 0.
    last_purchase_ms, last_event_ms, now_ms : (n,) int64, ms since 1970 UTC.
    out : (n, 6) float32, written in full.
    """
    for row in range(dots.shape[0]):
        out[row, 0] = dots[row]
        out[row, 1] = math.log1p(popularity[row] * 1e6)
        out[row, 2] = math.log1p(n_events[row])
        out[row, 3] = math.log1p(n_bought[row])
        out[row, 4] = _months_since(last_purchase_ms[row], now_ms[row])
        out[row, 5] = _months_since(last_event_ms[row], now_ms[row])


@njit(nogil=True, cache=True)
def _calibrate(score: float, calib_x: Float64, calib_y: Float64) -> float:
    # a score that is not a number says nothing, so it is worth nothing
    if not math.isfinite(score):
        return 0.0
    last = calib_x.shape[0] - 1
    if score <= calib_x[0]:
        return float(calib_y[0])
    if score >= calib_x[last]:
        return float(calib_y[last])
    right = np.searchsorted(calib_x, score, side="right")
    left = right - 1
    share = (score - calib_x[left]) / (calib_x[right] - calib_x[left])
    return float(calib_y[left] + share * (calib_y[right] - calib_y[left]))


@njit(nogil=True, cache=True)
def purchase_probability(
    features: Float32, weights: Float32, bias: float, calib_x: Float64, calib_y: Float64, out: Float64
) -> None:
    """Calibrated probability that the person buys the item within the model's horizon.

    Row i is calibrate(features[i] @ weights + bias), summed in float64; calibrate is linear between the knots and
    constant outside them. A score that is not finite gives 0.

    features : (n, 6) float32 of `purchase_features`.
    weights : (6,) float32.   bias : scalar.
    calib_x : (k,) float64, strictly increasing, k >= 1.   calib_y : (k,) float64 in [0, 1], not decreasing.
    out : (n,) float64, written in full.
    """
    for row in range(features.shape[0]):
        score = bias
        for column in range(features.shape[1]):
            score += np.float64(features[row, column]) * np.float64(weights[column])
        out[row] = _calibrate(score, calib_x, calib_y)
