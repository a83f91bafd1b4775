"""What headrace.kernels.foldin computes, in plain NumPy and double precision."""

from __future__ import annotations

import numpy as np

from headrace.types import Float32, Float64, Int32


def fold_in(gram: Float32, items: Float32, rows: Int32, confidences: Float32) -> Float64:
    """Factors of one person: x = (gram + sum (c - 1) y y^T)^-1 sum c y; zeros for an empty history.

    gram : (d, d) with the regularization on its diagonal. items : (n_items, d). rows, confidences : (m,).
    """
    chosen = items[rows].astype(np.float64)
    system = gram.astype(np.float64) + (chosen.T * (confidences - 1.0)) @ chosen
    return np.asarray(np.linalg.solve(system, chosen.T @ confidences.astype(np.float64)), dtype=np.float64)
