"""Which model: tried on a part held out of the training data; the test data is never seen here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models import BlendModel, GraphModel, IalsModel, Model, PopularityModel
from headrace_training.models.graph import add_scaled
from headrace_training.progress import say
from headrace_training.ranking import BLOCK_CELLS, accuracy, mask, top_k
from headrace_training.split import hold_out

MIN_USERS = 20
"""With fewer users to validate on, popularity is taken without a trial."""

MAX_USERS = 2500
MAX_PAIRS = 5_000_000
"""Trials use a sample of the users when there are more pairs than this."""

USER_EXPONENTS = (0.25, 0.5)
ITEM_EXPONENTS = ((0.5, 0.5), (0.6, 0.4), (0.5, 0.3), (0.4, 0.4))
IALS: tuple[dict[str, float], ...] = (
    {"alpha": 300.0, "regularization": 30.0, "user_exponent": 0.25, "item_exponent": 0.4},
    {"alpha": 100.0, "regularization": 30.0, "user_exponent": 0.25, "item_exponent": 0.25},
    {"alpha": 40.0, "regularization": 10.0, "user_exponent": 0.0, "item_exponent": 0.0},
)
BLEND_WEIGHTS = (0.5, 0.75, 1.0, 1.5, 2.0)


@dataclass
class Trials:
    """Validation recall@k of everything tried, best first when printed."""

    k: int
    scores: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, recall: float) -> float:
        self.scores[name] = recall
        say(f"  {name}: validation recall@{self.k} {recall:.4f}")
        return recall


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
        return self.recalls([model], lambda scores: scores)[0]

    def recalls(self, models: list[Model], mix: Callable[[list[Float32]], Iterable[Float32]]) -> list[float]:
        """Mean recall@k of each mixture of the models' scores."""
        parts = []
        for block in self._blocks():
            held = self.held[block]
            n_held = np.diff(held.indptr)
            mixtures = mix([model.scores(block) for model in models])
            ranked = (top_k(mask(scores, self.train[block]), self.k) for scores in mixtures)
            parts.append([accuracy(best, held, n_held).recall for best in ranked])
        return [float(np.concatenate(column).mean()) for column in zip(*parts, strict=True)]

    def _blocks(self) -> Iterator[Int32]:
        step = max(1, BLOCK_CELLS // max(1, self.train.shape[1]))
        for start in range(0, len(self.users), step):
            yield self.users[start : start + step]


def select_model(train: sp.csr_matrix, latest: sp.csr_matrix | None, k: int, seed: int) -> tuple[Model, Trials]:
    """The model with the best validation recall@k, not fitted yet, and what was tried."""
    trials = Trials(k)
    validation = Validation(train, latest, k, seed)
    if len(validation.users) < MIN_USERS:
        say(f"  {len(validation.users)} users to validate on, fewer than {MIN_USERS}: popularity is taken")
        return PopularityModel(), trials
    say(f"  selecting on {len(validation.users)} users and {validation.held.nnz} held-out pairs")
    popularity = PopularityModel()
    popularity.fit(validation.train)
    best: tuple[float, Model] = (trials.add("popularity", validation.recall(popularity)), popularity)
    graph, recall = _best_graph(validation, trials, seed)
    best = max(best, (recall, graph), key=lambda pair: pair[0])
    for parameters in IALS:
        ials = _ials(parameters, seed)
        ials.fit(validation.train)
        name = f"ials alpha {ials.trainer.alpha:g} exponents {ials.user_exponent:g}, {ials.item_exponent:g}"
        recalls = validation.recalls([graph, ials], _blends)
        found: list[tuple[float, Model]] = [(trials.add(name, recalls[0]), ials)]
        for weight, value in zip(BLEND_WEIGHTS, recalls[1:], strict=True):
            blend = BlendModel(ials_weight=weight, graph=graph, ials=ials)
            found.append((trials.add(f"blend of graph and {weight:g} {name}", value), blend))
        best = max(best, *found, key=lambda pair: pair[0])
    return best[1], trials


def _ials(parameters: dict[str, float], seed: int) -> IalsModel:
    return IalsModel(
        alpha=parameters["alpha"],
        regularization=parameters["regularization"],
        user_exponent=parameters["user_exponent"],
        item_exponent=parameters["item_exponent"],
        seed=seed,
    )


def _best_graph(validation: Validation, trials: Trials, seed: int) -> tuple[GraphModel, float]:
    best = None
    for user_exponent, (from_exponent, to_exponent) in product(USER_EXPONENTS, ITEM_EXPONENTS):
        model = GraphModel(user_exponent, from_exponent, to_exponent, low_pass=0.0, seed=seed)
        model.fit(validation.train)
        name = f"graph exponents {user_exponent:g}, {from_exponent:g}, {to_exponent:g}"
        recall = trials.add(name, validation.recall(model))
        if best is None or recall > best[1]:
            best = (model, recall)
    assert best is not None
    return best


def _blends(scores: list[Float32]) -> Iterator[Float32]:
    graph, ials = scores
    yield ials.copy()
    for weight in BLEND_WEIGHTS:
        yield add_scaled(graph.copy(), ials.copy(), weight)
