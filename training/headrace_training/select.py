"""Which model: tried on a part held out of the training data; the test data is never seen here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace_training.memory import require_for_fit
from headrace_training.mixture import Mixture, choose, collect
from headrace_training.models import BlendModel, GraphModel, IalsModel, LinearModel, Model, PopularityModel
from headrace_training.models.linear import MAX_EXACT_ITEMS
from headrace_training.progress import say
from headrace_training.ranking import Accuracy, accuracy, rank_users
from headrace_training.split import hold_out

MIN_USERS = 20
"""With fewer users to validate on, popularity is taken without a trial."""

MAX_USERS = 2500
MAX_PAIRS = 5_000_000
"""Trials use a sample of the users when there are more pairs than this."""

Values = Mapping[str, Any]
Moves = Sequence[tuple[str, Sequence[float]]]

GRAPHS: tuple[Values, ...] = (
    {"user_exponent": 0.25, "from_exponent": 0.6, "to_exponent": 0.3},
    {"user_exponent": 0.25, "from_exponent": 0.5, "to_exponent": 0.5},
    {"user_exponent": 0.5, "from_exponent": 0.5, "to_exponent": 0.5},
)
LINEAR_MOVES: Moves = (("penalty", (40.0, 400.0)), ("to_exponent", (0.0, 0.25)), ("user_exponent", (0.0,)))
IALS: tuple[Values, ...] = (
    {"alpha": 300.0, "regularization": 30.0, "user_exponent": 0.25, "item_exponent": 0.4},
    {"alpha": 100.0, "regularization": 30.0, "user_exponent": 0.25, "item_exponent": 0.25},
    {"alpha": 40.0, "regularization": 10.0, "user_exponent": 0.0, "item_exponent": 0.0},
)

REGULARIZATION_SCALES = (0.5, 2.0)


@dataclass
class Trials:
    """Validation recall@k of everything tried."""

    k: int
    scores: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, recall: float, ndcg: float) -> None:
        self.scores[name] = recall
        say(f"  {name}: validation recall@{self.k} {recall:.4f}, ndcg@{self.k} {ndcg:.4f}")


class Validation:
    """One held-out part and the users measured on it."""

    def __init__(self, train: sp.csr_matrix, latest: sp.csr_matrix | None, k: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        if train.nnz > MAX_PAIRS:
            some = np.sort(rng.permutation(train.shape[0])[: int(train.shape[0] * MAX_PAIRS / train.nnz)])
            train, latest = train[some], None if latest is None else latest[some]
        self.train, self.held = hold_out(train, seed, latest)
        users = np.flatnonzero(np.diff(self.held.indptr)).astype(np.int32)
        self.users = np.sort(rng.permutation(users)[:MAX_USERS])
        self.k = k

    def recall(self, model: Model) -> float:
        """Mean recall@k of a fitted model."""
        return self.measure(model).means[0]

    def measure(self, model: Model) -> Accuracy:
        """Accuracy of a fitted model."""
        held = self.held[self.users]
        return accuracy(rank_users(model, self.users, self.k, self.train), held, np.diff(held.indptr))


@dataclass
class Selection:
    """Trials under way: every model is fitted on the validation's training part and measured on the rest."""

    validation: Validation
    trials: Trials

    def try_model(self, model: Model, name: str) -> float:
        """Fit and measure; returns the mean of recall@k and ndcg@k."""
        require_for_fit(model, self.validation.train)
        model.fit(self.validation.train)
        recall, ndcg = self.validation.measure(model).means
        self.trials.add(name, recall, ndcg)
        return (recall + ndcg) / 2

    def best_of(self, maker: Callable[..., Model], settings: Iterable[Values]) -> tuple[Model, float]:
        """The best of some settings."""
        found = []
        for values in settings:
            model = maker(**values)
            found.append((model, self.try_model(model, _describe(model, values))))
        return max(found, key=lambda pair: pair[1])

    def climb(self, maker: Callable[..., Model], moves: Moves) -> tuple[Model, float]:
        """The best found when one parameter after the other is tried at some values, the rest being the best so far."""
        values: Values = {}
        best = self.best_of(maker, [values])
        for name, options in moves:
            found = self.best_of(maker, [{**values, name: option} for option in options])
            if found[1] > best[1]:
                best = found
                values = {**values, name: found[0].parameters[name]}
        return best

    def blend(self, members: Mapping[str, Model], seed: int) -> Model:
        """The best of the fitted models and their mixtures."""
        validation = self.validation
        models = list(members.values())
        candidates = collect(models, validation.train, validation.held, validation.users)
        mixture = choose(candidates, validation.k, [name == "ials" for name in members])
        weights = {name: float(weight) for name, weight in zip(members, mixture.weights, strict=True) if weight}
        if len(weights) == 1:
            return members[next(iter(weights))]
        shares = ", ".join(f"{name} {weight:.3g}" for name, weight in weights.items())
        self.trials.add(f"blend of {shares}", *mixture.accuracy(candidates, validation.k))
        return make_blend(members, mixture, seed)


def make_blend(members: Mapping[str, Any], mixture: Mixture, seed: int) -> BlendModel:
    """The model of a mixture, its largest weight 1."""
    size = float(np.abs(mixture.weights).max())
    shares = zip(members, mixture.weights, strict=True)
    weights: dict[str, Any] = {f"{name}_weight": float(weight) / size for name, weight in shares}
    return BlendModel(**weights, length_exponent=float(mixture.exponents.max()), **members, seed=seed)


def select_model(train: sp.csr_matrix, latest: sp.csr_matrix | None, k: int, seed: int) -> tuple[Model, Trials]:
    """The model with the best validation recall@k and ndcg@k, to be fitted anew, and what was tried."""
    trials = Trials(k)
    validation = Validation(train, latest, k, seed)
    if len(validation.users) < MIN_USERS:
        say(f"  {len(validation.users)} users to validate on, fewer than {MIN_USERS}: popularity is taken")
        return PopularityModel(), trials
    say(f"  selecting on {len(validation.users)} users and {validation.held.nnz} held-out pairs")
    selection = Selection(validation, trials)
    popularity = PopularityModel()
    floor = selection.try_model(popularity, popularity.name)
    moves = LINEAR_MOVES
    if train.shape[1] <= MAX_EXACT_ITEMS:
        moves = (("n_neighbours", (0,)), *moves)
    found = {
        "linear": selection.climb(LinearModel, moves),
        "graph": selection.best_of(lambda **values: GraphModel(**values, low_pass=0.0, seed=seed), GRAPHS),
        "ials": _best_ials(selection, seed),
    }
    if max(quality for _, quality in found.values()) <= floor:
        return popularity, trials
    return selection.blend({name: model for name, (model, _) in found.items()}, seed), trials


def _best_ials(selection: Selection, seed: int) -> tuple[Model, float]:
    """The best of a few kinds of weights, then of more or less regularization of it."""

    def maker(**values: Any) -> Model:
        return IalsModel(**values, seed=seed)

    best = selection.best_of(maker, IALS)
    values = {name: best[0].parameters[name] for name in IALS[0]}
    regularization = float(values["regularization"] or 0.0)
    near = [{**values, "regularization": scale * regularization} for scale in REGULARIZATION_SCALES]
    return max(best, selection.best_of(maker, near), key=lambda pair: pair[1])


def _describe(model: Model, values: Values) -> str:
    settings = ", ".join(f"{name} {value:g}" for name, value in values.items())
    return f"{model.name} {settings}" if settings else model.name
