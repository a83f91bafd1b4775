"""The best columns of rows of scores."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32


@njit(nogil=True, cache=True)
def select_top(scores: Float32, out: Int32) -> bool:
    """Fill each row of ``out`` with the best columns of the row of ``scores``; ties go to the lower column.

    scores : (n, m) float32; -inf bars a column.
    out    : (n, k) int32, filled with -1 by the caller; k is meant to be small, the cost of a hit being k.
    Returns False, with ``out`` undefined, when a score is NaN or +inf.
    """
    k = out.shape[1]
    best = np.empty(k, dtype=np.float32)
    for row in range(scores.shape[0]):
        count = 0
        floor = np.float32(-np.inf)
        for column in range(scores.shape[1]):
            score = scores[row, column]
            if score <= floor:
                continue
            if not score < np.inf:
                return False
            place = min(count, k - 1)
            while place > 0 and best[place - 1] < score:
                best[place] = best[place - 1]
                out[row, place] = out[row, place - 1]
                place -= 1
            best[place] = score
            out[row, place] = column
            count = min(count + 1, k)
            if count == k:
                floor = best[k - 1]
    return True
