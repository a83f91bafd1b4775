"""The best k of scores computed elsewhere; personal search is native, see native/include/headrace/scan.hpp."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, UInt32

Slates = tuple[Int32, Float32, Int32]
"""Output of every kernel here: rows (n, k_max) int32, scores (n, k_max) float32, counts (n,) int32; best first."""


@njit(nogil=True, cache=True)
def _place(rows: Int32, scores: Float32, size: int, row: int, score: float) -> None:
    """Put an entry where the root of a heap was; a parent is worse than its children: lower score, or higher row."""
    hole = 0
    child = 1
    while child < size:
        if child + 1 < size:
            a, b = scores[child], scores[child + 1]
            if b < a or (b == a and rows[child + 1] > rows[child]):
                child += 1
        worst = scores[child]
        if worst > score or (worst == score and rows[child] < row):
            break
        rows[hole] = rows[child]
        scores[hole] = worst
        hole = child
        child = 2 * hole + 1
    rows[hole] = row
    scores[hole] = score


@njit(nogil=True, cache=True)
def _push(rows: Int32, scores: Float32, count: int, row: int, score: float) -> int:
    """Offer one candidate to a heap whose root is the worst kept; returns how many are kept then."""
    if count == rows.shape[0]:
        if score > scores[0] or (score == scores[0] and row < rows[0]):
            _place(rows, scores, count, row, score)
        return count
    child = count
    while child > 0:
        parent = (child - 1) // 2
        if scores[parent] < score or (scores[parent] == score and rows[parent] > row):
            break
        rows[child] = rows[parent]
        scores[child] = scores[parent]
        child = parent
    rows[child] = row
    scores[child] = score
    return count + 1


@njit(nogil=True, cache=True)
def _sort(rows: Int32, scores: Float32, count: int) -> None:
    """Turn the heap into a list, best first."""
    for size in range(count - 1, 0, -1):
        row, score = rows[size], scores[size]
        rows[size], scores[size] = rows[0], scores[0]
        _place(rows, scores, size, row, score)


@njit(nogil=True, cache=True)
def top_scores(scores: Float32, banned: UInt32, bit: int, slate: Slates) -> None:
    """The best allowed entries of one row of scores; ties go to the lower index.

    scores : (n,) float32, free of NaN.
    banned : (>= n,) uint32, read at ``bit``.
    slate  : rows (k,), scores (k,), counts (1,).
    """
    rows, kept, counts = slate
    counts[0] = 0
    for row in range(scores.shape[0]):
        if (banned[row] >> np.uint32(bit)) & np.uint32(1) == 0:
            counts[0] = _push(rows, kept, counts[0], row, scores[row])
    _sort(rows, kept, counts[0])


@njit(nogil=True, cache=True)
def take_allowed(order: Int32, banned: UInt32, bit: int, rows: Int32, count: int) -> int:
    """Append the first allowed entries of an order to ``rows[count:]``; returns the new count.

    order  : (n,) int32 rows, best first.
    banned : uint32 words, read at ``bit``.
    rows   : (k,) int32, filled from ``count`` on.
    """
    for row in order:
        if count == rows.shape[0]:
            break
        if (banned[row] >> np.uint32(bit)) & np.uint32(1) == 0:
            rows[count] = row
            count += 1
    return count
