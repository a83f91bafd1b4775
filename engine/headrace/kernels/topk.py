"""Exact scores and the best k of them.

Scores are dot products accumulated in the order of the factors' columns, one fused multiply-add a column, the same
for one query as for thirty-two: an answer cannot depend on its batch companions. Item factors stand in blocks of
BLOCK items, transposed, so that the loop over items of one block vectorises.

``fastmath={"contract"}`` allows fused multiply-add and nothing else: 1.7 times the speed, at most one rounding a
column less than the twin.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, Int64, UInt32

BLOCK = 128
"""Items in a block: 128 x 64 float32 fill 32 KiB, which stays in the first-level cache while all queries pass."""

UNROLL = 8
"""Columns are padded with zeros to a multiple of this."""

_STRIP = 16
"""Items of a block that are looked at together for one that may enter the answer."""

MAX_QUERIES = 32
"""Queries in one pass: one bit each of a word of ``banned``."""

Slates = tuple[Int32, Float32, Int32]
"""Output of every kernel here: rows (n, k_max) int32, scores (n, k_max) float32, counts (n,) int32; best first."""


@njit(nogil=True, cache=True, fastmath={"contract"})
def score_block(block: Float32, query: Float32, out: Float32) -> None:
    """Dot products of one query with the items of one block.

    block : (d, BLOCK) float32 with d a multiple of UNROLL.
    query : (d,) float32.
    out   : (BLOCK,) float32, written in full.
    """
    for lane in range(BLOCK):
        out[lane] = 0.0
    for j in range(0, block.shape[0], UNROLL):
        b0, b1, b2, b3 = block[j], block[j + 1], block[j + 2], block[j + 3]
        b4, b5, b6, b7 = block[j + 4], block[j + 5], block[j + 6], block[j + 7]
        x0, x1, x2, x3 = query[j], query[j + 1], query[j + 2], query[j + 3]
        x4, x5, x6, x7 = query[j + 4], query[j + 5], query[j + 6], query[j + 7]
        for lane in range(BLOCK):
            low = out[lane] + x0 * b0[lane] + x1 * b1[lane] + x2 * b2[lane] + x3 * b3[lane]
            out[lane] = low + x4 * b4[lane] + x5 * b5[lane] + x6 * b6[lane] + x7 * b7[lane]


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
    """Offer one candidate to a heap whose root is the worst kept; rows must come in ascending order."""
    if count == rows.shape[0]:
        if score > scores[0]:
            _place(rows, scores, count, row, score)
        return count
    child = count
    while child > 0:
        parent = (child - 1) // 2
        # equal scores: the newcomer's row is higher, so it is the worse
        if scores[parent] < score:
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
def _n_above(scores: Float32, first: int, size: int, threshold: float) -> int:
    n_above = np.int32(0)
    for lane in range(size):
        n_above += np.int32(scores[first + lane] > threshold)
    return n_above  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _offer_block(scores: Float32, first: int, n_items: int, banned: UInt32, bit: int, heap: Slates) -> float:
    """Offer the allowed items of one block; returns the score that a later item must exceed."""
    rows, kept, counts = heap
    k, count = rows.shape[0], counts[0]
    threshold = kept[0] if count == k else np.float32(-np.inf)
    for strip in range(0, BLOCK, _STRIP):
        if _n_above(scores, strip, _STRIP, threshold) == 0:
            continue
        for lane in range(strip, min(strip + _STRIP, n_items - first)):
            if scores[lane] > threshold and (banned[first + lane] >> np.uint32(bit)) & np.uint32(1) == 0:
                count = _push(rows, kept, count, first + lane, scores[lane])
                if count == k:
                    threshold = kept[0]
    counts[0] = count
    return threshold  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def top_rows(blocks: Float32, n_items: int, queries: Float32, limits: Int32, banned: UInt32, slates: Slates) -> None:
    """The best allowed items of each query over all items; ties go to the lower row.

    blocks  : (n_blocks, d, BLOCK) float32, items in order, lanes beyond n_items of any value.
    queries : (n, d) float32, n at most MAX_QUERIES.
    limits  : (n,) int32 in [0, k_max]; a query that wants nothing costs nothing.
    banned  : (>= n_items,) uint32; bit q of word i bars item i from the answer of query q.
    slates  : see Slates; counts say how many entries of a row are valid.
    """
    rows, scores, counts = slates
    buffer = np.empty(BLOCK, dtype=np.float32)
    thresholds = np.full(queries.shape[0], -np.inf, dtype=np.float32)
    counts[:] = 0
    for b in range(blocks.shape[0]):
        for q in range(queries.shape[0]):
            k = limits[q]
            if k == 0:
                continue
            score_block(blocks[b], queries[q], buffer)
            if _n_above(buffer, 0, BLOCK, thresholds[q]):
                heap = (rows[q, :k], scores[q, :k], counts[q : q + 1])
                thresholds[q] = _offer_block(buffer, b * BLOCK, n_items, banned, q, heap)
    for q in range(queries.shape[0]):
        _sort(rows[q], scores[q], counts[q])


@njit(nogil=True, cache=True, fastmath={"contract"})
def _dot(a: Float32, b: Float32) -> float:
    total = np.float32(0.0)
    for j in range(b.shape[0]):
        total = total + a[j] * b[j]
    return total  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def top_candidates(
    factors: Float32, candidates: Int64, query: Float32, banned: UInt32, bit: int, slate: Slates
) -> None:
    """The best allowed of some candidates for one query, scored bit for bit as :func:`top_rows` does.

    factors    : (n_items, d) float32.
    candidates : (m,) int64, ascending, without repeats, all in [0, n_items).
    query      : (>= d,) float32, zero beyond d.
    banned     : as in top_rows, read at ``bit``.
    slate      : rows (k,), scores (k,), counts (1,).
    """
    rows, scores, counts = slate
    counts[0] = 0
    d = factors.shape[1]
    for row in candidates:
        if (banned[row] >> np.uint32(bit)) & np.uint32(1) == 0:
            counts[0] = _push(rows, scores, counts[0], row, _dot(factors[row], query[:d]))
    _sort(rows, scores, counts[0])


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


@njit(nogil=True, cache=True)
def ban(banned: UInt32, indptr: Int64, rows: Int32) -> None:
    """Set bit q of ``banned[rows[p]]`` for every p in ``[indptr[q], indptr[q + 1])``; negative rows are skipped.

    banned : uint32 words, changed in place.
    indptr : (n + 1,) int64 with n at most MAX_QUERIES.
    rows   : int32.
    """
    for q in range(indptr.shape[0] - 1):
        mark = np.uint32(1) << np.uint32(q)
        for p in range(indptr[q], indptr[q + 1]):
            if rows[p] >= 0:
                banned[rows[p]] |= mark
