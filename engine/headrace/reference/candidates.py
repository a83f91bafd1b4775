"""Plain twin of kernels.candidates."""

from __future__ import annotations

import numpy as np

from headrace.types import Bool, Float64, Int64


def mark_highest(worth: Float64, counts: Int64, limit: int, chosen: Bool) -> None:
    """See the kernel."""
    start = 0
    for count in counts.tolist():
        stretch = np.nan_to_num(worth[start : start + count], nan=-np.inf, posinf=np.inf, neginf=-np.inf)
        best = np.argsort(-stretch, kind="stable")[:limit]
        chosen[start + best] = True
        start += count
