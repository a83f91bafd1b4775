"""A person's factors from their history alone: one half-step of implicit ALS.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (2008), equation 4, with the confidence
of implicit's ``recalculate_user``: c = alpha * weight, no one added, so that
x = (G + lambda I + sum (c - 1) y y^T)^-1 sum c y.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, Int64

# Reassociation lets the sums of the substitution and the rank updates vectorise (2.5 times); answers move by a few
# float32 roundings, far below the 1e-3 within which the tests compare with implicit.
_FAST = {"contract", "reassoc", "nsz"}


@njit(nogil=True, cache=True, fastmath=_FAST)
def _add_item(system: Float32, target: Float32, item: Float32, confidence: float) -> None:
    d = item.shape[0]
    extra = np.float32(confidence - np.float32(1.0))
    for i in range(d):
        scale = extra * item[i]
        row = system[i]
        for j in range(i, d):
            row[j] += scale * item[j]
    for i in range(d):
        target[i] += confidence * item[i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _add_four(system: Float32, target: Float32, items: Float32, rows: Int32, confidences: Float32) -> None:
    """Four rank-one updates in one pass over the system."""
    d = target.shape[0]
    y0, y1, y2, y3 = items[rows[0]], items[rows[1]], items[rows[2]], items[rows[3]]
    c0, c1, c2, c3 = confidences[0], confidences[1], confidences[2], confidences[3]
    one = np.float32(1.0)
    for i in range(d):
        s0, s1, s2, s3 = (c0 - one) * y0[i], (c1 - one) * y1[i], (c2 - one) * y2[i], (c3 - one) * y3[i]
        row = system[i]
        for j in range(i, d):
            row[j] += s0 * y0[j] + s1 * y1[j] + s2 * y2[j] + s3 * y3[j]
        target[i] += c0 * y0[i] + c1 * y1[i] + c2 * y2[i] + c3 * y3[i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _solve(system: Float32, x: Float32) -> None:
    """Solve ``system @ x = x`` in place; only the upper triangle is read, and it becomes its Cholesky factor."""
    d = x.shape[0]
    for k in range(d):
        row = system[k]
        # A history of confidences far above the gram's scale can round a pivot to nothing or below; the floor keeps
        # the answer finite and leaves every well-conditioned system untouched.
        pivot = np.sqrt(max(row[k], np.float32(1e-12)))
        scale = np.float32(1.0) / pivot
        row[k] = pivot
        for j in range(k + 1, d):
            row[j] *= scale
        for i in range(k + 1, d):
            factor = row[i]
            below = system[i]
            for j in range(i, d):
                below[j] -= factor * row[j]
        x[k] *= scale
        done = x[k]
        for j in range(k + 1, d):
            x[j] -= done * row[j]
    for k in range(d - 1, -1, -1):
        row = system[k]
        total = np.float32(0.0)
        for j in range(k + 1, d):
            total += row[j] * x[j]
        x[k] = (x[k] - total) / row[k]


@njit(nogil=True, cache=True)
def fold_in(
    gram: Float32, items: Float32, indptr: Int64, rows: Int32, confidences: Float32, system: Float32, out: Float32
) -> None:
    """Factors of n people from their histories; a person without history gets zeros.

    gram        : (d, d) float32, Y^T Y + lambda I.
    items       : (n_items, d) float32.
    indptr      : (n + 1,) int64 into rows and confidences.
    rows        : int32 in [0, n_items), without repeats within a person.
    confidences : float32 > 0, alpha times the weight.
    system      : (d, d) float32, scratch.
    out         : (n, >= d) float32; columns beyond d become zero.
    """
    d = gram.shape[0]
    for q in range(indptr.shape[0] - 1):
        out[q, :] = 0.0
        first, last = indptr[q], indptr[q + 1]
        if first == last:
            continue
        target = out[q, :d]
        system[:, :] = gram
        p = first
        while p + 4 <= last:
            _add_four(system, target, items, rows[p : p + 4], confidences[p : p + 4])
            p += 4
        while p < last:
            _add_item(system, target, items[rows[p]], confidences[p])
            p += 1
        _solve(system, target)
