"""What is held out: a part of each user's items, or everything after a moment."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.types import Bool

HELD_OUT = 0.2


def hold_out(
    train: sp.csr_matrix, seed: int, latest: sp.csr_matrix | None = None
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Split the matrix in two: a fifth of each user's items, at least one of two or more, goes to the second.

    latest : times of the same pairs when they are known; then each user's last items are held out, else random ones.
    """
    rows = np.repeat(np.arange(train.shape[0]), np.diff(train.indptr))
    order_by = np.random.default_rng(seed).random(train.nnz)
    if latest is not None:
        order_by = np.lexsort((order_by, -latest.data)).argsort().astype(np.float64)
    order = np.lexsort((order_by, rows))
    place = np.empty(train.nnz, dtype=np.int64)
    place[order] = np.arange(train.nnz) - train.indptr[rows[order]]
    counts = np.diff(train.indptr)
    n_held = np.where(counts >= 2, np.maximum(1, np.rint(counts * HELD_OUT)), 0)
    held = place < n_held[rows]
    return _part(train, ~held), _part(train, held)


def _part(matrix: sp.csr_matrix, keep: Bool) -> sp.csr_matrix:
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    return sp.csr_matrix((matrix.data[keep], (rows[keep], matrix.indices[keep])), shape=matrix.shape)
