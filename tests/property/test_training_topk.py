"""The top-k kernel of training against a full stable sort."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_training.kernels.topk import select_top

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, -1e-45, 3.4e38, -3.4e38, -np.inf]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(EDGES), min_size=6, max_size=6), min_size=1, max_size=4),
    st.integers(min_value=1, max_value=8),
)
def test_the_kernel_is_a_stable_sort(rows: list[list[float]], k: int) -> None:
    scores = np.array(rows, dtype=np.float32)
    out = np.full((len(rows), k), -1, dtype=np.int32)
    assert select_top(scores, out)
    for row, got in zip(scores, out, strict=True):
        order = [int(column) for column in np.argsort(-row, kind="stable") if row[column] > -np.inf][:k]
        assert got.tolist() == order + [-1] * (k - len(order))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 5), st.sampled_from([np.nan, np.inf]))
def test_what_is_no_score_is_found_wherever_it_could_enter(place: int, value: float) -> None:
    scores = np.linspace(1, 0, 6, dtype=np.float32)[None, :].copy()
    scores[0, place] = value
    assert not select_top(scores, np.full((1, 2), -1, dtype=np.int32))
