"""The kernels of next-item models against plain loops over Python objects."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from headrace_training.kernels.transitions import add_repeats, add_transitions, list_pairs, places_of
from headrace_training.models.base import as_rows
from headrace_training.models.transitions import TransitionSettings, count_pairs
from headrace_training.sequences import Questions, Sequences, sample_questions

N_ITEMS = 6
ROWS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=9), max_size=8)


def sequences(rows: list[list[int]]) -> Sequences:
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(
        [str(item) for item in range(N_ITEMS)], indptr, np.array([item for row in rows for item in row], dtype=np.int32)
    )


def lists(found: Sequences) -> list[list[int]]:
    return [found.items[start:stop].tolist() for start, stop in zip(found.indptr[:-1], found.indptr[1:], strict=True)]


@given(ROWS, st.integers(1, 6), st.sampled_from([0.0, 0.5]), st.sampled_from([0.0, 0.25]))
def test_pairs_are_counted_by_lag_and_age(rows: list[list[int]], max_lag: int, power: float, half_life: float) -> None:
    settings = TransitionSettings(max_lag=max_lag, lag_power=power, half_life=half_life)
    counts = np.zeros((N_ITEMS, N_ITEMS))
    for number, row in enumerate(rows):
        age = (len(rows) - number) / len(rows)
        for place, item in enumerate(row):
            for lag, after in enumerate(row[place + 1 : place + 1 + max_lag], 1):
                counts[item, after] += lag**-power * (0.5 ** (age / half_life) if half_life else 1.0)
    assert count_pairs(sequences(rows), settings).toarray() == pytest.approx(counts, rel=1e-5)


def test_list_pairs_fills_in_order() -> None:
    before, after, values = np.empty(3, np.int32), np.empty(3, np.int32), np.empty(3, np.float32)
    lags = np.array([1.0, 0.5], dtype=np.float32)
    rows = sequences([[4, 1, 4]])
    list_pairs(rows.indptr, rows.items, np.array([2.0], dtype=np.float32), lags, before, after, values)
    assert (before.tolist(), after.tolist(), values.tolist()) == ([4, 4, 1], [1, 4, 4], [2.0, 1.0, 2.0])


@given(ROWS, st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_scores_are_sums_over_distinct_latest_items_and_over_places(
    rows: list[list[int]], n_ages: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = sp.random(N_ITEMS, N_ITEMS, density=0.4, format="csr", dtype=np.float32, rng=rng)
    weights, repeats = (rng.random(n_ages).astype(np.float32) for _ in range(2))
    wanted = np.zeros((len(rows), N_ITEMS))
    for number, row in enumerate(rows):
        latest = row[::-1][:n_ages]
        for age, item in enumerate(latest):
            wanted[number, item] += repeats[age]
            if item not in latest[:age]:
                wanted[number] += weights[age] * matrix.toarray()[item]
    prefixes = sequences(rows)
    out = np.zeros((len(rows), N_ITEMS), dtype=np.float32)
    add_transitions(as_rows(matrix), prefixes.indptr, prefixes.items, weights, out)
    add_repeats(prefixes.indptr, prefixes.items, repeats, out)
    assert out == pytest.approx(wanted, rel=1e-5, abs=1e-7)


@given(st.lists(st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0]), min_size=5, max_size=5), min_size=1, max_size=5))
def test_places_are_those_of_a_stable_sort(rows: list[list[float]]) -> None:
    scores = np.array(rows, dtype=np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")
    for column in range(5):
        out = np.empty(len(rows), dtype=np.int32)
        places_of(scores, np.full(len(rows), column, dtype=np.int32), out)
        assert out.tolist() == [row.tolist().index(column) for row in order]


@given(ROWS, st.integers(0, 4))
def test_rows_are_cut_taken_and_parted(rows: list[list[int]], n: int) -> None:
    whole = sequences(rows)
    assert lists(whole.without_last(n)) == [row[: max(0, len(row) - n)] for row in rows]
    assert lists(whole.take(np.arange(len(rows))[::-1])) == rows[::-1]
    start = min(n, len(rows))
    assert lists(whole.part(start, len(rows))) == rows[start:]
    counts = [[row.count(item) for item in range(N_ITEMS)] for row in rows]
    assert whole.matrix().toarray().tolist() == counts


@given(ROWS, st.integers(1, 12), st.integers(0, 9))
def test_questions_are_places_with_all_before_them(rows: list[list[int]], n: int, seed: int) -> None:
    asked = sample_questions(sequences(rows), n, np.random.default_rng(seed))
    every = [(row[:place], row[place]) for row in rows for place in range(1, len(row))]
    found = pairs(asked)
    assert len(found) == min(n, len(every))
    if n >= len(every):
        assert found == every
    left = iter(every)
    assert all(pair in left for pair in found), "in the order of the rows, none twice"


def pairs(questions: Questions) -> list[tuple[list[int], int]]:
    return list(zip(lists(questions.prefixes), questions.targets.tolist(), strict=True))
