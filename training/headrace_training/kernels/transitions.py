"""Which item follows which, counted over sequences and applied to prefixes."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32, Int64
from headrace_training.kernels.product import Rows


@njit(nogil=True, cache=True)
def list_pairs(
    indptr: Int64,
    items: Int32,
    row_weights: Float32,
    lag_weights: Float32,
    before: Int32,
    after: Int32,
    values: Float32,
) -> None:
    """List every ordered pair of places of a row that are at most len(lag_weights) apart.

    indptr, items        : n rows, oldest item first.   row_weights : (n,) float32.
    lag_weights          : (max_lag,) float32, of neighbours first.
    before, after, values: one entry a pair, written in full; values are row weight times lag weight.
    """
    found = 0
    for row in range(len(indptr) - 1):
        for place in range(indptr[row], indptr[row + 1]):
            for later in range(place + 1, min(indptr[row + 1], place + 1 + len(lag_weights))):
                before[found] = items[place]
                after[found] = items[later]
                values[found] = row_weights[row] * lag_weights[later - place - 1]
                found += 1


@njit(nogil=True, cache=True)
def add_transitions(matrix: Rows, indptr: Int64, items: Int32, age_weights: Float32, out: Float32) -> None:
    """Add to each row of ``out`` the matrix's rows of the prefix's latest items, each by the weight of its age.

    matrix      : (n_items, n_items) CSR.   indptr, items : n prefixes, oldest item first.
    age_weights : (ages,) float32, of the last item first; older places are not looked at.
    out         : (n, n_items) float32. An item counts once, by its last place; sums run from the last item backwards.
    """
    for row in range(out.shape[0]):
        target = out[row]
        last = indptr[row + 1] - 1
        for age in range(min(len(age_weights), indptr[row + 1] - indptr[row])):
            item = items[last - age]
            seen = False
            for later in range(age):
                seen |= items[last - later] == item
            if seen:
                continue
            weight = age_weights[age]
            for entry in range(matrix.indptr[item], matrix.indptr[item + 1]):
                target[matrix.indices[entry]] += weight * matrix.data[entry]


@njit(nogil=True, cache=True)
def add_repeats(indptr: Int64, items: Int32, age_weights: Float32, out: Float32) -> None:
    """Add to each prefix item's score the weight of the age of each of its places; arrays as above."""
    for row in range(out.shape[0]):
        for age in range(min(len(age_weights), indptr[row + 1] - indptr[row])):
            out[row, items[indptr[row + 1] - 1 - age]] += age_weights[age]


@njit(nogil=True, cache=True)
def places_of(scores: Float32, wanted: Int32, out: Int32) -> None:
    """Place of each row's wanted column among the scores, 0 for the best; ties go to the lower column.

    scores : (n, m) float32.   wanted : (n,) int32 columns.   out : (n,) int32, written in full.
    """
    for row in range(scores.shape[0]):
        column = wanted[row]
        score = scores[row, column]
        better = np.int32(0)
        for other in range(scores.shape[1]):
            value = scores[row, other]
            better += (value > score) | ((value == score) & (other < column))
        out[row] = better
