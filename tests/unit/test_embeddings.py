"""Remembered embeddings are those of the fold-in, to the bit, whoever asks beside whom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from headrace._native import fold_in
from headrace.recommend.embeddings import Embeddings
from headrace.types import Float32, Int32, Int64

N_ITEMS, D = 40, 16


def made(remembered: int) -> tuple[Embeddings, Callable[[Int64, Int32, Float32], Float32]]:
    """What remembers, and the plain fold-in of the same model."""
    rng = np.random.default_rng(3)
    items = rng.normal(size=(N_ITEMS, D)).astype(np.float32)
    gram = (items.T @ items + np.eye(D)).astype(np.float32)

    def plain(indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        out = np.empty((len(indptr) - 1, D), dtype=np.float32)
        fold_in(gram, items, indptr, rows, confidences, out)
        return out

    return Embeddings(gram, items, remembered), plain


def histories(rng: np.random.Generator, people: list[int]) -> tuple[Int64, Int32, Float32]:
    """Person p has always bought the same p items."""
    rows = [np.random.default_rng(p).permutation(N_ITEMS)[:p].astype(np.int32) for p in people]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    all_rows = np.concatenate([*rows, np.zeros(0, np.int32)])
    return indptr, all_rows, np.ones(len(all_rows), dtype=np.float32)


@pytest.mark.parametrize("remembered", [0, 2, 100])
def test_known_and_new_people_mix(remembered: int) -> None:
    rng = np.random.default_rng(0)
    cache, plain = made(remembered)
    n_people = 0
    for _ in range(30):
        people = rng.integers(0, 12, rng.integers(1, 6)).tolist()
        found = cache.of(*histories(rng, people))
        np.testing.assert_array_equal(found, plain(*histories(rng, people)))
        found[:] = np.nan  # what a caller does with its copy stays with the caller
        n_people += len(people)
    assert cache.n_folded == 12 if remembered == 100 else 12 < cache.n_folded <= n_people


def test_the_least_recently_used_gives_way() -> None:
    cache, _ = made(2)
    rng = np.random.default_rng(0)
    for person, n_folded in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        cache.of(*histories(rng, [person]))
        assert cache.n_folded == n_folded


def test_another_history_is_another_embedding() -> None:
    cache, _ = made(10)
    indptr, rows, confidences = histories(np.random.default_rng(0), [5])
    first = cache.of(indptr, rows, confidences).copy()
    again = cache.of(indptr, rows, confidences)
    np.testing.assert_array_equal(first, again)
    assert cache.n_folded == 1
    assert not np.array_equal(cache.of(indptr, rows, confidences * 2), first)
