"""The compiled ALS against a plain dense twin in float64."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace._native import als_passes, use_als_pass
from headrace.types import Float64
from headrace_training.als import Als, AlsSettings


@pytest.fixture(autouse=True)
def best_pass_again() -> Iterator[None]:
    yield
    use_als_pass(als_passes()[0])


def random_weights(n_users: int, n_items: int, density: float, seed: int) -> sp.csr_matrix:
    """With a user who has nothing, one with one item and one with all, and an item that nobody has."""
    rng = np.random.default_rng(seed)
    dense = np.where(rng.random((n_users, n_items)) < density, rng.uniform(0.2, 3.0, (n_users, n_items)), 0.0)
    dense[0], dense[1], dense[2] = 0.0, 0.0, 1.0
    dense[1, 0] = 2.0
    dense[:, -1] = 0.0
    return sp.csr_matrix(dense.astype(np.float32))


def exact_rows(confidences: Float64, fixed: Float64, ridge: Float64) -> Float64:
    """Every row's normal equations, solved densely."""
    gram = fixed.T @ fixed
    rows = [
        np.linalg.solve(gram + (fixed.T * np.where(c > 0, c - 1, 0)) @ fixed + r * np.eye(fixed.shape[1]), fixed.T @ c)
        for c, r in zip(confidences, ridge, strict=True)
    ]
    return np.array(rows)


def dense_loss(confidences: Float64, x: Float64, y: Float64, ridges: tuple[Float64, Float64]) -> float:
    scores = x @ y.T
    fits = np.where(confidences > 0, confidences * (1 - scores) ** 2, scores**2).sum()
    return float(fits + ridges[0] @ (x**2).sum(axis=1) + ridges[1] @ (y**2).sum(axis=1))


def ridge_of(counts: Float64, others: int, settings: AlsSettings) -> Float64:
    scale = (counts + others / settings.alpha) ** settings.frequency_exponent
    return np.asarray(settings.regularization * scale / scale.mean())


@pytest.mark.parametrize("name", als_passes())
@settings(max_examples=12, deadline=None)
@given(
    d=st.sampled_from([1, 2, 15, 16, 17, 40]),
    n_items=st.integers(3, 60),
    alpha=st.sampled_from([0.3, 1.0, 40.0]),
    exponent=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_an_epoch_solves_the_items_normal_equations_and_knows_its_loss(
    name: str, d: int, n_items: int, alpha: float, exponent: float, seed: int
) -> None:
    use_als_pass(name)
    train = random_weights(35, n_items, 0.3, seed)
    options = AlsSettings(n_factors=d, alpha=alpha, regularization=2.0, frequency_exponent=exponent, seed=seed)
    als = Als(train, options)
    als.epoch()
    als.epoch(n_steps=60)
    x, y = als.user_factors.astype(np.float64), als.item_factors.astype(np.float64)
    c = alpha * train.toarray().astype(np.float64)
    ridges = ridge_of((c > 0).sum(axis=1), n_items, options), ridge_of((c > 0).sum(axis=0), 35, options)
    expected = exact_rows(c.T, x, ridges[1])
    np.testing.assert_allclose(y, expected, rtol=2e-3, atol=2e-4 * max(1e-3, np.abs(expected).max()))
    assert als.loss() == pytest.approx(dense_loss(c, x, y, ridges), rel=1e-4)
    assert (x[0] == 0).all()
    assert (y[-1] == 0).all()


@pytest.mark.parametrize("d", [5, 64, 130])
def test_the_loss_never_rises(d: int) -> None:
    als = Als(random_weights(80, 50, 0.2, 3), AlsSettings(n_factors=d, alpha=30.0, regularization=5.0))
    losses = []
    for _ in range(12):
        als.epoch()
        losses.append(als.loss())
    assert all(after <= before * (1 + 1e-6) for before, after in pairwise(losses))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", als_passes())
@pytest.mark.parametrize("d", [1, 33, 128])
def test_any_number_of_threads_gives_the_same_bits(name: str, d: int) -> None:
    use_als_pass(name)
    train = random_weights(700, 300, 0.05, 5)
    found = []
    for n_threads in (1, 2, 3, 7):
        als = Als(train, AlsSettings(n_factors=d, alpha=20.0, regularization=5.0, n_threads=n_threads, seed=9))
        als.epoch()
        als.epoch()
        found.append((als.user_factors.tobytes(), als.item_factors.tobytes(), als.loss()))
    assert found[1:] == found[:1] * 3


@pytest.mark.parametrize("d", [1, 3, 100, 511, 512])
def test_every_width_is_finite_and_deterministic(d: int) -> None:
    train = random_weights(20, 15, 0.4, 1)
    found = []
    for _ in range(2):
        als = Als(train, AlsSettings(n_factors=d, alpha=40.0, regularization=0.1, seed=2))
        als.epoch()
        assert als.user_factors.shape == (20, d)
        assert als.item_factors.shape == (15, d)
        assert np.isfinite(als.user_factors).all()
        found.append(als.item_factors.tobytes())
    assert found[0] == found[1]
    assert (
        found[0] != Als(train, AlsSettings(n_factors=d, alpha=40.0, regularization=0.1, seed=3)).item_factors.tobytes()
    )
