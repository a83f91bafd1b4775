"""Ridge regressions of items on a few other items each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Float32, Int32
from headrace_training.kernels.product import Rows

SMALLEST = 1e-12
"""Share of the first squared residual at which a solution is exact in float32."""


class Regression(NamedTuple):
    """What all items are regressed on.

    by_item      : (n_items, n_users) CSR, the values x.
    user_weights : (n_users,) float32, v >= 0.   penalties : (n_items,) float32, > 0.
    """

    by_item: Rows
    user_weights: Float32
    penalties: Float32


@njit(nogil=True, cache=True)
def solve_ridges(data: Regression, support: Rows, start: int, stop: int, n_steps: int) -> None:
    """Regress each item of a range on the items of its support, over users; the coefficients go to ``support.data``.

    Minimises Σ_u v_u (x_uj - Σ_i x_ui w_i)² + Σ_i penalties_i w_i² over the i of row j of the support, by ``n_steps``
    conjugate gradients scaled by the diagonal, fewer when nothing is left to do. Products with the normal matrix go
    through the users: with few steps that is less work than the matrix.

    support : (n_items, n_items) CSR; row j may not hold j.
    """
    sums = np.zeros(data.user_weights.shape[0], dtype=np.float32)
    widest = 0
    for item in range(start, stop):
        widest = max(widest, support.indptr[item + 1] - support.indptr[item])
    vectors = np.empty((4, widest), dtype=np.float32)
    for item in range(start, stop):
        first, last = support.indptr[item], support.indptr[item + 1]
        items, out = support.indices[first:last], support.data[first:last]
        _conjugate_gradients(data, item, items, n_steps, sums, vectors[:, : last - first], out)


@njit(nogil=True, cache=True)
def _conjugate_gradients(
    data: Regression, target: int, items: Int32, n_steps: int, sums: Float32, vectors: Float32, out: Float32
) -> None:
    """Coefficients of one item; ``sums`` is zero before and after, ``vectors`` is scratch."""
    by_item, user_weights = data.by_item, data.user_weights
    residual, direction, image, diagonal = vectors[0], vectors[1], vectors[2], vectors[3]
    for entry in range(by_item.indptr[target], by_item.indptr[target + 1]):
        user = by_item.indices[entry]
        sums[user] = user_weights[user] * by_item.data[entry]
    rho = 0.0
    for place in range(items.shape[0]):
        item = items[place]
        product = np.float32(0.0)
        square = np.float32(0.0)
        for entry in range(by_item.indptr[item], by_item.indptr[item + 1]):
            user = by_item.indices[entry]
            product += sums[user] * by_item.data[entry]
            square += user_weights[user] * by_item.data[entry] * by_item.data[entry]
        out[place] = 0.0
        residual[place] = product
        diagonal[place] = square + data.penalties[item]
        direction[place] = product / diagonal[place]
        rho += product * direction[place]
    for entry in range(by_item.indptr[target], by_item.indptr[target + 1]):
        sums[by_item.indices[entry]] = 0.0
    goal = rho * SMALLEST
    for _ in range(n_steps):
        if rho <= goal:
            return
        curve = _multiply(data, items, direction, sums, image)
        step = np.float32(rho / curve)
        new_rho = 0.0
        for place in range(items.shape[0]):
            out[place] += step * direction[place]
            residual[place] -= step * image[place]
            new_rho += residual[place] * residual[place] / diagonal[place]
        ratio = np.float32(new_rho / rho)
        for place in range(items.shape[0]):
            direction[place] = residual[place] / diagonal[place] + ratio * direction[place]
        rho = new_rho


@njit(nogil=True, cache=True)
def _multiply(data: Regression, items: Int32, direction: Float32, sums: Float32, image: Float32) -> float:
    """image = (weighted Gram matrix + penalties) @ direction; returns direction @ image."""
    by_item, user_weights, penalties = data.by_item, data.user_weights, data.penalties
    for place in range(items.shape[0]):
        factor = direction[place]
        for entry in range(by_item.indptr[items[place]], by_item.indptr[items[place] + 1]):
            sums[by_item.indices[entry]] += factor * by_item.data[entry]
    curve = 0.0
    for place in range(items.shape[0]):
        product = np.float32(0.0)
        for entry in range(by_item.indptr[items[place]], by_item.indptr[items[place] + 1]):
            user = by_item.indices[entry]
            product += user_weights[user] * sums[user] * by_item.data[entry]
        image[place] = product + penalties[items[place]] * direction[place]
        curve += direction[place] * image[place]
    for item in items:
        for entry in range(by_item.indptr[item], by_item.indptr[item + 1]):
            sums[by_item.indices[entry]] = 0.0
    return float(curve)
