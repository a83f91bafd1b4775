"""Which candidates of an impression are worth keeping."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Bool, Float64, Int64


@njit(nogil=True, cache=True)
def mark_highest(worth: Float64, counts: Int64, limit: int, chosen: Bool) -> None:
    """Mark the highest ``limit`` of each stretch, all where there are no more; ties go to the first, NaN comes last.

    worth : (c,) float64, stretch after stretch.   counts : (k,) int64, lengths of the stretches.   limit : at least 1.
    chosen : (c,) bool, all False; written.
    """
    best = np.empty(limit)
    place = np.empty(limit, np.int64)
    start = 0
    for count in counts:
        n = 0
        for at in range(start, start + count):
            value = worth[at] if worth[at] == worth[at] else -np.inf
            if n == limit and value <= best[n - 1]:
                continue
            slot = n if n < limit else n - 1
            while slot > 0 and best[slot - 1] < value:
                best[slot], place[slot] = best[slot - 1], place[slot - 1]
                slot -= 1
            best[slot], place[slot] = value, at
            n = min(n + 1, limit)
        for slot in range(n):
            chosen[place[slot]] = True
        start += count
