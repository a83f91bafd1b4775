"""Remembered embeddings are those of the fold-in, to the bit, whoever asks beside whom."""

from __future__ import annotations

import numpy as np
import pytest

from headrace._native import fold_in
from headrace.recommend import embeddings as module
from headrace.recommend.embeddings import Embeddings
from headrace.types import Float32, Int32, Int64

N_ITEMS, D = 40, 16


class Folded:
    """The fold-in kernel, counting the people it was asked for."""

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        self.items = rng.normal(size=(N_ITEMS, D)).astype(np.float32)
        self.gram = (self.items.T @ self.items + np.eye(D)).astype(np.float32)
        self.n_people = 0

    def __call__(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        self.n_people += len(indptr) - 1
        out = np.empty((len(indptr) - 1, D), dtype=np.float32)
        fold_in(self.gram, self.items, indptr, rows, confidences, out)
        return out


def histories(rng: np.random.Generator, people: list[int]) -> tuple[Int64, Int32, Float32]:
    """Person p has always bought the same p items."""
    rows = [np.random.default_rng(p).permutation(N_ITEMS)[:p].astype(np.int32) for p in people]
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    all_rows = np.concatenate([*rows, np.zeros(0, np.int32)])
    return indptr, all_rows, np.ones(len(all_rows), dtype=np.float32)


@pytest.mark.parametrize("remembered", [2, 100])
def test_known_and_new_people_mix(monkeypatch: pytest.MonkeyPatch, remembered: int) -> None:
    monkeypatch.setattr(module, "REMEMBERED", remembered)
    rng = np.random.default_rng(0)
    folded, plain = Folded(), Folded()
    cache = Embeddings(folded)
    for _ in range(30):
        people = rng.integers(0, 12, rng.integers(1, 6)).tolist()
        found = cache.of(*histories(rng, people))
        np.testing.assert_array_equal(found, plain(*histories(rng, people)))
        found[:] = np.nan  # what a caller does with its copy stays with the caller
    if remembered == 100:
        assert folded.n_people < plain.n_people


def test_another_history_is_another_embedding() -> None:
    folded = Folded()
    cache = Embeddings(folded)
    indptr, rows, confidences = histories(np.random.default_rng(0), [5])
    first = cache.of(indptr, rows, confidences).copy()
    again = cache.of(indptr, rows, confidences)
    np.testing.assert_array_equal(first, again)
    assert folded.n_people == 1
    assert not np.array_equal(cache.of(indptr, rows, confidences * 2), first)
