"""Items that are near each other in the space of the leading eigenvectors of their normalised co-occurrence.

Counts of what follows what leave most pairs at zero; in a low-rank approximation items also meet over third ones.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from headrace.types import Float32, Int32
from headrace_training.kernels.topk import select_top
from headrace_training.models.base import degree_power, degrees
from headrace_training.models.graph import leading_vectors

BLOCK_CELLS = 4_000_000
"""Cosines held at once, 16 MB of float32."""


def spectral_factors(counts: sp.csr_matrix, n_factors: int, seed: int) -> Float32:
    """Rows of length 1 (0 for items that met no other); (n_items, n_factors) float32.

    counts : how often item i met item j, (n_items, n_items) symmetric; the diagonal is left out.

    The eigenvectors of D^-1/2 C D^-1/2, as in Ng, Jordan, Weiss, "On spectral clustering", NIPS 2001, section 2.
    """
    off = counts.copy()
    off.setdiag(0.0)
    off.eliminate_zeros()
    scale = degree_power(degrees(off)[0], 0.5)
    rank = min(n_factors, off.shape[0] - 1)
    if not off.nnz or rank < 1:
        return np.zeros((off.shape[0], max(rank, 1)), dtype=np.float32)
    with threadpool_limits(limits=1, user_api="blas"):
        vectors = leading_vectors((scale @ off @ scale).tocsr(), rank, seed, n_iterations=3)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    met = (np.diff(off.indptr) > 0)[:, None] & (lengths > 0)
    return np.where(met, vectors / np.maximum(lengths, 1e-30), 0.0).astype(np.float32)


def nearest_items(factors: Float32, n_neighbours: int) -> sp.csr_matrix:
    """Positive cosines of the nearest items of each item, itself left out; (n_items, n_items) float32 CSR.

    factors : (n_items, d), rows of length 1 or 0. Ties go to the lower item.
    """
    n_items = len(factors)
    shape = (n_items, max(0, min(n_neighbours, n_items - 1)))
    items, cosines = np.full(shape, -1, dtype=np.int32), np.zeros(shape, dtype=np.float32)
    if shape[1]:
        (_by_extension if find_spec("headrace._native") else _by_blocks)(np.ascontiguousarray(factors), items, cosines)
    kept = (items >= 0) & (cosines > 0)
    indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    found = sp.csr_matrix((cosines[kept], items[kept], indptr), shape=(n_items, n_items))
    found.sort_indices()
    return found


def _by_extension(factors: Float32, items: Int32, cosines: Float32) -> None:
    from headrace._native import rank_factors  # not there when installed without a compiler

    rows = np.arange(len(factors), dtype=np.int32)
    own = np.arange(len(factors) + 1, dtype=np.int64)
    rank_factors(factors, factors, rows, own, rows, len(os.sched_getaffinity(0)), items, cosines)


def _by_blocks(factors: Float32, items: Int32, cosines: Float32) -> None:
    step = max(1, BLOCK_CELLS // len(factors))
    for start in range(0, len(factors), step):
        with threadpool_limits(limits=1, user_api="blas"):
            block = factors[start : start + step] @ factors.T
        rows = np.arange(len(block))
        block[rows, start + rows] = -np.inf
        part = items[start : start + step]
        select_top(block, part)
        cosines[start : start + step] = np.take_along_axis(block, part, axis=1)
