"""Fold-in against its plain twin and against implicit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from headrace import _native
from headrace.kernels import foldin
from headrace.reference import foldin as reference


def run(
    items: np.ndarray, regularization: float, histories: list[tuple[np.ndarray, np.ndarray]], width: int
) -> np.ndarray:
    d = items.shape[1]
    gram = np.eye(width, dtype=np.float32)
    gram[:d, :d] = items.T @ items + regularization * np.eye(d)
    indptr = np.concatenate([[0], np.cumsum([len(rows) for rows, _ in histories])]).astype(np.int64)
    rows = np.concatenate([*(rows for rows, _ in histories), []]).astype(np.int32)
    confidences = np.concatenate([*(weights for _, weights in histories), []]).astype(np.float32)
    out = np.full((len(histories), width), np.nan, dtype=np.float32)
    foldin.fold_in(gram, items, indptr, rows, confidences, out)
    if width % _native.FOLD_LANES == 0:  # training's kernel and serving's agree but for roundings
        trained, out = out, np.full_like(out, np.nan)
        _native.fold_in(gram, items, indptr, rows, confidences, out)
        np.testing.assert_allclose(out, trained, rtol=5e-3, atol=5e-4)
    return out


def histories_of(
    rng: np.random.Generator, n_items: int, lengths: list[int], largest: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(rng.choice(n_items, n, replace=False), rng.uniform(0.01, largest, n).astype(np.float32)) for n in lengths]


@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.sampled_from([1, 3, 8, 17, 64]),
    lengths=st.lists(st.sampled_from([0, 1, 3, 4, 5, 50]), max_size=5),
    largest=st.sampled_from([0.5, 1.0, 40.0]),
)
def test_factors_are_those_of_the_dense_solution(seed: int, d: int, lengths: list[int], largest: float) -> None:
    rng = np.random.default_rng(seed)
    items = (rng.normal(size=(80, d)) * 0.3).astype(np.float32)
    histories = histories_of(rng, 80, lengths, largest)
    width = d + -d % 16
    found = run(items, 0.1, histories, width)
    gram = (items.T @ items + 0.1 * np.eye(d)).astype(np.float32)
    for (rows, confidences), x in zip(histories, found, strict=True):
        wanted = reference.fold_in(gram, items, rows, confidences)
        np.testing.assert_allclose(x[:d], wanted, rtol=2e-3, atol=2e-4)
        assert not x[d:].any()


@given(seed=st.integers(0, 2**32 - 1))
def test_factors_do_not_depend_on_companions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    items = rng.normal(size=(60, 16)).astype(np.float32)
    histories = histories_of(rng, 60, [7, 0, 20, 1], 10.0)
    together = run(items, 0.01, histories, 16)
    for history, x in zip(histories, together, strict=True):
        alone = run(items, 0.01, [history], 16)[0]
        np.testing.assert_array_equal(alone.view(np.uint32), x.view(np.uint32))


def test_a_system_that_rounds_to_singular_stays_finite() -> None:
    items = np.full((2, 4), 1e-4, dtype=np.float32)
    x = run(items, 0.0, [(np.array([0, 1]), np.array([1e6, 1e6]))], 8)
    assert np.isfinite(x).all()


def test_factors_agree_with_implicit() -> None:
    als = pytest.importorskip("implicit.cpu.als", reason="implicit is not installed: install the extra 'train'")
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    rng = np.random.default_rng(3)
    n_items, d, alpha, regularization = 300, 32, 12.0, 0.05
    with limits(1, "blas"):  # implicit warns otherwise
        model = als.AlternatingLeastSquares(factors=d, regularization=regularization, alpha=alpha, num_threads=1)
    model.item_factors = (rng.normal(size=(n_items, d)) * 0.2).astype(np.float32)
    model.user_factors = np.zeros((1, d), dtype=np.float32)
    for length in (1, 10, 150):
        rows = np.sort(rng.choice(n_items, length, replace=False))
        weights = rng.uniform(0.05, 5.0, length).astype(np.float32)
        history = sp.csr_matrix((weights, rows, [0, length]), shape=(1, n_items))
        wanted = model.recalculate_user(0, history)
        found = run(model.item_factors, regularization, [(rows, alpha * weights)], d)[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
