"""Repeats compete as the plain twin says, whatever the history, the bans and the length."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels.history import Merged
from headrace.kernels.repeats import merge_repeats, repeat_lifts
from headrace.reference import repeats as twin

N_ITEMS, D = 12, 4
DAY_MS = 86_400_000


def merged_of(rng: np.random.Generator, n: int) -> Merged:
    sizes = rng.integers(0, N_ITEMS, n)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    # rows beyond the artifact's items are in the histories too
    rows = np.concatenate([rng.permutation(N_ITEMS + 3)[:size] for size in sizes] or [[]]).astype(np.int32)
    size = len(rows)
    times = rng.integers(0, 400 * DAY_MS, size)
    last = np.array([times[indptr[q] : indptr[q + 1]].max(initial=0) for q in range(n)], dtype=np.int64)
    bought = rng.integers(0, 3, size).astype(np.float32)
    ones = np.ones(size, dtype=np.float32)
    return Merged(indptr, rows, ones, bought, times, times, np.diff(indptr).astype(np.float32), last)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 4),
    k=st.integers(1, N_ITEMS + 2),
    boost=st.sampled_from([0.0, 0.5, 3.0]),
)
def test_merged_slates_are_the_best_of_lifted_scores(seed: int, n: int, k: int, boost: float) -> None:
    rng = np.random.default_rng(seed)
    merged, wanted = merged_of(rng, n), rng.integers(0, 2, n).astype(np.int8)
    # few distinct values, so that scores tie
    factors = rng.integers(-2, 3, (N_ITEMS, D)).astype(np.float32)
    vectors = rng.integers(-2, 3, (n, D + 4)).astype(np.float32)
    banned = rng.integers(0, 1 << n, N_ITEMS + 3).astype(np.uint32) & rng.integers(0, 1 << n, N_ITEMS + 3).astype(
        np.uint32
    )
    size = len(merged.rows)
    lifted = (np.empty(n + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32))
    repeat_lifts(merged, wanted, N_ITEMS, boost, 60.0, lifted)
    expected_lifts = twin.repeat_lifts(merged, wanted, N_ITEMS, boost, 60.0)

    slates = (np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32), np.zeros(n, np.int32))
    allowed = [(banned[:N_ITEMS] >> q) & 1 == 0 for q in range(n)]
    scores = [factors.astype(np.float64) @ vectors[q, :D] for q in range(n)]
    for q in range(n):
        mine = dict(zip(lifted[1][lifted[0][q] : lifted[0][q + 1]].tolist(), lifted[2][lifted[0][q] :], strict=False))
        assert mine.keys() == expected_lifts[q].keys()
        np.testing.assert_allclose([mine[row] for row in mine], [expected_lifts[q][row] for row in mine], rtol=1e-6)
        others = allowed[q] & ~np.isin(np.arange(N_ITEMS), list(mine))
        rows, best = twin.top_with_repeats(scores[q], {}, others, k)
        slates[0][q, : len(rows)], slates[1][q, : len(rows)], slates[2][q] = rows, best, len(rows)
    merge_repeats(lifted, factors, vectors, banned, np.full(n, k, np.int32), slates)
    for q in range(n):
        rows, best = twin.top_with_repeats(scores[q], expected_lifts[q], allowed[q], k)
        count = slates[2][q]
        assert count == len(rows)
        np.testing.assert_allclose(slates[1][q, :count], best, rtol=1e-5, atol=1e-5)
        assert len(set(slates[0][q, :count].tolist())) == count
        if boost == 0.0:
            assert slates[0][q, :count].tolist() == rows.tolist()
