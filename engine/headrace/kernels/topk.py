"""The best k of scores computed elsewhere; personal search is native, see native/include/headrace/scan.hpp."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, Int64, UInt32

_STRIP = 128
"""Scores that are looked at together for one that may enter the answer; fewer are not vectorised."""

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
def _at_least(line: Float32, k: int, tops: Float32) -> float:
    """A score that k entries of the line reach: the k-th of the highest in every len(tops)-th column."""
    n_tops = tops.shape[0]
    if k > n_tops or line.shape[0] < 2 * n_tops:
        return np.float32(-np.inf)  # type: ignore[return-value]
    tops[:] = -np.inf
    for first in range(0, line.shape[0] - n_tops + 1, n_tops):
        part = line[first : first + n_tops]
        for i in range(n_tops):
            value = part[i]
            tops[i] = value if value > tops[i] else tops[i]
    return np.partition(tops, n_tops - k)[n_tops - k]  # type: ignore[no-any-return]


@njit(nogil=True, cache=True)
def _reaches(strip: Float32, least: float) -> bool:
    n_above = np.int32(0)
    for i in range(_STRIP):
        n_above += np.int32(strip[i] >= least)
    return bool(n_above > 0)


@njit(nogil=True, cache=True)
def offer_tile(scores: Float32, first_item: int, seen_indptr: Int64, seen: Int32, heaps: Slates) -> None:
    """Offer a tile of scores to one heap a row, but for what is seen; :func:`sort_heaps` ends the last tile's work.

    scores      : (n, m) float32, finite, of the items first_item …; overwritten at what is seen.
    seen_indptr : (n + 1,) int64 into seen; need not begin with 0.
    seen        : int32 items, in any order.
    heaps       : as Slates, with k_max = k and counts that are 0 before the first tile; rows come in ascending order.
    """
    rows, kept, counts = heaps
    k = rows.shape[1]
    tops = np.empty(256, dtype=np.float32)
    for q in range(scores.shape[0]):
        line, mine, best = scores[q], rows[q], kept[q]
        for p in range(seen_indptr[q], seen_indptr[q + 1]):
            column = seen[p] - first_item
            if 0 <= column < line.shape[0]:
                line[column] = -np.inf
        count = counts[q]
        least = best[0] if count == k else _at_least(line, k, tops)
        whole = line.shape[0] - line.shape[0] % _STRIP
        for first in range(0, line.shape[0], _STRIP):
            if first < whole and not _reaches(line[first : first + _STRIP], least):
                continue
            for i in range(first, min(first + _STRIP, line.shape[0])):
                if line[i] >= least and line[i] > -np.inf:
                    count = _push(mine, best, count, first_item + i, line[i])
                    if count == k:
                        least = best[0]
        counts[q] = count


@njit(nogil=True, cache=True)
def sort_heaps(heaps: Slates) -> None:
    """Turn every row's heap into a list, best first."""
    rows, kept, counts = heaps
    for q in range(rows.shape[0]):
        _sort(rows[q], kept[q], counts[q])


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
