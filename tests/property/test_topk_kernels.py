"""Scores and selection against their plain twins, on edge values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import topk
from headrace.recommend.batch import top_k_all
from headrace.recommend.model import to_coarse
from headrace.reference import topk as reference


def factors_of(seed: int, n_items: int, d: int, n_queries: int, coarse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Item factors and queries; coarse ones are small whole numbers, whose products are exact and often tie."""
    rng = np.random.default_rng(seed)
    if coarse:
        values = rng.integers(-2, 3, size=(n_items + n_queries, d)).astype(np.float32)
    else:
        values = rng.normal(size=(n_items + n_queries, d)).astype(np.float32)
    return values[:n_items], values[n_items:]


def run_top_rows(
    factors: np.ndarray, queries: np.ndarray, limits: np.ndarray, banned: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    coarse = to_coarse(factors)
    padded = np.zeros((len(queries), coarse.blocks.shape[1]), dtype=np.float32)
    padded[:, : queries.shape[1]] = queries
    n, k = len(queries), int(limits.max(initial=0))
    rows, scores = np.full((n, k), -7, dtype=np.int32), np.full((n, k), np.nan, dtype=np.float32)
    counts = np.zeros(n, dtype=np.int32)
    topk.top_rows(coarse, factors, padded, limits, banned, (rows, scores, counts))
    return [(rows[q, : counts[q]], scores[q, : counts[q]]) for q in range(n)]


@given(
    seed=st.integers(0, 2**32 - 1),
    n_items=st.sampled_from([0, 1, 2, 127, 128, 129, 300]),
    d=st.sampled_from([1, 7, 8, 9, 32]),
    n_queries=st.sampled_from([1, 2, 31, 32]),
    share_banned=st.sampled_from([0.0, 0.5, 1.0]),
    coarse=st.booleans(),
)
def test_top_rows_are_those_of_a_full_sort(
    seed: int, n_items: int, d: int, n_queries: int, share_banned: float, coarse: bool
) -> None:
    factors, queries = factors_of(seed, n_items, d, n_queries, coarse)
    rng = np.random.default_rng(seed)
    limits = rng.choice([0, 1, 2, 20, 400], size=n_queries).astype(np.int32)
    allowed = rng.random((n_queries, n_items)) >= share_banned
    banned = np.zeros(n_items, dtype=np.uint32)
    for q in range(n_queries):
        banned |= (~allowed[q]).astype(np.uint32) << np.uint32(q)
    found = run_top_rows(factors, queries, limits, banned)
    for q, (rows, scores) in enumerate(found):
        exact = reference.exact_scores(factors, queries[q])
        assert len(set(rows.tolist())) == len(rows) == min(int(limits[q]), int(allowed[q].sum()))
        assert allowed[q][rows].all()
        np.testing.assert_allclose(scores, exact[rows], rtol=1e-4, atol=1e-5)
        if coarse:  # exact in float32, so ties are ties
            wanted_rows, wanted_scores = reference.top_scores(exact, allowed[q], int(limits[q]))
            np.testing.assert_array_equal(rows, wanted_rows)
            np.testing.assert_array_equal(scores, wanted_scores)
        else:
            ordered = np.sort(exact[allowed[q]])[::-1][: int(limits[q])]
            np.testing.assert_allclose(scores, ordered, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), d=st.sampled_from([3, 8, 64]))
def test_an_answer_does_not_depend_on_its_companions(seed: int, d: int) -> None:
    factors, queries = factors_of(seed, 260, d, 32, coarse=False)
    banned = np.zeros(260, dtype=np.uint32)
    together = run_top_rows(factors, queries, np.full(32, 10, dtype=np.int32), banned)
    for q in range(32):
        ((rows, scores),) = run_top_rows(factors, queries[q : q + 1], np.array([10], dtype=np.int32), banned)
        np.testing.assert_array_equal(rows, together[q][0])
        np.testing.assert_array_equal(scores.view(np.uint32), together[q][1].view(np.uint32))


@given(seed=st.integers(0, 2**32 - 1), d=st.sampled_from([1, 5, 8, 64]), k=st.sampled_from([1, 7, 300]))
def test_candidates_score_bit_for_bit_as_the_full_scan(seed: int, d: int, k: int) -> None:
    factors, queries = factors_of(seed, 200, d, 1, coarse=False)
    banned = (np.random.default_rng(seed).random(200) < 0.3).astype(np.uint32)
    ((rows, scores),) = run_top_rows(factors, queries, np.array([k], dtype=np.int32), banned)
    slate = (np.zeros(k, dtype=np.int32), np.zeros(k, dtype=np.float32), np.zeros(1, dtype=np.int32))
    topk.top_candidates(factors, np.arange(200), queries[0], banned, 0, slate)
    count = slate[2][0]
    np.testing.assert_array_equal(slate[0][:count], rows)
    np.testing.assert_array_equal(slate[1][:count].view(np.uint32), scores.view(np.uint32))


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


def test_ban_sets_the_bit_of_each_query_and_skips_unknown_rows() -> None:
    banned = np.zeros(4, dtype=np.uint32)
    topk.ban(banned, np.array([0, 2, 2, 4]), np.array([1, -1, 1, 3], dtype=np.int32))
    assert banned.tolist() == [0, 0b101, 0, 0b100]


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
