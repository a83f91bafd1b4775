"""A person's factors from their history alone: one half-step of implicit ALS.

Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (2008), equation 4, with the confidence
of implicit's ``recalculate_user``: c = alpha * weight, no one added, so that
x = (G + lambda I + sum (c - 1) y y^T)^-1 sum c y.

Training's: it needs no compiler. Serving does the same natively, see native/include/headrace/foldin.hpp.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, Int64

PANEL = 8
"""Rows that the factorization takes together; systems are padded to a multiple of it with the identity."""

# Reassociation lets the sums vectorise (2.5 times); answers move by a few float32 roundings, far below the 1e-3 within
# which the tests compare with implicit.
_FAST = {"contract", "reassoc", "nsz"}


@njit(nogil=True, cache=True, fastmath=_FAST)
def _factor_panel(system: Float32, x: Float32, k: int) -> None:
    """Finish the rows k … k + PANEL - 1 of the Cholesky factor, and forward substitution in them."""
    width = x.shape[0]
    for i in range(k, k + PANEL):
        row = system[i]
        # A history of confidences far above the gram's scale can round a pivot to nothing or below; the floor keeps
        # the answer finite and leaves every well-conditioned system untouched.
        scale = np.float32(1.0) / np.sqrt(max(row[i], np.float32(1e-12)))
        for j in range(i, width):
            row[j] *= scale
        x[i] *= scale
        for below in range(i + 1, k + PANEL):
            factor = row[below]
            for j in range(below, width):
                system[below, j] -= factor * row[j]
            x[below] -= factor * x[i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _solve(system: Float32, x: Float32) -> None:
    """Solve ``system @ x = x`` in place; only the upper triangle is read, and it becomes its Cholesky factor."""
    width = x.shape[0]
    for k in range(0, width, PANEL):
        _factor_panel(system, x, k)
        r0, r1, r2, r3 = system[k], system[k + 1], system[k + 2], system[k + 3]
        r4, r5, r6, r7 = system[k + 4], system[k + 5], system[k + 6], system[k + 7]
        for i in range(k + PANEL, width):
            f0, f1, f2, f3, f4, f5, f6, f7 = r0[i], r1[i], r2[i], r3[i], r4[i], r5[i], r6[i], r7[i]
            row = system[i]
            # From the panel's own boundary, so that the loop has no remainder; what it spoils is never read.
            for j in range(i - i % PANEL, width):
                low = f0 * r0[j] + f1 * r1[j] + f2 * r2[j] + f3 * r3[j]
                row[j] -= low + f4 * r4[j] + f5 * r5[j] + f6 * r6[j] + f7 * r7[j]
            low = f0 * x[k] + f1 * x[k + 1] + f2 * x[k + 2] + f3 * x[k + 3]
            x[i] -= low + f4 * x[k + 4] + f5 * x[k + 5] + f6 * x[k + 6] + f7 * x[k + 7]
    for k in range(width - 1, -1, -1):
        row = system[k]
        total = np.float32(0.0)
        for j in range(k + 1, width):
            total += row[j] * x[j]
        x[k] = (x[k] - total) / row[k]


@njit(nogil=True, cache=True)
def fold_in(gram: Float32, items: Float32, indptr: Int64, rows: Int32, confidences: Float32, out: Float32) -> None:
    """Factors of n people from their histories; a person without history gets zeros.

    gram        : (w, w) float32, Y^T Y + lambda I for the first d, the identity beyond; w is a multiple of PANEL.
    items       : (n_items, d) float32.
    indptr      : (n + 1,) int64 into rows and confidences.
    rows        : int32 in [0, n_items), without repeats within a person.
    confidences : float32 > 0, alpha times the weight.
    out         : (n, w) float32; columns beyond d become zero.
    """
    width, d = gram.shape[0], items.shape[1]
    system = np.empty((width, width), dtype=np.float32)
    longest = 0
    for q in range(indptr.shape[0] - 1):
        longest = max(longest, indptr[q + 1] - indptr[q])
    chosen = np.zeros((longest, width), dtype=np.float32)
    scaled = np.zeros((longest, width), dtype=np.float32)
    for q in range(indptr.shape[0] - 1):
        target = out[q]
        target[:] = 0.0
        first, last = indptr[q], indptr[q + 1]
        if first == last:
            continue
        for p in range(first, last):
            item, confidence = items[rows[p]], confidences[p]
            for j in range(d):
                chosen[p - first, j] = item[j]
                scaled[p - first, j] = (confidence - np.float32(1.0)) * item[j]
                target[j] += confidence * item[j]
        # A product whose shape is the person's own history: nothing of it depends on the batch.
        np.dot(scaled[: last - first].T, chosen[: last - first], system)
        for i in range(width):
            for j in range(width):
                system[i, j] += gram[i, j]
        _solve(system, target)
