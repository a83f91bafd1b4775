"""Scores and selection against their plain twins, on edge values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import topk
from headrace.recommend.batch import top_k_all
from headrace.reference import topk as reference


def factors_of(seed: int, n_items: int, d: int, n_queries: int, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Item factors and queries; coarse ones are small whole numbers, whose products are exact and often tie."""
    rng = np.random.default_rng(seed)
    if coarse:
        values = rng.integers(-2, 3, size=(n_items + n_queries, d)).astype(np.float32)
    else:
        values = rng.normal(size=(n_items + n_queries, d)).astype(np.float32)
    return values[:n_items], values[n_items:]


@given(
    scores=st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 0.5, 2.0]), max_size=60),
    k=st.integers(1, 80),
    bit=st.sampled_from([0, 5, 31]),
    data=st.data(),
)
def test_top_scores_break_ties_by_index(scores: list[float], k: int, bit: int, data: st.DataObject) -> None:
    values = np.array(scores, dtype=np.float32)
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))), dtype=bool)
    slate = (np.zeros(k, dtype=np.int32), np.zeros(k, dtype=np.float32), np.zeros(1, dtype=np.int32))
    topk.top_scores(values, (~allowed).astype(np.uint32) << np.uint32(bit), bit, slate)
    rows, best = reference.top_scores(values, allowed, k)
    count = slate[2][0]
    np.testing.assert_array_equal(slate[0][:count], rows)
    np.testing.assert_array_equal(slate[1][:count], best)


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 60), start=st.integers(0, 5))
def test_take_allowed_keeps_the_order(seed: int, k: int, start: int) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(40).astype(np.int32)
    allowed = rng.random(40) < 0.5
    rows = np.full(start + k, -1, dtype=np.int32)
    count = topk.take_allowed(order, (~allowed).astype(np.uint32) << np.uint32(3), 3, rows, start)
    np.testing.assert_array_equal(rows[start:count], reference.take_allowed(order, allowed, k))


@given(seed=st.integers(0, 2**32 - 1), n_users=st.sampled_from([0, 1, 33, 70]), n_threads=st.sampled_from([1, 2]))
def test_top_k_of_all_users_passes_over_what_they_have_seen(seed: int, n_users: int, n_threads: int) -> None:
    items, users = factors_of(seed, 50, 6, n_users, coarse=True)
    rng = np.random.default_rng(seed)
    seen = [np.sort(rng.choice(50, rng.integers(0, 51), replace=False)) for _ in range(n_users)]
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows in seen])]).astype(np.int64)
    flat = np.concatenate([*seen, []]).astype(np.int32)
    rows, scores = top_k_all(users, items, indptr, flat, 10, n_threads=n_threads)
    for u in range(n_users):
        allowed = np.ones(50, dtype=bool)
        allowed[seen[u]] = False
        wanted, best = reference.top_scores(reference.exact_scores(items, users[u]), allowed, 10)
        assert rows[u].tolist() == [*wanted.tolist(), *[-1] * (10 - len(wanted))]
        assert scores[u].tolist() == [*best.tolist(), *[0.0] * (10 - len(best))]


def test_top_k_of_all_users_refuses_k_of_zero(factories: object) -> None:
    from headrace.errors import InvalidRequestError

    none = np.zeros((0, 4), dtype=np.float32)
    with pytest.raises(InvalidRequestError, match=r"k: got 0, expected 1 or more"):
        top_k_all(none, none, np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32), 0)
