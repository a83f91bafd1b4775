"""The probability kernels and their plain twins agree, on edge values too."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.kernels import predict as kernels
from headrace.reference import predict as reference

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000

times = st.one_of(
    st.sampled_from([0, 1, NOW_MS, NOW_MS + DAY_MS, NOW_MS - 365 * DAY_MS, NOW_MS - 366 * DAY_MS]),
    st.integers(1, NOW_MS),
)
counts = st.integers(0, 10**9)
floats = st.one_of(
    st.sampled_from([0.0, float("nan"), float("inf"), float("-inf")]), st.floats(-50, 50, width=32, allow_nan=False)
)
rows = st.lists(st.tuples(floats, st.floats(0, 1, width=32), counts, counts, times, times), max_size=20)


def features_of(table):
    dtypes = [np.float32, np.float32, np.int64, np.int64, np.int64, np.int64]
    columns = [np.array([row[i] for row in table], dtype=dtype) for i, dtype in enumerate(dtypes)]
    now_ms = np.full(len(table), NOW_MS, np.int64)
    out = np.full((len(table), kernels.N_FEATURES), -1, np.float32)
    kernels.purchase_features(*columns, now_ms, out)
    return out, reference.purchase_features(*columns, now_ms)


@settings(deadline=None, max_examples=100)
@given(rows)
def test_features_agree_with_the_plain_twin(table):
    ours, plain = features_of(table)
    np.testing.assert_allclose(ours, plain, rtol=1e-6)


@settings(deadline=None, max_examples=100)
@given(rows, st.lists(st.floats(-20, 20, width=32), min_size=6, max_size=6), st.integers(1, 8), st.floats(-5, 5))
def test_probabilities_agree_with_the_plain_twin_and_stay_in_range(table, weights, n_knots, bias):
    features, _ = features_of(table)
    weights = np.array(weights, np.float32)
    calib_x = np.linspace(-3, 3, n_knots) if n_knots > 1 else np.zeros(1)
    calib_y = np.sort(np.linspace(0, 1, n_knots) ** 2)
    out = np.full(len(table), -1.0)
    kernels.purchase_probability(features, weights, bias, calib_x, calib_y, out)
    plain = reference.purchase_probability(features, weights, bias, calib_x, calib_y)
    # a score that sits on a knot may fall to either side of it by rounding
    np.testing.assert_allclose(out, plain, rtol=1e-6, atol=1e-9)
    assert np.all((out >= 0) & (out <= 1))


def test_hand_computed_features():
    ours, _ = features_of([(0.5, 1e-6, 9, 2, NOW_MS - 60 * DAY_MS, NOW_MS - 3 * DAY_MS), (0.0, 0.0, 0, 0, 0, 0)])
    np.testing.assert_allclose(ours[0], [0.5, np.log(2), np.log(10), np.log(3), 2.0, 0.1], rtol=1e-5)
    np.testing.assert_allclose(ours[1], [0, 0, 0, 0, 365 / 30, 365 / 30], rtol=1e-6)


def test_a_score_that_is_no_number_is_worth_nothing():
    features, _ = features_of([(float("nan"), 0.1, 1, 1, 1, 1)])
    out = np.ones(1)
    kernels.purchase_probability(features, np.ones(6, np.float32), 0.0, np.array([0.0, 1.0]), np.array([0.2, 0.9]), out)
    assert out[0] == 0.0
