"""What the kernels of headrace.kernels.topk compute, in plain NumPy."""

from __future__ import annotations

import numpy as np

from headrace.types import Bool, Float32, Int32


def top_scores(scores: Float32, allowed: Bool, k: int) -> tuple[Int32, Float32]:
    """The best k allowed entries, score descending, then index ascending.

    scores : (n,) float32. allowed : (n,) bool. Returns rows int32 and scores float32, both at most k long.
    """
    rows = np.flatnonzero(allowed)
    best = rows[np.lexsort((rows, -scores[rows]))][:k]
    return best.astype(np.int32), scores[best]


def exact_scores(factors: Float32, query: Float32) -> Float32:
    """Dot products, one rounding a multiplication and one an addition, columns in order.

    factors : (n, d) float32. query : (d,) float32. Returns (n,) float32.
    """
    total = np.zeros(len(factors), dtype=np.float32)
    for j in range(factors.shape[1]):
        total = total + factors[:, j] * query[j]
    return total


def take_allowed(order: Int32, allowed: Bool, k: int) -> Int32:
    """The first k allowed entries of an order. order : (n,) int32. allowed : bool by row. Returns (<= k,) int32."""
    return order[allowed[order]][:k]
