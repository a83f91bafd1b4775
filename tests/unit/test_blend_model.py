"""The blend, what serves it, how its weights are learned, and what `auto` makes of all that."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError
from headrace.types import Float32, Int32
from headrace_training import mixture
from headrace_training.mixture import Candidates, Mixture, choose, climb, collect, learn, likeliest
from headrace_training.models import BlendModel, GraphModel, IalsModel, LinearModel, PopularityModel, make_model
from headrace_training.models.blend import strongest
from headrace_training.ranking import accuracy, rank_users
from headrace_training.select import Validation, select_model

SMALL = {"n_factors": 8, "iterations": 3, "alpha": 5.0, "regularization": 2.0}


def clusters(n_users: int = 90, n_items: int = 40, seed: int = 0) -> sp.csr_matrix:
    """Users of three kinds who take items of their kind, mostly."""
    rng = np.random.default_rng(seed)
    near = np.arange(n_users)[:, None] % 3 == np.arange(n_items) % 3
    return sp.csr_matrix((rng.random((n_users, n_items)) < np.where(near, 0.5, 0.03)).astype(np.float32))


def blend(**weights: float) -> BlendModel:
    return BlendModel(**weights, linear=LinearModel(10), ials=IalsModel(**SMALL), seed=3)


class Fixed:
    """Scores that are given."""

    name = "fixed"
    parameters: dict[str, str | int | float | bool | None] = {}  # noqa: RUF012

    def __init__(self, scores: Float32) -> None:
        self.given = scores

    @property
    def n_items(self) -> int:
        return self.given.shape[1]

    def fit(self, train: sp.csr_matrix) -> None: ...

    def scores(self, users: Int32) -> Float32:
        return self.given[users].copy()


def test_scores_are_the_weighted_sum_of_scores_over_their_spread() -> None:
    train = clusters()
    model = blend(linear_weight=0.7, graph_weight=0.2, ials_weight=1.5, length_exponent=0.5)
    model.fit(train)
    users = np.arange(90, dtype=np.int32)
    lengths = train.toarray().sum(axis=1, keepdims=True)
    parts = {name: member.scores(users).astype(np.float64) for name, member in model.members.items()}
    spreads = {name: part.std(axis=1).mean() for name, part in parts.items()}
    expected = (
        0.7 * parts["linear"] / spreads["linear"]
        + 0.2 * parts["graph"] / spreads["graph"]
        + 1.5 * lengths**0.5 * parts["ials"] / spreads["ials"]
    )
    np.testing.assert_allclose(model.scores(users), expected, rtol=1e-3, atol=1e-4)


def test_a_model_of_weight_zero_is_not_fitted() -> None:
    model = blend(linear_weight=1.0, ials_weight=0.0)
    model.fit(clusters())
    assert list(model.members) == ["linear"]
    assert not model.ials.item_factors.size
    assert "ials.alpha" not in model.parameters


@pytest.mark.parametrize("weight", [0.0, np.inf, np.nan])
def test_weights_that_are_no_weights_are_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="weights of the blend"):
        BlendModel(linear_weight=weight, ials_weight=0.0)


def test_parameters_make_the_same_blend_again() -> None:
    first = blend(linear_weight=0.5, graph_weight=-0.1, ials_weight=1.0, length_exponent=0.25)
    second = make_model("blend", 3, first.parameters)
    assert second.parameters == first.parameters


def test_what_is_served_scores_as_the_model_does() -> None:
    train = clusters()
    model = BlendModel(0.7, 0.3, 1.5, 0.5, linear=LinearModel(10), ials=IalsModel(**{**SMALL, "iterations": 60}))
    model.fit((train * 2).tocsr())
    served = model.servable(40)
    history = train.toarray().astype(np.float64) * 2
    sums = history.sum(axis=1, keepdims=True)
    confidence = history * served.item_confidence * sums**-served.user_exponent
    y = served.fold_factors.astype(np.float64)
    users = []
    for row in confidence:
        left = y.T @ (y * np.where(row > 0, row, 1.0)[:, None]) + served.regularization * np.eye(8)
        users.append(np.linalg.solve(left, y.T @ row))
    factors = sums**served.length_exponent * (np.array(users) @ served.item_factors.T)
    expected = model.scores(np.arange(90, dtype=np.int32))
    np.testing.assert_allclose(history @ served.links + factors, expected, rtol=0.0, atol=0.03 * expected.std())


def test_what_is_served_keeps_the_strongest_links() -> None:
    matrix = sp.csr_matrix(np.array([[0.5, -2.0, 1.0, -1.0], [0, 0, 3.0, 0]], dtype=np.float32))
    assert strongest(matrix, 2).toarray().tolist() == [[0, -2.0, 1.0, 0], [0, 0, 3.0, 0]]
    model = blend()
    model.fit(clusters())
    assert np.diff(model.servable(5).links.indptr).max() == 5


def first_item(n_users: int) -> sp.csr_matrix:
    """Everybody took the first of 60 items."""
    return sp.csr_matrix((np.ones(n_users, np.float32), (np.arange(n_users), np.zeros(n_users, int))), (n_users, 60))


def fixed_candidates(seed: int = 0, n_users: int = 200) -> tuple[Candidates, sp.csr_matrix, list[Fixed]]:
    """Two models with different halves of what decides, and one of noise."""
    rng = np.random.default_rng(seed)
    first, second, noise = (rng.standard_normal((n_users, 60)).astype(np.float32) for _ in range(3))
    wish = first + 0.5 * second + 0.5 * rng.standard_normal((n_users, 60))
    held = sp.csr_matrix((wish >= np.sort(wish, axis=1)[:, -5:-4]).astype(np.float32))
    train = first_item(n_users)
    models = [Fixed(scores) for scores in (first, second, noise)]
    return collect(models, train, held, np.arange(n_users, dtype=np.int32)), held, models


def test_candidates_rank_as_the_whole_catalogue_does() -> None:
    candidates, held, models = fixed_candidates()
    weights = np.array([1.0, 0.4, -0.2])
    found = Mixture(weights, np.zeros(3)).accuracy(candidates, 10)
    mixed = Fixed(
        sum(w * model.given / model.given.std(axis=1).mean() for w, model in zip(weights, models, strict=True))
    )
    ranked = rank_users(mixed, np.arange(200, dtype=np.int32), 10, first_item(200))
    assert found == pytest.approx(accuracy(ranked, held, np.diff(held.indptr)).means)


def test_the_likeliest_weights_leave_no_gradient() -> None:
    candidates, _, _ = fixed_candidates()
    used = np.array([True, True, False])
    weights = likeliest(candidates, np.zeros(3), used)
    assert weights[2] == 0.0
    features = candidates.scores.astype(np.float64)[:, :, :2]

    def likelihood(at: np.ndarray) -> float:
        logits = np.where(candidates.items >= 0, features @ at, -np.inf)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        here = candidates.relevant.any(axis=1)
        return float(sum(logs[row][candidates.relevant[row]].mean() for row in np.flatnonzero(here)))

    for move in ([0.05, 0], [-0.05, 0], [0, 0.05], [0, -0.05]):
        assert likelihood(weights[:2] + move) < likelihood(weights[:2])


def test_learned_weights_beat_each_model_and_steps_never_lose() -> None:
    candidates, _, _ = fixed_candidates()
    found = choose(candidates, 10, [False, False, False])
    assert found.weights[2] == 0.0
    assert 0.2 < found.weights[1] / found.weights[0] < 0.9
    singles = [Mixture(np.eye(3)[model], np.zeros(3)).quality(candidates, 10) for model in range(3)]
    assert found.quality(candidates, 10) > max(singles)
    start = Mixture(np.ones(3), np.zeros(3))
    assert climb(start, candidates, 10).quality(candidates, 10) >= start.quality(candidates, 10)


def test_equal_scores_and_users_without_a_found_item_harm_no_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "DEPTH", 2)
    equal, other = Fixed(np.full((30, 9), 3.0, np.float32)), Fixed(np.tile(np.arange(9, dtype=np.float32), (30, 1)))
    held = sp.csr_matrix((np.ones(30, np.float32), (np.arange(30), np.full(30, 4))), shape=(30, 9))
    nothing = sp.csr_matrix((30, 9), dtype=np.float32)
    candidates = collect([equal, other], nothing, held, np.arange(30, dtype=np.int32))
    assert np.isfinite(candidates.scores).all()
    assert not candidates.relevant.any()
    assert np.isfinite(learn(candidates, 3, np.zeros(2), (0, 1)).weights).all()


def test_auto_finds_more_than_popularity_and_the_same_twice() -> None:
    train = clusters(120, 45)
    model, trials = select_model(train, None, 5, seed=1)
    again, _ = select_model(train, None, 5, seed=1)
    assert model.parameters == again.parameters
    assert max(trials.scores.values()) > trials.scores["popularity"]
    assert not isinstance(model, PopularityModel)
    model.fit(train)
    assert np.isfinite(model.scores(np.arange(120, dtype=np.int32))).all()


def test_an_empty_validation_part_leaves_popularity() -> None:
    train = sp.csr_matrix(np.eye(50, dtype=np.float32))
    assert len(Validation(train, None, 5, 0).users) == 0
    assert isinstance(select_model(train, None, 5, 0)[0], PopularityModel)


def test_the_graph_is_a_part_when_it_has_a_weight() -> None:
    model = BlendModel(0.0, 1.0, 0.0, graph=GraphModel(low_pass=0.0))
    model.fit(clusters())
    assert list(model.members) == ["graph"]
    assert model.servable(3).item_factors.shape == (40, 0)
