"""The best items of every user at once, for evaluation and export."""

from __future__ import annotations

import numpy as np

from headrace._native import rank_factors
from headrace.errors import InvalidRequestError
from headrace.types import Float32, Int32, Int64


def top_k_all(
    user_factors: Float32, item_factors: Float32, seen_indptr: Int64, seen_items: Int32, k: int, *, n_threads: int = 1
) -> tuple[Int32, Float32]:
    """The k best unseen items of each user, score descending, then index ascending.

    Scores round as a served answer's do, and are the same to the bit for any number of threads.

    user_factors, item_factors : (n_users, d), (n_items, d) float32.
    seen_indptr, seen_items : CSR of the items that a user must not get, (n_users + 1,) int64 and int32.
    Returns items (n_users, k) int32 and scores float32; -1 and 0 where a user has fewer than k unseen items.
    Beside inputs and outputs it needs one byte for each item factor and some hundred kilobytes a thread.

    Raises InvalidRequestError when k is not positive, the factors differ in width, or a score may not be finite.
    """
    if k < 1:
        raise InvalidRequestError("k", k, "1 or more", "ask for at least one item")
    if user_factors.shape[1] != item_factors.shape[1]:
        raise InvalidRequestError("user_factors", user_factors.shape, f"(n_users, {item_factors.shape[1]})")
    n_users = len(user_factors)
    items, scores = np.empty((n_users, k), dtype=np.int32), np.empty((n_users, k), dtype=np.float32)
    sound = rank_factors(
        np.ascontiguousarray(user_factors),
        np.ascontiguousarray(item_factors),
        np.arange(n_users, dtype=np.int32),
        np.ascontiguousarray(seen_indptr, np.int64),
        np.ascontiguousarray(seen_items, np.int32),
        n_threads,
        items,
        scores,
    )
    if not sound:
        raise InvalidRequestError("factors", "NaN, infinite or of enormous size", "factors whose products are finite")
    return items, scores
