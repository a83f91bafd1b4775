"""The linear item-item model against the dense normal equations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError, HeadraceError
from headrace.types import Float32, Float64
from headrace_training import parallel
from headrace_training.models import LinearModel
from headrace_training.models.base import largest_product
from headrace_training.models.linear import exact, nearest

USERS = np.arange(60, dtype=np.int32)


def interactions(n_users: int = 60, n_items: int = 25, seed: int = 0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    matrix = sp.random(n_users, n_items, 0.2, format="csr", dtype=np.float32, random_state=rng)
    matrix.data[:] = rng.integers(1, 4, matrix.nnz)
    return matrix


def dense_ridges(train: sp.csr_matrix, support: Float64, user_exponent: float, penalty: float, own: float) -> Float64:
    """Every item's ridge on its support, solved one by one with LAPACK in float64."""
    x = train.toarray().astype(np.float64)
    sums = x.sum(axis=1)
    weights = np.where(sums > 0, np.maximum(sums, 1e-9) ** (-2 * user_exponent), 0.0)
    gram = x.T @ (weights[:, None] * x)
    penalties = penalty * gram.trace() / train.nnz + own * gram.diagonal()
    found = np.zeros_like(gram)
    for item in range(len(gram)):
        rows = np.flatnonzero(support[item])
        found[rows, item] = np.linalg.solve(gram[np.ix_(rows, rows)] + np.diag(penalties[rows]), gram[rows, item])
    return found


def test_each_item_is_its_ridge_on_its_nearest_items() -> None:
    train = interactions()
    model = LinearModel(6, user_exponent=0.3, penalty=4.0, relative_penalty=0.5, to_exponent=0.0, n_steps=30)
    model.fit(train)
    x = train.toarray().astype(np.float64)
    sums, counts = x.sum(axis=1), x.sum(axis=0)
    weights = np.where(sums > 0, np.maximum(sums, 1e-9) ** -0.6, 0.0)
    cosine = (x.T * weights) @ x * np.maximum(counts, 1e-9) ** -0.5
    np.fill_diagonal(cosine, 0.0)
    support = cosine >= np.sort(cosine, axis=1)[:, -6:-5]
    support &= cosine > 0
    expected = x @ dense_ridges(train, support, 0.3, 4.0, 0.5)
    np.testing.assert_allclose(model.scores(USERS), expected, rtol=2e-4, atol=2e-5)


def test_without_a_limit_of_neighbours_it_is_ease() -> None:
    train = interactions()
    model = LinearModel(0, user_exponent=0.2, penalty=4.0, relative_penalty=0.5, to_exponent=0.0)
    model.fit(train)
    everything = ~np.eye(25, dtype=bool)
    expected = train.toarray() @ dense_ridges(train, everything, 0.2, 4.0, 0.5)
    np.testing.assert_allclose(model.scores(USERS), expected, rtol=2e-4, atol=2e-5)


def test_the_scale_of_the_weights_changes_nothing_but_the_scale() -> None:
    train = interactions()
    one, other = LinearModel(10), LinearModel(10)
    one.fit(train)
    other.fit((train * 8).tocsr().astype(np.float32))
    first, second = one.scores(USERS), other.scores(USERS)
    np.testing.assert_allclose(second / second.std(), first / first.std(), rtol=1e-3, atol=1e-4)


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    train = interactions(300, 700)
    found = []
    for cores in ({0}, {0, 1, 2, 3}):
        monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda _, cores=cores: cores)
        model = LinearModel(20)
        model.fit(train)
        found.append(model.scores(USERS))
    assert np.array_equal(found[0], found[1])


def test_an_item_nobody_took_a_user_with_one_and_one_with_all() -> None:
    dense = np.zeros((5, 4), dtype=np.float32)
    dense[0, :3], dense[1, 0], dense[2, :2], dense[4, 1:3] = 1, 1, 1, 1
    for n_neighbours in (2, 0):
        model = LinearModel(n_neighbours)
        model.fit(sp.csr_matrix(dense))
        scores = model.scores(np.arange(5, dtype=np.int32))
        assert np.isfinite(scores).all()
        assert not scores[:, 3].any()
        assert not scores[3].any()
        assert scores[1, 1] > scores[1, 0]


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="penalty"):
        LinearModel(penalty=0.0)
    with pytest.raises(ConfigError, match="n_neighbours"):
        exact(np.broadcast_to(np.float32(0), (10_001, 10_001)), np.ones(10_001, dtype=np.float32))
    with pytest.raises(HeadraceError, match="no solution"):
        exact(np.array([[1, 2], [2, 1]], dtype=np.float32), np.zeros(2, dtype=np.float32))


def largest_by_sorting(dense: Float32, width: int) -> Float32:
    kept = np.zeros_like(dense)
    for row, values in enumerate(dense):
        best = sorted(np.flatnonzero(values > 0), key=lambda column: (-values[column], column))[:width]
        kept[row, best] = values[best]
    return kept


@pytest.mark.parametrize("width", [1, 3, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_largest_product_is_the_sorted_product(width: int, seed: int) -> None:
    left, right = interactions(30, 12, seed), interactions(12, 20, seed + 10)
    found = largest_product(left, right, width)
    dense = (left @ right).toarray()
    assert np.array_equal(found.toarray(), largest_by_sorting(dense, width))
    assert found.has_sorted_indices
    assert largest_product(left[:0], right, width).shape == (0, 20)


def test_nearest_leaves_the_diagonal_out() -> None:
    gram = sp.csr_matrix(np.array([[9, 1, 2], [1, 9, 3], [2, 3, 9]], dtype=np.float32))
    assert nearest(gram, sp.identity(3, dtype=np.float32, format="csr"), 1).toarray().tolist() == [
        [0, 0, 2],
        [0, 0, 3],
        [0, 3, 0],
    ]
