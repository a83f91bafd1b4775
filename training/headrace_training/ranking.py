"""Full rankings of the catalogue and the two figures taken of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from headrace.errors import HeadraceError
from headrace.types import Float32, Float64, Int32
from headrace_training.kernels.topk import select_top
from headrace_training.models.base import Model
from headrace_training.progress import track

BLOCK_CELLS = 4_000_000
"""Scores held at once, 16 MB of float32: below what the allocator hands back to the system each time."""


LARGE_K = 256
"""Rows are sorted in full for a k above this."""


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
    """The k best items of each user, those of the user's row in ``masked`` left out; (len(users), k) int32."""
    step = max(1, BLOCK_CELLS // max(1, model.n_items))
    parts = [np.empty((0, k), dtype=np.int32)]
    starts = range(0, len(users), step)
    for start in track(starts, "ranking", total=len(starts)):
        block = users[start : start + step]
        scores = model.scores(block)
        parts.append(top_k(scores if masked is None else mask(scores, masked[block]), k))
    return np.concatenate(parts)


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
    return Accuracy(hits.sum(axis=1) / n_relevant, (hits * gains).sum(axis=1) / ideal)
