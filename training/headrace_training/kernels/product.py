"""Rows of a sparse product, written densely."""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from headrace.types import Float32, Int32, Int64


class Rows(NamedTuple):
    """A CSR matrix: indptr (n + 1,) int32 or int64, indices int32, data float32."""

    indptr: Int32 | Int64
    indices: Int32
    data: Float32


@njit(nogil=True, cache=True)
def multiply_rows(left: Rows, right: Rows, out: Float32) -> None:
    """Write ``left @ right`` into ``out``; the dense result of sparse times sparse, without a sparse one between.

    left  : (n, m) CSR.   right : (m, p) CSR.
    out   : (n, p) float32, written in full; sums are taken in the order of left's and right's entries.
    """
    for row in range(out.shape[0]):
        target = out[row]
        target[:] = 0.0
        for entry in range(left.indptr[row], left.indptr[row + 1]):
            weight = left.data[entry]
            middle = left.indices[entry]
            for place in range(right.indptr[middle], right.indptr[middle + 1]):
                target[right.indices[place]] += weight * right.data[place]
