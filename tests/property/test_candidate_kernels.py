"""The kernel that picks candidates to keep marks what its plain twin marks."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import candidates as kernels
from headrace.reference import candidates as reference

WORTH = st.one_of(st.sampled_from([0.0, 1.0, -1.0, np.nan, np.inf, -np.inf]), st.floats(-1e18, 1e18))


@given(stretches=st.lists(st.lists(WORTH, max_size=9), max_size=6), limit=st.integers(1, 5))
def test_the_highest_of_each_stretch_are_marked(stretches: list[list[float]], limit: int) -> None:
    worth = np.array([value for stretch in stretches for value in stretch], np.float64)
    counts = np.array([len(stretch) for stretch in stretches], np.int64)
    found, expected = np.zeros(len(worth), np.bool_), np.zeros(len(worth), np.bool_)
    kernels.mark_highest(worth, counts, limit, found)
    reference.mark_highest(worth, counts, limit, expected)
    assert found.tolist() == expected.tolist()
