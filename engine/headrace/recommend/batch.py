"""The best items of every user at once, for evaluation and export."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headrace.errors import InvalidRequestError
from headrace.kernels.topk import MAX_QUERIES, ban, top_rows
from headrace.recommend.model import to_coarse
from headrace.types import Float32, Int32, Int64


def top_k_all(
    user_factors: Float32, item_factors: Float32, seen_indptr: Int64, seen_items: Int32, k: int, *, n_threads: int = 1
) -> tuple[Int32, Float32]:
    """The k best unseen items of each user, score descending, then index ascending, scored as serving scores.

    user_factors, item_factors : (n_users, d), (n_items, d) float32.
    seen_indptr, seen_items : CSR of the items that a user must not get, (n_users + 1,) int64 and int32.
    Returns items (n_users, k) int32 and scores float32; -1 and 0 where a user has fewer than k unseen items.
    Beside inputs and outputs it needs one copy of the item factors and 4 bytes an item and thread.

    Raises InvalidRequestError when k is not positive or the factors differ in width.
    """
    if k < 1:
        raise InvalidRequestError("k", k, "1 or more", "ask for at least one item")
    if user_factors.shape[1] != item_factors.shape[1]:
        raise InvalidRequestError("user_factors", user_factors.shape, f"(n_users, {item_factors.shape[1]})")
    n_users, n_items = len(user_factors), len(item_factors)
    coarse = to_coarse(item_factors)
    items, scores = np.full((n_users, k), -1, dtype=np.int32), np.zeros((n_users, k), dtype=np.float32)
    indptr = np.ascontiguousarray(seen_indptr, dtype=np.int64)
    limits = np.full(MAX_QUERIES, k, dtype=np.int32)

    def work(firsts: range) -> None:
        banned = np.zeros(n_items, dtype=np.uint32)
        for first in firsts:
            part = slice(first, min(first + MAX_QUERIES, n_users))
            n = part.stop - first
            queries = np.zeros((n, coarse.blocks.shape[1]), dtype=np.float32)
            queries[:, : user_factors.shape[1]] = user_factors[part]
            banned[:] = 0
            ban(banned, indptr[first : part.stop + 1], seen_items)
            top_rows(
                coarse, item_factors, queries, limits[:n], banned, (items[part], scores[part], np.zeros(n, np.int32))
            )

    step = MAX_QUERIES * n_threads
    with ThreadPoolExecutor(n_threads) as executor:
        list(executor.map(work, (range(MAX_QUERIES * i, n_users, step) for i in range(n_threads))))
    return items, scores
