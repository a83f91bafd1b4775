"""Fused rankings against plain NumPy, on edge values and for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import _native
from headrace.errors import HeadraceError
from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters
from headrace_training.models.product import FactorProduct, SparseProduct
from headrace_training.ranking import rank_product, rank_users

SEED = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([1, 2, 63, 64, 65, 200])


def wanted(scores: np.ndarray, users: np.ndarray, k: int, masked: sp.csr_matrix | None) -> list[list[int]]:
    """By a stable sort of each row."""
    rows = []
    for user in users:
        row = scores[user].copy()
        if masked is not None:
            row[masked[user].indices] = -np.inf
        order = [int(item) for item in np.argsort(-row, kind="stable") if row[item] > -np.inf][:k]
        rows.append(order + [-1] * (k - len(order)))
    return rows


def some_mask(rng: np.random.Generator, n_users: int, n_items: int) -> sp.csr_matrix:
    """Unsorted rows, the first one empty, the last one with all items."""
    taken = rng.random((n_users, n_items)) < rng.random((n_users, 1))
    taken[0], taken[-1] = False, True
    rows = [rng.permutation(np.flatnonzero(row)) for row in taken]
    indptr = np.cumsum([0, *map(len, rows)])
    columns = np.concatenate(rows).astype(np.int32)
    return sp.csr_matrix((np.ones(len(columns), dtype=np.float32), columns, indptr), shape=(n_users, n_items))


def whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small whole numbers, whose products are exact and often tie."""
    return rng.integers(-2, 3, shape).astype(np.float32)


def sparse(rng: np.random.Generator, n: int, m: int) -> sp.csr_matrix:
    return sp.csr_matrix(whole(rng, n, m) * (rng.random((n, m)) < rng.random()))


@settings(max_examples=60, deadline=None)
@given(
    seed=SEED, n_items=SIZES, d=st.sampled_from([1, 4, 9]), k=st.sampled_from([1, 10, 300]), n_threads=st.integers(1, 3)
)
def test_products_of_factors_rank_as_a_stable_sort(seed: int, n_items: int, d: int, k: int, n_threads: int) -> None:
    rng = np.random.default_rng(seed)
    product = FactorProduct(whole(rng, 40, d), whole(rng, n_items, d))
    users = rng.integers(0, 40, rng.integers(0, 70)).astype(np.int32)
    masked = some_mask(rng, 40, n_items) if seed % 2 else None
    found = rank_product(product, users, k, masked, n_threads)
    assert found is not None
    assert found.tolist() == wanted(product.users @ product.items.T, users, k, masked)


@settings(max_examples=60, deadline=None)
@given(
    seed=SEED,
    n_items=SIZES,
    m=st.sampled_from([1, 5, 30]),
    k=st.sampled_from([1, 10, 300]),
    n_threads=st.integers(1, 3),
)
def test_sparse_products_rank_as_a_stable_sort(seed: int, n_items: int, m: int, k: int, n_threads: int) -> None:
    rng = np.random.default_rng(seed)
    product = SparseProduct(sparse(rng, 40, m), sparse(rng, m, n_items))
    users = rng.integers(0, 40, rng.integers(0, 70)).astype(np.int32)
    masked = some_mask(rng, 40, n_items) if seed % 2 else None
    found = rank_product(product, users, k, masked, n_threads)
    assert found is not None
    assert found.tolist() == wanted((product.users @ product.items).toarray(), users, k, masked)


@pytest.mark.parametrize("kind", ["factors", "sparse"])
def test_equal_scores_rank_by_index(kind: str) -> None:
    one = np.ones((3, 2), dtype=np.float32)
    product = FactorProduct(one, np.ones((70, 2), dtype=np.float32))
    if kind == "sparse":
        product = SparseProduct(sp.csr_matrix(one), sp.csr_matrix(np.ones((2, 70), dtype=np.float32)))
    found = rank_product(product, np.arange(3, dtype=np.int32), 5, None)
    assert found is not None
    assert found.tolist() == [[0, 1, 2, 3, 4]] * 3


@settings(max_examples=20, deadline=None)
@given(seed=SEED, d=st.sampled_from([8, 33]))
def test_any_number_of_threads_gives_the_same_bits(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    users, items = (rng.normal(size=(n, d)).astype(np.float32) for n in (200, 500))
    asked, answers = np.arange(200, dtype=np.int32), []
    left = sp.random(200, 90, 0.1, "csr", np.float32, rng)
    right = sp.random(90, 500, 0.2, "csr", np.float32, rng)
    sides = [
        part
        for side in (left, right)
        for part in (side.indptr.astype(np.int64), side.indices.astype(np.int32), side.data)
    ]
    for n_threads in (1, 2, 7):
        found = [(np.empty((200, 10), np.int32), np.empty((200, 10), np.float32)) for _ in range(2)]
        assert _native.rank_factors(users, items, asked, None, None, n_threads, *found[0])
        assert _native.rank_products(*sides, 500, asked, None, None, n_threads, *found[1])
        answers.append([array.tobytes() for pair in found for array in pair])
    assert answers[0] == answers[1] == answers[2]


def test_scores_of_factors_are_those_of_the_search_that_serves() -> None:
    rng = np.random.default_rng(4)
    users, items = (rng.normal(size=(n, 20)).astype(np.float32) for n in (33, 300))
    rows, scores = np.empty((33, 7), np.int32), np.empty((33, 7), np.float32)
    assert _native.rank_factors(users, items, np.arange(33, dtype=np.int32), None, None, 2, rows, scores)
    native = _native.Retriever(items, np.arange(300, dtype=np.int32), np.zeros(300, np.float32), 0.0, 1.0)
    served, served_scores = np.empty_like(rows), np.empty_like(scores)
    nothing, none, no_rows = np.zeros(33, np.int8), np.zeros(34, dtype=np.int64), np.empty(0, np.int32)
    counts = np.empty(33, np.int32)
    native.retrieve(
        users, nothing + 1, np.full(33, 7, np.int32), nothing, none, no_rows, np.empty(0, np.float32), none[:0],
        none[:33], none, no_rows, None, None, np.zeros(300, np.uint32), served, served_scores, counts, counts,
    )  # fmt: skip
    assert rows.tolist() == served.tolist()
    assert scores.tobytes() == served_scores.tobytes()


class Factored:
    """A model of given factors that offers its product."""

    name = "factored"

    def __init__(self, users: Float32, items: Float32) -> None:
        self.parameters: Parameters = {}
        self.users, self.items = users, items
        self.n_items = len(items)
        self.n_scored = 0

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("given")

    def product(self) -> FactorProduct:
        return FactorProduct(self.users, self.items)

    def scores(self, users: Int32) -> Float32:
        self.n_scored += len(users)
        with np.errstate(all="ignore"):
            return np.asarray(self.users[users] @ self.items.T, dtype=np.float32)


def test_a_model_that_offers_its_product_is_asked_for_no_scores() -> None:
    rng = np.random.default_rng(0)
    model = Factored(whole(rng, 6, 3), whole(rng, 50, 3))
    users = np.array([5, 0, 3], dtype=np.int32)
    masked = some_mask(rng, 6, 50)
    assert rank_users(model, users, 4, masked).tolist() == wanted(model.users @ model.items.T, users, 4, masked)
    assert model.n_scored == 0


@pytest.mark.parametrize(("side", "value"), [("users", np.nan), ("items", np.inf), ("items", -np.inf), ("users", 3e38)])
def test_a_score_that_is_no_number_is_an_error(side: str, value: float) -> None:
    model = Factored(np.full((2, 2), 3.0, dtype=np.float32), np.ones((9, 2), dtype=np.float32))
    getattr(model, side)[1] = value
    if value == -np.inf:
        model.users[1] *= -1
    with pytest.raises(HeadraceError, match="NaN or infinite"):
        rank_users(model, np.arange(2, dtype=np.int32), 3, None)


def test_enormous_factors_with_finite_scores_still_rank() -> None:
    model = Factored(np.array([[3e30, 0.0]], dtype=np.float32), np.array([[0, 3e38], [2, 0]], dtype=np.float32))
    assert rank_users(model, np.zeros(1, dtype=np.int32), 2, None).tolist() == [[1, 0]]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sparse_product_that_is_no_number_is_found(value: float) -> None:
    left, right = sp.csr_matrix(np.ones((1, 1), np.float32)), np.arange(70, dtype=np.float32)[None, :]
    right[0, 3] = value
    assert rank_product(SparseProduct(left, sp.csr_matrix(right)), np.zeros(1, dtype=np.int32), 2, None) is None


def test_arrays_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    good: dict[str, Any] = {
        "user_factors": whole(rng, 4, 3), "item_factors": whole(rng, 5, 3), "users": np.arange(4, dtype=np.int32),
        "masked_indptr": np.array([0, 1, 1, 1, 1]), "masked": np.array([4], dtype=np.int32), "n_threads": 1,
        "items": np.empty((4, 2), np.int32), "scores": np.empty((4, 2), np.float32),
    }  # fmt: skip
    assert _native.rank_factors(**good)
    for wrong in (
        {"item_factors": whole(rng, 5, 4)},
        {"users": np.array([0, 1, 2, 4], dtype=np.int32)},
        {"users": np.array([0, 1, 2, -1], dtype=np.int32)},
        {"masked": np.array([5], dtype=np.int32)},
        {"masked_indptr": np.array([0, 2, 1, 1, 1])},
        {"masked_indptr": None},
        {"n_threads": 0},
        {"scores": np.empty((4, 3), np.float32)},
    ):
        with pytest.raises(ValueError, match="do not fit"):
            _native.rank_factors(**good | wrong)
