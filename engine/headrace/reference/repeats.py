"""Plain twins of kernels.repeats."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float32, Float64, Int8, Int32


def repeat_lifts(merged: Any, wanted: Int8, n_items: int, boost: float, days: float) -> list[dict[int, float]]:
    """For each person the lift of each item row."""
    result = []
    for q in range(len(wanted)):
        part = slice(merged.indptr[q], merged.indptr[q + 1])
        keep = (merged.n_bought[part] > 0) & (merged.rows[part] < n_items) & bool(wanted[q])
        age_days = np.maximum(0, merged.last_event_ms[q] - merged.last_bought_ms[part]) / 86_400_000
        lifts = boost * np.log1p(merged.n_bought[part].astype(np.float64)) * np.exp(-age_days / days)
        result.append(dict(zip(merged.rows[part][keep].tolist(), lifts[keep].tolist(), strict=True)))
    return result


def top_with_repeats(scores: Float64, lifts: dict[int, float], allowed: Any, k: int) -> tuple[Int32, Float32]:
    """The best k allowed rows of one person's scores, lifts added; ties go to the lower row."""
    total = scores.astype(np.float64).copy()
    for row, lift in lifts.items():
        total[row] += lift
    order = np.lexsort((np.arange(len(total)), -total))
    best = order[allowed[order]][:k]
    return best.astype(np.int32), total[best].astype(np.float32)
