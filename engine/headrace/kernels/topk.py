"""Exact scores and the best k of them.

A score is a dot product whose order of additions is written down (:func:`_dot`), so it is the same to the bit whichever
kernel computes it and whoever else is asked about. To find the best of all items, a coarse scan bounds every score from
8-bit factors, and only items whose bound reaches the k-th best so far are scored: the answer is exact, for a third of
the time and a quarter of the memory traffic of scoring everything.

``fastmath={"contract"}`` allows fused multiply-add and nothing else: at most one rounding a column less than the twin.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Float32, Int8, Int16, Int32, Int64, UInt32

BLOCK = 128
"""Items in a block of coarse factors, which stand transposed so that the loop over the items of a block vectorises."""

UNROLL = 8
"""Columns of coarse factors are padded with zeros to a multiple of this."""

_STRIP = 128
"""Scores that are looked at together for one that may enter the answer; fewer are not vectorised."""

_COARSE_STRIP = 32
"""Coarse scores that are looked at together; divides BLOCK."""

MAX_QUERIES = 32
"""Queries in one pass: one bit each of a word of ``banned``."""

Slates = tuple[Int32, Float32, Int32]
"""Output of every kernel here: rows (n, k_max) int32, scores (n, k_max) float32, counts (n,) int32; best first."""


class Coarse(NamedTuple):
    """Item factors in 8 bits: item i's are about ``scale`` times column i of its block.

    blocks : (n_blocks, d', BLOCK) int8; columns of length at most :func:`longest`, zeros beyond the items.
    scale : of all. max_norm : of an item's factors. max_error : largest distance between factors and their coarse form.
    """

    blocks: Int8
    scale: float
    max_norm: float
    max_error: float


@njit(nogil=True, cache=True)
def longest(d: int) -> float:
    """Norm to scale a d-vector to before rounding, so that no dot product of two such vectors leaves 16 bits.

    Rounding adds at most sqrt(d) / 2 to a norm, and the product of two norms bounds the dot product.
    """
    return 181.0 - 0.5 * math.sqrt(d)


@njit(nogil=True, cache=True)
def _coarse_query(query: Float32, coarse: Coarse, out: Int16) -> tuple[float, float]:
    """Round a query to 16 bits; returns the worth of one unit of coarse score and the most that a score can be off."""
    norm = 0.0
    for value in query:
        norm += float(value) * float(value)
    norm = np.sqrt(norm)
    step = norm / longest(query.shape[0])
    rounded_norm, error = 0.0, 0.0
    for j in range(query.shape[0]):
        out[j] = np.int16(np.rint(query[j] / step)) if step > 0.0 else np.int16(0)
        rounded = step * out[j]
        rounded_norm += rounded * rounded
        error += (query[j] - rounded) ** 2
    # The last term covers the rounding of the exact float32 score itself.
    slack = np.sqrt(error) * coarse.max_norm + np.sqrt(rounded_norm) * coarse.max_error + 1e-4 * norm * coarse.max_norm
    return step * coarse.scale, slack


@njit(nogil=True, cache=True)
def _top(coarse_scores: Int16) -> int:
    top = np.int16(-32768)
    for lane in range(coarse_scores.shape[0]):
        value = coarse_scores[lane]
        top = value if value > top else top
    return int(top)


@njit(nogil=True, cache=True)
def _scan_block(block: Int8, query: Int16, out: Int16) -> int:
    """Coarse scores of one block; returns the highest. Sums wrap around on the way, never in the end."""
    for lane in range(BLOCK):
        out[lane] = 0
    for j in range(0, block.shape[0], UNROLL):
        b0, b1, b2, b3 = block[j], block[j + 1], block[j + 2], block[j + 3]
        b4, b5, b6, b7 = block[j + 4], block[j + 5], block[j + 6], block[j + 7]
        x0, x1, x2, x3 = query[j], query[j + 1], query[j + 2], query[j + 3]
        x4, x5, x6, x7 = query[j + 4], query[j + 5], query[j + 6], query[j + 7]
        for lane in range(BLOCK):
            low = x0 * b0[lane] + x1 * b1[lane] + x2 * b2[lane] + x3 * b3[lane]
            high = x4 * b4[lane] + x5 * b5[lane] + x6 * b6[lane] + x7 * b7[lane]
            out[lane] = np.int16(out[lane] + low + high)
    return _top(out)  # type: ignore[no-any-return]


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


@njit(nogil=True, cache=True, fastmath={"contract"})
def _dot(items: Float32, row: int, query: Float32) -> float:
    """The score: eight sums over every eighth column, added up in pairs, then what is left of the columns."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0.0)
    whole = items.shape[1] - items.shape[1] % 8
    for j in range(0, whole, 8):
        s0 = s0 + items[row, j] * query[j]
        s1 = s1 + items[row, j + 1] * query[j + 1]
        s2 = s2 + items[row, j + 2] * query[j + 2]
        s3 = s3 + items[row, j + 3] * query[j + 3]
        s4 = s4 + items[row, j + 4] * query[j + 4]
        s5 = s5 + items[row, j + 5] * query[j + 5]
        s6 = s6 + items[row, j + 6] * query[j + 6]
        s7 = s7 + items[row, j + 7] * query[j + 7]
    total = ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))
    for j in range(whole, items.shape[1]):
        total = total + items[row, j] * query[j]
    return total  # type: ignore[return-value]


@njit(nogil=True, cache=True)
def _bound(threshold: float, unit: float, slack: float) -> int:
    """The lowest coarse score whose exact one may reach a threshold."""
    if unit <= 0.0:
        return -32768
    return int(max(-32768.0, min(32767.0, np.floor((threshold - slack) / unit))))


@njit(nogil=True, cache=True)
def _kth(values: Int16, k: int) -> int:
    """The k-th highest value; less than any other when there are fewer."""
    place = values.shape[0] - k
    return int(np.partition(values, place)[place]) if place >= 0 else -32768


@njit(nogil=True, cache=True)
def _collect(
    coarse_scores: Int16, tops: Int16, bounds: tuple[int, int], n_items: int, banned: UInt32, bit: int, out: Int32
) -> int:
    """Write the allowed items whose coarse score lies in [bounds[0], bounds[1]), ascending; returns their number."""
    low, end = bounds
    n = 0
    for b in range(tops.shape[0]):
        if tops[b] < low:
            continue
        for strip in range(0, BLOCK, _COARSE_STRIP):
            some = coarse_scores[b, strip : strip + _COARSE_STRIP]
            if _top(some) < low:
                continue
            first = b * BLOCK + strip
            for lane in range(min(_COARSE_STRIP, n_items - first)):
                if low <= some[lane] < end and (banned[first + lane] >> np.uint32(bit)) & np.uint32(1) == 0:
                    out[n] = first + lane
                    n += 1
    return n


@njit(nogil=True, cache=True)
def top_rows(coarse: Coarse, factors: Float32, queries: Float32, limits: Int32, banned: UInt32, slates: Slates) -> None:
    """The best allowed items of each query over all items; ties go to the lower row.

    coarse  : of the factors.
    factors : (n_items, d) float32.
    queries : (n, d') float32, n at most MAX_QUERIES, zero beyond d.
    limits  : (n,) int32 in [0, k_max]; a query that wants nothing costs nothing.
    banned  : (>= n_items,) uint32; bit q of word i bars item i from the answer of query q.
    slates  : see Slates; counts say how many entries of a row are valid.
    """
    rows, scores, counts = slates
    n_items, n_blocks = factors.shape[0], coarse.blocks.shape[0]
    coarse_scores, tops = np.empty((n_blocks, BLOCK), dtype=np.int16), np.empty(n_blocks, dtype=np.int16)
    chosen, exact = np.empty(n_items, dtype=np.int32), np.empty(n_items, dtype=np.float32)
    rounded = np.empty(queries.shape[1], dtype=np.int16)
    for q in range(queries.shape[0]):
        query, k, count = queries[q], limits[q], 0
        if k > 0 and n_blocks > 0:
            unit, slack = _coarse_query(query, coarse, rounded)
            for b in range(n_blocks):
                tops[b] = _scan_block(coarse.blocks[b], rounded, coarse_scores[b])
            # The most promising first, and more while banned ones leave too few: then few others reach the bound.
            want, end, enough = k, 32768, False
            while end > -32768 and not enough:
                enough = count == k
                if enough:
                    low = _bound(scores[q, 0], unit, slack)
                else:
                    low = _kth(tops, want) if want <= n_blocks else _kth(coarse_scores.ravel(), want)
                    want *= 4
                n = _collect(coarse_scores, tops, (low, end), n_items, banned, q, chosen)
                # Apart from the heap, so that reads from memory overlap.
                for i in range(n):
                    exact[i] = _dot(factors, chosen[i], query)
                for i in range(n):
                    count = _push(rows[q, :k], scores[q, :k], count, chosen[i], exact[i])
                end = min(low, end)
            _sort(rows[q], scores[q], count)
        counts[q] = count


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
    for row in candidates:
        if (banned[row] >> np.uint32(bit)) & np.uint32(1) == 0:
            counts[0] = _push(rows, scores, counts[0], row, _dot(factors, row, query))
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
