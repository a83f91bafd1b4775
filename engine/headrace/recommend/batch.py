"""The best items of every user at once, for evaluation and export."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from headrace.errors import InvalidRequestError
from headrace.kernels.topk import offer_tile, sort_heaps
from headrace.types import Float32, Int32, Int64

TILE_USERS, TILE_ITEMS = 256, 2048
"""Scores held at once by a thread: 2 MiB, so that they are still in its cache when the best are picked."""


def top_k_all(
    user_factors: Float32, item_factors: Float32, seen_indptr: Int64, seen_items: Int32, k: int, *, n_threads: int = 1
) -> tuple[Int32, Float32]:
    """The k best unseen items of each user, score descending, then index ascending.

    Scores are matrix products, which may round otherwise than a served answer's.

    user_factors, item_factors : (n_users, d), (n_items, d) float32, finite.
    seen_indptr, seen_items : CSR of the items that a user must not get, (n_users + 1,) int64 and int32.
    Returns items (n_users, k) int32 and scores float32; -1 and 0 where a user has fewer than k unseen items.
    Beside inputs and outputs it needs one tile of scores for each thread.

    Raises InvalidRequestError when k is not positive or the factors differ in width.
    """
    if k < 1:
        raise InvalidRequestError("k", k, "1 or more", "ask for at least one item")
    if user_factors.shape[1] != item_factors.shape[1]:
        raise InvalidRequestError("user_factors", user_factors.shape, f"(n_users, {item_factors.shape[1]})")
    n_users, n_items = len(user_factors), len(item_factors)
    items, scores = np.full((n_users, k), -1, dtype=np.int32), np.zeros((n_users, k), dtype=np.float32)
    indptr, seen = np.ascontiguousarray(seen_indptr, np.int64), np.ascontiguousarray(seen_items, np.int32)
    item_factors = np.ascontiguousarray(item_factors)

    def work(firsts: range) -> None:
        tile = np.empty(TILE_USERS * TILE_ITEMS, dtype=np.float32)
        for first in firsts:
            part = slice(first, min(first + TILE_USERS, n_users))
            n = part.stop - first
            heaps = (items[part], scores[part], np.zeros(n, dtype=np.int32))
            for first_item in range(0, n_items, TILE_ITEMS):
                some = item_factors[first_item : first_item + TILE_ITEMS]
                out = tile[: n * len(some)].reshape(n, len(some))
                np.matmul(user_factors[part], some.T, out=out)
                offer_tile(out, first_item, indptr[first : part.stop + 1], seen, heaps)
            sort_heaps(heaps)

    step = TILE_USERS * n_threads
    with ThreadPoolExecutor(n_threads) as executor:
        list(executor.map(work, (range(TILE_USERS * i, n_users, step) for i in range(n_threads))))
    return items, scores
