"""Which items are bought together: shrunk cosine over baskets, days or users, in blocks of rows."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32, Int64

BLOCK_ROWS = 2048


def met_items(groups: sp.csr_matrix) -> int:
    """At most how many items an item shares a row with, as a mean: Σ (items of a row)² over items."""
    lengths = np.diff(groups.indptr).astype(np.float64)
    return min(int(groups.shape[1]), int((lengths * lengths).sum() / max(1, groups.shape[1])) + 1)


def shrunk_cosine(groups: sp.csr_matrix, n_neighbours: int, shrink: float) -> sp.csr_matrix:
    """Similarity common / (sqrt(n_i n_j) + shrink) with the best neighbours of each item only.

    groups : (n_groups, n_items); what is stored means that the group (basket, day, user) holds the item.
    Returns (n_items, n_items) float32 CSR with at most n_neighbours a row, best first, ties by lower index, no item
    its own neighbour.
    """
    present = groups.copy()
    present.data = np.ones_like(present.data, dtype=np.float32)
    sizes = np.bincount(present.indices, minlength=present.shape[1]).astype(np.float32)
    by_item = present.T.tocsr()
    blocks = []
    for start in range(0, by_item.shape[0], BLOCK_ROWS):
        common = (by_item[start : start + BLOCK_ROWS] @ present).tocsr()
        rows = np.repeat(np.arange(common.shape[0]) + start, np.diff(common.indptr))
        common.data /= np.sqrt(sizes[rows] * sizes[common.indices]) + np.float32(shrink)
        common.data[rows == common.indices] = 0.0
        blocks.append(keep_best(common, n_neighbours))
    indptr = np.concatenate([[0], *(np.diff(block.indptr) for block in blocks)]).cumsum()
    indices = np.concatenate([block.indices for block in blocks]) if blocks else np.empty(0, np.int32)
    data = np.concatenate([block.data for block in blocks]) if blocks else np.empty(0, np.float32)
    return sp.csr_matrix((data, indices, indptr), shape=(by_item.shape[0], by_item.shape[0]))


def keep_best(matrix: sp.csr_matrix, n_best: int) -> sp.csr_matrix:
    """The n_best positive values of each row in descending order, ties by lower index."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(order)) - matrix.indptr[:-1].repeat(np.diff(matrix.indptr))
    order = order[(place < n_best) & (matrix.data[order] > 0)]
    counts = np.bincount(rows[order], minlength=matrix.shape[0])
    indptr = np.concatenate([[0], np.cumsum(counts)])
    return sp.csr_matrix((matrix.data[order], matrix.indices[order], indptr), shape=matrix.shape)


def neighbour_arrays(
    groups: sp.csr_matrix, n_neighbours: int = 50, shrink: float = 10.0
) -> tuple[Int64, Int32, Float32]:
    """The arrays neighbour_indptr, neighbour_items, neighbour_weights of an artifact."""
    best = shrunk_cosine(groups, n_neighbours, shrink)
    return best.indptr.astype(np.int64), best.indices.astype(np.int32), best.data.astype(np.float32)
