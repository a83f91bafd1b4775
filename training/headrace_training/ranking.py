"""Full rankings of the catalogue and the two figures taken of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import scipy.sparse as sp

from headrace.errors import HeadraceError
from headrace.types import Float32, Float64, Int32, Int64
from headrace_training.kernels.topk import select_top
from headrace_training.models.base import Model
from headrace_training.models.product import FactorProduct, HasProduct, SparseProduct
from headrace_training.progress import track

BLOCK_CELLS = 4_000_000
"""Scores held at once, 16 MB of float32: below what the allocator hands back to the system each time."""


LARGE_K = 256
"""Rows are sorted in full for a k above this."""

FUSED_USERS = 32_768
"""Users ranked by one call of the extension, between two steps of the progress bar."""


@dataclass(frozen=True)
class Accuracy:
    """Means over users; per_user arrays are (n_users,) float64 in [0, 1]."""

    recall: Float64
    ndcg: Float64

    @property
    def means(self) -> tuple[float, float]:
        return float(self.recall.mean()), float(self.ndcg.mean())


def top_k(scores: Float32, k: int) -> Int32:
    """The k best columns of each row, score descending, then index ascending; -1 where fewer than k are above -inf.

    scores : (n, m) float32.   Returns (n, k) int32.   HeadraceError for NaN or +infinity.
    """
    if k > LARGE_K:
        out, sound = _sort_rows(scores, k), not (np.isnan(scores).any() or (scores == np.inf).any())
    else:
        out = np.full((scores.shape[0], k), -1, dtype=np.int32)
        sound = select_top(scores, out)
    if not sound:
        raise HeadraceError(
            "the model gave a score that is NaN or infinite", hint="look for extreme weights in the data"
        )
    return out


def _sort_rows(scores: Float32, k: int) -> Int32:
    out = np.full((scores.shape[0], k), -1, dtype=np.int32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k].astype(np.int32)
    order[np.take_along_axis(scores, order, axis=1) == -np.inf] = -1
    out[:, : order.shape[1]] = order
    return out


def mask(scores: Float32, rows: sp.csr_matrix) -> Float32:
    """Bar what is stored in ``rows``, in place; both (n, n_items)."""
    scores[np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr)), rows.indices] = -np.inf
    return scores


def rank_users(model: Model, users: Int32, k: int, masked: sp.csr_matrix | None) -> Int32:
    """The k best items of each user, those of the user's row in ``masked`` left out; (len(users), k) int32.

    Score descending, then index ascending; -1 where fewer are left. A model that offers its product is ranked by all
    cores without a matrix of scores, with the same answer for any number of them; of another, blocks of scores are
    held. Raises HeadraceError for a score that is NaN or +infinity.
    """
    product = model.product() if isinstance(model, HasProduct) and find_spec("headrace._native") else None
    if product is not None:
        ranked = rank_product(product, users, k, masked)
        if ranked is not None:
            return ranked
    step = max(1, BLOCK_CELLS // max(1, model.n_items))
    parts = [np.empty((0, k), dtype=np.int32)]
    starts = range(0, len(users), step)
    for start in track(starts, "ranking", total=len(starts)):
        block = users[start : start + step]
        scores = model.scores(block)
        parts.append(top_k(scores if masked is None else mask(scores, masked[block]), k))
    return np.concatenate(parts)


def rank_product(
    product: FactorProduct | SparseProduct,
    users: Int32,
    k: int,
    masked: sp.csr_matrix | None,
    n_threads: int | None = None,
) -> Int32 | None:
    """The same of a product, by the extension; None when a score is not finite, or might not be.

    n_threads : as many as the process may use by default.
    """
    from headrace._native import rank_factors, rank_products  # not there when installed without a compiler

    indptr, barred = (None, None) if masked is None else _pattern(masked)
    n_threads = n_threads or len(os.sched_getaffinity(0))
    items = np.empty((len(users), k), dtype=np.int32)
    scores = np.empty((min(len(users), FUSED_USERS), k), dtype=np.float32)
    if isinstance(product, SparseProduct):
        sides = (*_pattern(product.users), _values(product.users), *_pattern(product.items), _values(product.items))
    else:
        factors = [np.ascontiguousarray(side, dtype=np.float32) for side in product]
    starts = range(0, len(users), FUSED_USERS)
    for start in track(starts, "ranking", total=len(starts)):
        part = np.ascontiguousarray(users[start : start + FUSED_USERS], dtype=np.int32)
        out = (n_threads, items[start : start + len(part)], scores[: len(part)])
        if isinstance(product, SparseProduct):
            sound = rank_products(*sides, product.items.shape[1], part, indptr, barred, *out)
        else:
            sound = rank_factors(factors[0], factors[1], part, indptr, barred, *out)
        if not sound:
            return None
    return items


def _pattern(matrix: sp.csr_matrix) -> tuple[Int64, Int32]:
    return matrix.indptr.astype(np.int64, copy=False), matrix.indices.astype(np.int32, copy=False)


def _values(matrix: sp.csr_matrix) -> Float32:
    return np.asarray(matrix.data, dtype=np.float32)


def accuracy(ranked: Int32, relevant: sp.csr_matrix, n_relevant: Int32) -> Accuracy:
    """recall@k = hits / |T| and ndcg@k = Σ 1/log2(rank + 1) over hits ÷ the ideal for min(|T|, k), a user a row.

    ranked : (n, k) int32 item indices, -1 for none.   relevant : (n, n_items) the test items inside the catalogue.
    n_relevant : (n,) |T|, items outside the catalogue included, all >= 1.
    """
    k = ranked.shape[1]
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(gains)])[np.minimum(n_relevant, k)]
    lookup = relevant.astype(bool).tocsr()
    safe = np.maximum(ranked, 0)
    rows = np.repeat(np.arange(ranked.shape[0]), k)
    hits = np.asarray(lookup[rows, safe.ravel()]).reshape(ranked.shape) & (ranked >= 0)
    # summed in another order than the ideal, a perfect list may come out a last digit above 1
    return Accuracy(hits.sum(axis=1) / n_relevant, np.minimum((hits * gains).sum(axis=1) / ideal, 1.0))
