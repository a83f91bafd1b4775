"""What a person bought before competes again, with a lift for how often and how lately."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.kernels.history import Merged
from headrace.types import Float32, Int8, Int32, Int64, UInt32

DAY_MS = 86_400_000.0


@njit(nogil=True, cache=True)
def repeat_lifts(
    merged: Merged, wanted: Int8, n_items: int, boost: float, days: float, out: tuple[Int64, Int32, Float32]
) -> None:
    """Items that each person has bought, with what that adds to their score.

    The lift is boost * log(1 + purchases less returns) * exp(-age / days), where age is the time from the last purchase
    of the item to the person's last event of any kind: nothing depends on a clock.

    merged : histories of n people.   wanted : (n,) int8, nought leaves a person out.
    n_items : rows from here on are unknown to the artifact and left out.
    out : indptr (n + 1,) int64, rows (len(merged.rows),) int32 and lifts (len(merged.rows),) float32; those of person
        q lie in [indptr[q], indptr[q + 1]), in the history's order.
    """
    indptr, rows, lifts = out
    size = 0
    indptr[0] = 0
    for q in range(wanted.shape[0]):
        for p in range(merged.indptr[q], merged.indptr[q + 1]):
            if wanted[q] and merged.n_bought[p] > 0 and merged.rows[p] < n_items:
                age_days = max(0.0, (merged.last_event_ms[q] - merged.last_bought_ms[p]) / DAY_MS)
                rows[size] = merged.rows[p]
                lifts[size] = np.float32(boost * np.log1p(merged.n_bought[p]) * np.exp(-age_days / days))
                size += 1
        indptr[q + 1] = size


@njit(nogil=True, cache=True, fastmath={"contract"})
def _dot(a: Float32, b: Float32) -> float:
    total = np.float32(0.0)
    for j in range(b.shape[0]):
        total = total + a[j] * b[j]
    return float(total)


@njit(nogil=True, cache=True)
def _insert(rows: Int32, scores: Float32, count: int, row: int, score: float) -> int:
    """Put one item in its place of a list that is best first; what falls off the end is forgotten."""
    position = count
    while position > 0:
        ahead = position - 1
        if scores[ahead] > score or (scores[ahead] == score and rows[ahead] < row):
            break
        position -= 1
    if position == rows.shape[0]:
        return count
    count = min(count + 1, rows.shape[0])
    for i in range(count - 1, position, -1):
        rows[i] = rows[i - 1]
        scores[i] = scores[i - 1]
    rows[position] = row
    scores[position] = score
    return count


@njit(nogil=True, cache=True)
def merge_repeats(
    lifted: tuple[Int64, Int32, Float32],
    factors: Float32,
    vectors: Float32,
    banned: UInt32,
    limits: Int32,
    slates: tuple[Int32, Float32, Int32],
) -> None:
    """Let lifted items into slates that hold none of them yet; ties go to the lower row.

    lifted  : as repeat_lifts wrote it.   factors : (n_items, d) float32.   vectors : (n, >= d) float32.
    banned  : (>= n_items,) uint32; bit q of word i bars item i from the slate of person q.
    limits  : (n,) int32, the slates' lengths.
    slates  : rows (n, k) int32, scores (n, k) float32 and counts (n,) int32, best first; changed in place.
    """
    indptr, lifted_rows, lifts = lifted
    rows, scores, counts = slates
    d = factors.shape[1]
    for q in range(limits.shape[0]):
        k = limits[q]
        for p in range(indptr[q], indptr[q + 1]):
            row = lifted_rows[p]
            if (banned[row] >> np.uint32(q)) & np.uint32(1) == 0:
                score = np.float32(_dot(factors[row], vectors[q, :d]) + lifts[p])
                counts[q] = _insert(rows[q, :k], scores[q, :k], counts[q], row, score)
