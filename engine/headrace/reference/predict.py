"""Plain NumPy twins of `headrace.kernels.predict`."""

from __future__ import annotations

import numpy as np

from headrace.types import Float32, Float64, Int64


def _months_since(last_ms: Int64, now_ms: Int64) -> Float64:
    days = np.clip((now_ms - last_ms) / 86_400_000.0, 0.0, 365.0)
    return np.where(last_ms <= 0, 365.0, days) / 30.0


def purchase_features(
    dots: Float32,
    popularity: Float32,
    n_events: Int64,
    n_bought: Int64,
    last_purchase_ms: Int64,
    last_event_ms: Int64,
    now_ms: Int64,
) -> Float32:
    """The (n, 6) float32 features of n (person, item, moment) rows."""
    columns = [
        dots,
        np.log1p(popularity.astype(np.float64) * 1e6),
        np.log1p(n_events),
        np.log1p(n_bought),
        _months_since(last_purchase_ms, now_ms),
        _months_since(last_event_ms, now_ms),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def purchase_probability(
    features: Float32, weights: Float32, bias: float, calib_x: Float64, calib_y: Float64
) -> Float64:
    """The (n,) float64 calibrated probabilities; 0 where the score is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        score = features.astype(np.float64) @ weights.astype(np.float64) + bias
    return np.where(np.isfinite(score), np.interp(score, calib_x, calib_y), 0.0)
