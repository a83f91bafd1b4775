"""The largest entries of the rows of a product of two sparse matrices, without the product."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Int32
from headrace_training.kernels.product import Rows


@njit(nogil=True, cache=True)
def largest_of_product(left: Rows, right: Rows, start: int, items: Int32, values: Float32, counts: Int32) -> None:
    """Write the largest positive entries of rows of ``left @ right``, ties at the border by lower column.

    left   : (n, m) CSR.   right : (m, p) CSR; neither holds negative values, sums are taken in the order of entries.
    start  : the first row wanted.
    items  : (n_rows, width) int32 columns in ascending order.   values : the same shape, float32.
    counts : (n_rows,) int32, how many entries of each row are written.
    """
    n_columns = 0
    for column in right.indices:
        n_columns = max(n_columns, column + 1)
    sums = np.zeros(n_columns, dtype=np.float32)
    touched = np.empty(n_columns, dtype=np.int32)
    for row in range(items.shape[0]):
        n_touched = 0
        for entry in range(left.indptr[start + row], left.indptr[start + row + 1]):
            weight = left.data[entry]
            middle = left.indices[entry]
            for place in range(right.indptr[middle], right.indptr[middle + 1]):
                column = right.indices[place]
                if sums[column] == 0.0:
                    touched[n_touched] = column
                    n_touched += 1
                sums[column] += weight * right.data[place]
        count = _pick(sums, touched[:n_touched], items[row])
        for place in range(count):
            values[row, place] = sums[items[row, place]]
        for column in touched[:n_touched]:
            sums[column] = 0.0
        counts[row] = count


@njit(nogil=True, cache=True)
def _pick(sums: Float32, touched: Int32, out: Int32) -> int:
    """Write the columns with the largest sums, in ascending order; returns how many."""
    width = out.shape[0]
    if touched.shape[0] <= width:
        out[: touched.shape[0]] = touched
        out[: touched.shape[0]].sort()
        return len(touched)
    floor = np.partition(sums[touched], touched.shape[0] - width)[touched.shape[0] - width]
    count = 0
    ties = np.empty(touched.shape[0], dtype=np.int32)
    n_ties = 0
    for column in touched:
        if sums[column] > floor:
            out[count] = column
            count += 1
        elif sums[column] == floor:
            ties[n_ties] = column
            n_ties += 1
    ties[:n_ties].sort()
    out[count:] = ties[: width - count]
    out.sort()
    return len(out)
