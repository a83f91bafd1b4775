"""The repeat-rhythm model: a person's own habits and what others take, weighed by what held-out baskets held."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize

from headrace.types import Float32, Float64, Int32, Int64
from headrace_training.baskets import Baskets
from headrace_training.kernels.choice import choice_loss
from headrace_training.models.associations import FEATURES as OTHERS
from headrace_training.models.associations import N_PERSONAL, Associations
from headrace_training.models.base import Parameters
from headrace_training.models.habits import FEATURES as OWN
from headrace_training.models.habits import Habits, Rates
from headrace_training.ranking import BLOCK_CELLS, top_k

WEIGHTS = OWN + OTHERS
N_CANDIDATES = 150
"""Items a person that the weights are learned from, the best by the prior. Adding those that the learned weights rank
high made held-out baskets likelier and the top ten worse, on Ta-Feng."""

MAX_LEARN_USERS = 5000
"""People from whose latest baskets the weights are learned; a seeded sample when there are more."""

PRIOR = {"own": 1.0, "share": 2.0, "recent_10": 0.5, "together": 1.0, "next": 1.0, "popular": 1.0}
"""The weights without any basket to learn from, those not named being 0."""

PRIOR_STRENGTH = 1.0
"""Of the squared distance from the prior, in people's baskets."""


@dataclass(frozen=True)
class Servable:
    """What a server needs to score pairs as the model does.

    weights   : of models.habits.FEATURES and models.associations.FEATURES, by name.
    rates     : how each item repeats.
    everybody : (n_items,) float32, the weighted part that is the same for all people.
    together, following : (n_items, n_items) CSR float32, from an item to others.
    """

    weights: dict[str, float]
    rates: Rates
    everybody: Float32
    together: sp.csr_matrix
    following: sp.csr_matrix


@dataclass
class _State:
    """What a history holds, ready to be scored."""

    habits: Habits
    rates: Rates
    own: Float32
    associations: Associations

    @classmethod
    def of(cls, baskets: Baskets) -> _State:
        habits = Habits.of(baskets)
        rates = habits.rates(baskets.n_items)
        return cls(habits, rates, habits.features(rates), Associations.of(baskets))

    def pairs(self, users: Int32) -> tuple[Int64, Int64, Int64]:
        """Row in ``users``, item and place of every stored pair of some people."""
        starts, lengths = self.habits.indptr[users], np.diff(self.habits.indptr)[users]
        rows = np.repeat(np.arange(len(users)), lengths)
        places = np.arange(len(rows)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        return rows, self.habits.items[places], places

    def scores(self, users: Int32, weights: Float64) -> Float32:
        own, others = weights[: len(OWN)].astype(np.float32), weights[len(OWN) :].astype(np.float32)
        everybody = np.zeros(self.associations.n_items, dtype=np.float32)
        for weight, row in zip(others[N_PERSONAL:], self.associations.everybody, strict=True):
            everybody += weight * row
        out = np.tile(everybody, (len(users), 1))
        for weight, part in zip(others[:N_PERSONAL], self.associations.personal(users), strict=True):
            part *= weight
            out += part
        rows, items, places = self.pairs(users)
        # summed by columns: a product of matrices may add in another order with other numbers of threads
        out[rows, items] += (self.own[places] * own).sum(axis=1)
        return out

    def features(self, users: Int32, candidates: Int32) -> Float32:
        """WEIGHTS' features of (len(users), m) candidates, -1 for none; (len(users), m, len(WEIGHTS)) float32."""
        safe = np.maximum(candidates, 0)
        out = np.zeros((*candidates.shape, len(WEIGHTS)), dtype=np.float32)
        places = np.full((len(users), self.associations.n_items), -1, dtype=np.int64)
        rows, items, at = self.pairs(users)
        places[rows, items] = at
        of_candidate = np.take_along_axis(places, safe, axis=1)
        mine = of_candidate >= 0
        out[mine, : len(OWN)] = self.own[of_candidate[mine]]
        for number, part in enumerate(self.associations.personal(users)):
            out[:, :, len(OWN) + number] = np.take_along_axis(part, safe, axis=1)
        out[:, :, len(OWN) + N_PERSONAL :] = self.associations.everybody.T[safe]
        return out


@dataclass
class RhythmModel:
    """Scores = weights · features, the weights learned from everybody's latest basket given those before.

    The loss is the conditional logit over each person's candidates, a person's basket counting 1 whatever its size;
    then all features are taken from the whole history. With nothing to learn from the weights are the prior's.
    """

    seed: int = 0
    name: str = field(default="rhythm", init=False)
    _weights: Float64 = field(default_factory=lambda: _prior(), init=False)
    _state: _State | None = field(default=None, init=False)

    @property
    def parameters(self) -> Parameters:
        return {f"weight_{name}": float(value) for name, value in zip(WEIGHTS, self._weights, strict=True)}

    @property
    def n_items(self) -> int:
        return 0 if self._state is None else self._state.associations.n_items

    def fit(self, train: Baskets) -> None:
        self._weights = learn_weights(train, self.seed)
        self._state = _State.of(train)

    def scores(self, users: Int32) -> Float32:
        assert self._state is not None
        step = self._state.associations.block_rows
        blocks = [users[start : start + step] for start in range(0, len(users), step)]
        empty = np.empty((0, self.n_items), dtype=np.float32)
        return np.concatenate([empty, *(self._state.scores(block, self._weights) for block in blocks)])

    def servable(self) -> Servable:
        """The parameters that a server applies to its own counts and times."""
        assert self._state is not None
        associations = self._state.associations
        weights = dict(zip(WEIGHTS, self._weights.tolist(), strict=True))
        shared = self._weights[len(OWN) + N_PERSONAL :] @ associations.everybody
        return Servable(
            weights, self._state.rates, shared.astype(np.float32), associations.together, associations.following
        )


def learn_weights(train: Baskets, seed: int) -> Float64:
    """The weights under which held-out baskets are likeliest, drawn to the prior; (len(WEIGHTS),) float64."""
    before, latest = train.split_last()
    users = np.flatnonzero(latest.n_baskets).astype(np.int32)
    if not len(users):
        return _prior()
    if len(users) > MAX_LEARN_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MAX_LEARN_USERS, replace=False))
    examples = _examples(_State.of(before), latest, users)
    prior, gradient = _prior(), np.empty(len(WEIGHTS))

    def loss(weights: Float64) -> tuple[float, Float64]:
        value = choice_loss(*examples, weights, gradient)
        away = weights - prior
        return value + PRIOR_STRENGTH * float((away * away).sum()), gradient + 2 * PRIOR_STRENGTH * away

    return np.asarray(minimize(loss, prior, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x)


def _examples(state: _State, latest: Baskets, users: Int32) -> tuple[Float32, Float32, Int64]:
    """Features (n, m, f), share of the basket (n, m) and number (n,) of each person's candidates."""
    held, sizes = latest.counts(), np.diff(latest.counts().indptr)
    parts = []
    step = state.associations.block_rows
    for start in range(0, len(users), step):
        block = users[start : start + step]
        candidates = top_k(state.scores(block, _prior()), N_CANDIDATES)
        taken = np.take_along_axis(held[block].toarray(), np.maximum(candidates, 0), axis=1)
        wanted = (taken * (candidates >= 0) / sizes[block][:, None]).astype(np.float32)
        parts.append((state.features(block, candidates), wanted, (candidates >= 0).sum(axis=1)))
    features, wanted, counts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return features, wanted, counts.astype(np.int64)


def rhythm_memory_bytes(train: Baskets) -> int:
    """What a fit takes at most: links between the items of each person, features of pairs, candidates and blocks."""
    pairs = np.diff(train.counts().indptr).astype(np.int64)
    links = min(int((pairs * pairs).sum()), train.n_items**2)
    examples = min(train.n_users, MAX_LEARN_USERS) * N_CANDIDATES * len(WEIGHTS)
    return 40 * links + 8 * examples + int(pairs.sum()) * (100 + 8 * len(OWN)) + 16 * BLOCK_CELLS


def _prior() -> Float64:
    return np.array([PRIOR.get(name, 0.0) for name in WEIGHTS])
