"""Search in lists against plain NumPy: what it estimates, what it finds, and how it narrows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import _native
from headrace.recommend.index import Lists, bitmap, make_searcher, search
from headrace_training.clusters import k_means, nearest
from headrace_training.index import choose_index, recall_of

PASSES = _native.scan_passes()
SEED = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def _usual_pass() -> Iterator[None]:
    yield
    _native.use_scan_pass(PASSES[0])


def clustered(seed: int, n_items: int, d: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d)) * 2
    return ((centres[rng.integers(0, 20, n_items)] + rng.normal(size=(n_items, d))) * scale).astype(np.float32)


def made(items: np.ndarray, n_lists: int, probes: int, by_factors: bool = True) -> Lists:
    centres = k_means(items, n_lists, seed=1)
    return Lists(centres, nearest(items, centres), probes, by_factors)


@settings(max_examples=20)
@given(seed=SEED, d=st.sampled_from([1, 3, 16, 63, 64, 65, 130]), which=st.sampled_from(PASSES))
def test_scores_by_code_are_near_and_all_lists_find_nearly_all(seed: int, d: int, which: str) -> None:
    _native.use_scan_pass(which)
    items = clustered(seed, 700, d)
    queries = clustered(seed + 1, 5, d)
    exact = queries.astype(np.float64) @ items.T
    hits = search(make_searcher(items, made(items, 10, 10, by_factors=False)), queries, 10)
    assert not hits.exact.any()
    for q in range(5):
        error = np.abs(hits.scores[q] - exact[q, hits.rows[q]]).max()
        assert error <= 0.01 * np.linalg.norm(queries[q]) * np.abs(items).max()
        assert (np.diff(hits.scores[q]) <= 0).all()
    truth = np.argsort(-exact, axis=1, kind="stable")[:, :10]
    found = search(make_searcher(items, made(items, 10, 10)), queries, 10)
    assert recall_of(found.rows, truth) >= 0.98
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.rows, axis=1), rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(seed=SEED, share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]), k=st.sampled_from([1, 10, 900]))
def test_every_pass_gives_the_same_bits_and_as_many_items_as_there_are(seed: int, share: float, k: int) -> None:
    items, queries = clustered(seed, 800, 16), clustered(seed + 1, 3, 16)
    mask = np.random.default_rng(seed).random(800) < share
    searcher, answers = make_searcher(items, made(items, 16, 2)), []
    for which in PASSES:
        _native.use_scan_pass(which)
        answers.append(search(searcher, queries, k, bitmap(mask)))
    for q in range(3):
        rows = answers[0].rows[q][answers[0].rows[q] >= 0]
        assert len(set(rows.tolist())) == len(rows) == min(k, int(mask.sum()))
        assert mask[rows].all()
    for other in answers[1:]:
        assert other.rows.tobytes() == answers[0].rows.tobytes()
        assert other.scores.tobytes() == answers[0].scores.tobytes()


def test_companions_change_no_answer() -> None:
    items, queries = clustered(0, 900, 16), clustered(1, 9, 16)
    searcher = make_searcher(items, made(items, 16, 2))
    together = search(searcher, queries, 7)
    for q in range(9):
        alone = search(searcher, queries[q : q + 1], 7)
        assert alone.rows[0].tobytes() == together.rows[q].tobytes()
        assert alone.scores[0].tobytes() == together.scores[q].tobytes()


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e12])
def test_factors_of_any_magnitude_rank(scale: float) -> None:
    items, queries = clustered(3, 500, 8, scale), clustered(4, 4, 8)
    truth = np.argsort(-(queries.astype(np.float64) @ items.T), axis=1, kind="stable")[:, :5]
    assert recall_of(search(make_searcher(items, made(items, 8, 8)), queries, 5).rows, truth) >= 0.95


def test_equal_items_tie_by_the_lower_row() -> None:
    items = np.ones((300, 8), dtype=np.float32)
    lists = Lists(np.ones((4, 8), np.float32), (np.arange(300) % 4).astype(np.int32), 4)
    hits = search(make_searcher(items, lists), items[:1], 5)
    assert hits.rows[0].tolist() == [0, 1, 2, 3, 4]


def test_filters_keep_the_recall() -> None:
    items, queries = clustered(5, 20_000, 32), clustered(6, 64, 32)
    exact, searcher = queries @ items.T, make_searcher(items, made(items, 100, 12))
    rng = np.random.default_rng(0)
    plain = recall_of(search(searcher, queries, 10).rows, np.argsort(-exact, axis=1)[:, :10])
    assert plain >= 0.95
    for share in (0.001, 0.01, 0.1, 0.5):
        mask = rng.random(len(items)) < share
        truth = np.argsort(-np.where(mask, exact, -np.inf), axis=1)[:, :10]
        assert recall_of(search(searcher, queries, 10, bitmap(mask)).rows, truth) >= plain


@settings(max_examples=15)
@given(seed=SEED, d=st.sampled_from([2, 16]), scale=st.sampled_from([1e-6, 1.0, 1e4]))
def test_the_nearest_centre_is_the_nearest(seed: int, d: int, scale: float) -> None:
    items, centres = clustered(seed, 300, d, scale), clustered(seed + 1, 12, d, scale)
    distances = np.square(items[:, None].astype(np.float64) - centres).sum(2)
    found = nearest(items, centres, n_threads=2)
    best, got = distances.min(axis=1), np.take_along_axis(distances, found[:, None], axis=1)[:, 0]
    assert (got <= best + 1e-4 * np.square(centres.astype(np.float64)).sum(1).max()).all()


def test_threads_change_no_centre() -> None:
    items = clustered(7, 3000, 8)
    assert k_means(items, 20, seed=3).tobytes() == k_means(items, 20, seed=3, n_threads=3).tobytes()


def test_the_choice_is_the_least_probes_that_reach_the_recall() -> None:
    items, queries = clustered(8, 30_000, 32), clustered(9, 64, 32)
    truth = search(make_searcher(items), queries, 10).rows
    choice = choose_index(items, queries, exact_below=100, recall=0.95, k=10)
    if choice.kind == "exact":  # a crowded machine may time it the slower one
        assert choice.lists is None
        return
    assert choice.lists is not None
    found = search(make_searcher(items, choice.lists), queries, 10)
    assert recall_of(found.rows, truth) == pytest.approx(choice.recall)
    assert choice.recall >= 0.95
    assert choice.lists.probes < len(choice.lists.centres)
    assert choice.build_seconds > 0
    assert choice.peak_rss_bytes > items.nbytes
    assert choice.parameters()["index_lists"] == len(choice.lists.centres)
