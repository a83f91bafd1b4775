"""Search over a base with additions and removals, and by bitmap, against brute force over the live items."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace import _native
from headrace.errors import InvalidRequestError
from headrace.recommend.index import Hits, Lists, LiveIndex, bitmap, make_searcher, search

PASSES = _native.scan_passes()
SEED = st.integers(0, 2**32 - 1)
D = 8


@pytest.fixture(autouse=True)
def _usual_pass() -> Iterator[None]:
    yield
    _native.use_scan_pass(PASSES[0])


def draw(rng: np.random.Generator, n: int, d: int = D, *, whole: bool = True) -> np.ndarray:
    """Small whole numbers, whose products are exact and often tie, or any."""
    return (rng.integers(-3, 4, (n, d)) if whole else rng.normal(size=(n, d))).astype(np.float32)


def some_lists(rng: np.random.Generator, factors: np.ndarray, n_lists: int, probes: int, **more: bool) -> Lists:
    centres = draw(rng, n_lists, factors.shape[1], whole=False)
    return Lists(centres, rng.integers(0, n_lists, len(factors)).astype(np.int32), probes, **more)


def brute_force(live: dict[int, np.ndarray], query: np.ndarray, k: int) -> list[tuple[int, float]]:
    """By score, then the lower row."""
    scored = [(row, float(factors.astype(np.float64) @ query[: len(factors)])) for row, factors in live.items()]
    return sorted(scored, key=lambda each: (-each[1], each[0]))[:k]


def rows_of(hits: Hits, q: int = 0) -> list[int]:
    return [row for row in hits.rows[q].tolist() if row >= 0]


class Twin:
    """The live items as a dictionary, changed beside the index."""

    def __init__(self, rng: np.random.Generator, n_items: int, lists: bool) -> None:
        self.rng, factors = rng, draw(rng, n_items)
        self.live = {row: factors[row] for row in range(n_items)}
        self.rows = n_items + 40
        self.index = LiveIndex(make_searcher(factors, some_lists(rng, factors, 7, 7) if lists else None), D)

    def change(self) -> None:
        rows = self.rng.permutation(self.rows)[: self.rng.integers(0, 9)].astype(np.int32)
        if self.rng.random() < 0.5:
            factors = draw(self.rng, len(rows))
            self.index.add(rows, factors)
            self.live.update(zip(rows.tolist(), factors, strict=True))
        else:
            self.index.remove(rows)
            for row in rows.tolist():
                self.live.pop(row, None)


@settings(max_examples=30)
@given(seed=SEED, n_items=st.sampled_from([0, 1, 63, 64, 200]), lists=st.booleans(), which=st.sampled_from(PASSES))
def test_additions_and_removals_in_any_order_leave_an_exact_search_of_what_lives(
    seed: int, n_items: int, lists: bool, which: str
) -> None:
    _native.use_scan_pass(which)
    twin = Twin(np.random.default_rng(seed), n_items, lists)
    for _ in range(12):
        twin.change()
        query, mask = draw(twin.rng, 1), twin.rng.random(twin.rows) < twin.rng.choice([0.0, 0.1, 0.5, 1.0])
        k = int(twin.rng.choice([1, 5, 400]))
        expected = brute_force(twin.live, query[0], k)
        hits = twin.index.search(query, k)
        assert set(rows_of(hits)) <= twin.live.keys()
        assert len(rows_of(hits)) == min(k, len(twin.live))
        if hits.exact[0]:
            assert rows_of(hits) == [row for row, _ in expected]
            assert hits.scores[0, : len(expected)].tolist() == [score for _, score in expected]
        else:
            assert lists
        allowed = {row: factors for row, factors in twin.live.items() if mask[row]}
        hits = twin.index.search(query, k, bitmap(mask))
        assert len(rows_of(hits)) == min(k, len(allowed))
        assert set(rows_of(hits)) <= allowed.keys()
        if hits.exact[0]:
            assert rows_of(hits) == [row for row, _ in brute_force(allowed, query[0], k)]


def test_a_searcher_at_hand_sees_no_change() -> None:
    twin = Twin(np.random.default_rng(0), 50, lists=False)
    before, query = twin.index.searcher, draw(twin.rng, 1)
    old = rows_of(search(before, query, 50))
    twin.index.add(np.array([70], np.int32), 9 * query)
    twin.index.remove(np.arange(10, dtype=np.int32))
    assert rows_of(search(before, query, 50)) == old
    new = rows_of(twin.index.search(query, 50))
    assert new[0] == 70
    assert set(new) == {70} | set(range(10, 50))
    assert twin.index.searcher.n_added == 1
    assert twin.index.searcher.n_bytes > before.n_bytes


def test_searches_beside_changes_see_whole_states() -> None:
    """Item i of each state has the factors (state, ...), so an answer of two states would show."""
    n, index = 64, LiveIndex(make_searcher(np.ones((64, D), np.float32)), D)
    query, rows = np.ones((1, D), np.float32), np.arange(n, dtype=np.int32)
    stop, seen, torn = threading.Event(), set(), []

    def look() -> None:
        while not stop.is_set():
            hits = index.search(query, n)
            scores = set(hits.scores[0].tolist())
            seen.update(scores)
            if len(scores) != 1 or sorted(rows_of(hits)) != rows.tolist():
                torn.append(hits)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for state in range(2, 60):
        index.add(rows, np.full((n, D), state, np.float32))
    stop.set()
    for thread in threads:
        thread.join()
    assert not torn
    assert seen <= {float(D * state) for state in range(1, 60)}


@pytest.mark.parametrize(
    ("rows", "factors"),
    [
        ([1, 1], np.zeros((2, D), np.float32)),
        ([-1], np.zeros((1, D), np.float32)),
        ([2**31], np.zeros((1, D), np.float32)),
        ([0.5], np.zeros((1, D), np.float32)),
        ([[1]], np.zeros((1, D), np.float32)),
        ([1], np.zeros((1, D + 1), np.float32)),
        ([1, 2], np.zeros((1, D), np.float32)),
        ([1], np.full((1, D), np.nan, np.float32)),
        ([1], np.full((1, D), np.inf, np.float32)),
    ],
)
def test_additions_that_do_not_fit_change_nothing(rows: list[int], factors: np.ndarray) -> None:
    index = LiveIndex(make_searcher(np.ones((3, D), np.float32)), D)
    before = index.searcher
    with pytest.raises(InvalidRequestError):
        index.add(np.array(rows), factors)
    assert index.searcher is before


def test_arrays_of_a_search_that_do_not_fit_are_refused() -> None:
    factors = np.ones((100, D), np.float32)
    searcher = make_searcher(factors)
    for vectors, allowed in (
        (np.ones((1, D - 1), np.float32), None),
        (np.ones((1, D), np.float32), bitmap(np.ones(64, bool))),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            search(searcher, vectors, 3, allowed)
    lists = Lists(np.ones((2, D), np.float32), np.zeros(100, np.int32), 1)
    for wrong in (
        Lists(lists.centres, lists.lists + 2, 1),
        Lists(lists.centres, lists.lists - 1, 1),
        Lists(lists.centres, lists.lists[1:], 1),
        Lists(lists.centres, lists.lists, 0),
        Lists(lists.centres[:, 1:].copy(), lists.lists, 1),
        Lists(lists.centres[:0], lists.lists, 1),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            make_searcher(factors, wrong)
