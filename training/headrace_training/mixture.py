"""Weights of several models' scores, learned on held-out items of part of the users and checked on the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.types import Bool, Float32, Float64, Int32
from headrace_training.kernels.topk import select_top
from headrace_training.models.base import Model
from headrace_training.models.blend import history_lengths
from headrace_training.ranking import BLOCK_CELLS, mask, top_k

DEPTH = 150
"""Best items of each model that are ranked again."""

STEPS = (0.5, 0.2, 0.1)
"""Changes of a weight that the last search tries, as shares of it."""

EXPONENTS = (0.0, 0.25, 0.5)
"""Powers of the history's weight that are tried for models whose scores do not grow with it."""

MARGIN = 0.002
"""Share by which a further model has to raise the quality."""

NEWTON_STEPS = 20
HALVINGS = 12
RIDGE = 1e-3


@dataclass(frozen=True)
class Candidates:
    """What any of the models puts among its best for a user, with the scores of all models.

    items    : (n_users, width) int32 in ascending order, -1 from the last on.
    scores   : (n_users, width, n_models) float32, a model's divided by its mean spread.
    relevant : (n_users, width) bool.   n_relevant : (n_users,) held-out items, those that no model finds included.
    lengths  : (n_users,) float64, by models.blend.history_lengths.
    """

    items: Int32
    scores: Float32
    relevant: Bool
    n_relevant: Int32
    lengths: Float64

    def of(self, users: Bool) -> Candidates:
        """The same of some users."""
        return Candidates(
            self.items[users],
            self.scores[users],
            self.relevant[users],
            self.n_relevant[users],
            self.lengths[users],
        )


def collect(models: Sequence[Model], train: sp.csr_matrix, held: sp.csr_matrix, users: Int32) -> Candidates:
    """Candidates of users with held-out items; no item of a user's row in train is among them."""
    step = max(1, BLOCK_CELLS // max(1, train.shape[1]))
    blocks = [_collect_block(models, train, users[at : at + step]) for at in range(0, len(users), step)]
    width = max(items.shape[1] for items, _, _ in blocks)
    items = np.concatenate([_widen(items, width, -1) for items, _, _ in blocks])
    scores = np.concatenate([_widen(scores, width, 0) for _, scores, _ in blocks])
    spreads = np.concatenate([spread for _, _, spread in blocks]).mean(axis=0)
    scores /= np.where(spreads > 0, spreads, 1.0).astype(np.float32)
    wanted = held[users]
    rows = np.repeat(np.arange(len(users)), width)
    relevant = np.asarray(wanted.astype(bool)[rows, np.maximum(items, 0).ravel()]).reshape(items.shape) & (items >= 0)
    n_relevant = np.diff(wanted.indptr).astype(np.int32)
    return Candidates(items, scores, relevant, n_relevant, history_lengths(train)[users])


def _collect_block(models: Sequence[Model], train: sp.csr_matrix, users: Int32) -> tuple[Int32, Float32, Float64]:
    blocks = [model.scores(users) for model in models]
    spreads = np.stack([block.std(axis=1, dtype=np.float64) for block in blocks], axis=1)
    taken = train[users]
    found = np.concatenate([top_k(mask(block, taken), DEPTH) for block in blocks], axis=1)
    # ascending, each once, the empty places last
    found = np.sort(np.where(found < 0, np.iinfo(np.int32).max, found), axis=1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = np.iinfo(np.int32).max
    found.sort(axis=1)
    found[found == np.iinfo(np.int32).max] = -1
    found = found[:, : max(1, int((found >= 0).sum(axis=1).max(initial=0)))]
    safe = np.maximum(found, 0)
    scores = np.stack([np.take_along_axis(block, safe, axis=1) for block in blocks], axis=2)
    scores[found < 0] = 0.0
    return found, scores, spreads


def _widen(block: Any, width: int, filler: int) -> Any:
    padding = [(0, 0), (0, width - block.shape[1]), *[(0, 0)] * (block.ndim - 2)]
    return np.pad(block, padding, constant_values=filler)


@dataclass(frozen=True)
class Mixture:
    """A score is Σ weight · length ** exponent · score / spread; weights and exponents (n_models,) float64."""

    weights: Float64
    exponents: Float64

    def scores(self, candidates: Candidates) -> Float32:
        """Of all candidates, -inf where there is none; (n_users, width) float32."""
        scale = self.weights * candidates.lengths[:, None] ** self.exponents
        scores = np.einsum("uim,um->ui", candidates.scores, scale.astype(np.float32), optimize=True)
        scores[candidates.items < 0] = -np.inf
        return np.asarray(scores, dtype=np.float32)

    def quality(self, candidates: Candidates, k: int) -> float:
        """Mean of recall@k and ndcg@k over users."""
        return sum(self.accuracy(candidates, k)) / 2

    def accuracy(self, candidates: Candidates, k: int) -> tuple[float, float]:
        """recall@k and ndcg@k, means over users."""
        return _accuracy(self.scores(candidates), candidates, k)


def _accuracy(scores: Float32, candidates: Candidates, k: int) -> tuple[float, float]:
    places = np.full((len(scores), k), -1, dtype=np.int32)
    select_top(scores, places)
    hits = np.take_along_axis(candidates.relevant, np.maximum(places, 0), axis=1) & (places >= 0)
    gains = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[1.0], np.cumsum(gains)])[np.minimum(candidates.n_relevant, k)]
    recall = hits.sum(axis=1) / np.maximum(candidates.n_relevant, 1)
    return float(recall.mean()), float(((hits * gains).sum(axis=1) / ideal).mean())


def choose(candidates: Candidates, k: int, factors: Sequence[bool]) -> Mixture:
    """The models and weights that rank best on users whom the weights were not learned on, then learned on all users.

    A model more must gain MARGIN, so that chance does not add what serving has to pay for.

    factors : for each model whether its scores do not grow with the history; such a model's exponent is chosen too.
    """
    fold = np.arange(len(candidates.items)) % 2 == 0
    best, best_quality = np.zeros(len(factors)), -1.0
    chosen: tuple[int, ...] = ()
    for models in _subsets(len(factors)):
        for exponent in EXPONENTS if len(models) > 1 and any(factors[model] for model in models) else (0.0,):
            exponents = np.where(factors, exponent, 0.0)
            learned = [learn(candidates.of(half), k, exponents, models) for half in (fold, ~fold)]
            quality = (learned[0].quality(candidates.of(~fold), k) + learned[1].quality(candidates.of(fold), k)) / 2
            if quality > best_quality * (1 + MARGIN * (len(models) > len(chosen))):
                best, best_quality, chosen = exponents, quality, models
    return learn(candidates, k, best, chosen)


def _subsets(n_models: int) -> Iterator[tuple[int, ...]]:
    """All but the empty one, small ones first."""
    for size in range(1, n_models + 1):
        yield from combinations(range(n_models), size)


def learn(candidates: Candidates, k: int, exponents: Float64, models: tuple[int, ...]) -> Mixture:
    """Weights of some of the models: steps that raise recall@k and ndcg@k, from likeliest and from equal weights."""
    used = np.isin(np.arange(len(exponents)), models)
    if len(models) == 1:
        return Mixture(used.astype(np.float64), np.zeros(len(exponents)))
    starts = [likeliest(candidates, exponents, used), used.astype(np.float64)]
    found = [climb(Mixture(weights, exponents), candidates, k) for weights in starts]
    return max(found, key=lambda mixture: mixture.quality(candidates, k))


def likeliest(candidates: Candidates, exponents: Float64, used: Bool) -> Float64:
    """Weights that maximise Σ_u mean over the user's found items of log softmax(score), by Newton's method.

    Those of models that are not used are 0. A user's scores compete with each other: the listwise loss of Xia et al.,
    ICML 2008, section 4.2.
    """
    here = candidates.relevant.any(axis=1)
    scale = used * candidates.lengths[here, None] ** exponents
    features = candidates.scores[here] * scale[:, None, :].astype(np.float32)
    wanted = candidates.relevant[here] / candidates.relevant[here].sum(axis=1, keepdims=True)
    there = candidates.items[here] >= 0
    target = np.einsum("ui,uim->m", wanted, features)
    weights = np.zeros(features.shape[2])
    likelihood, share = _softmax(weights, features, there, target)
    for _ in range(NEWTON_STEPS):
        means = np.einsum("ui,uim->um", share, features)
        squares = np.tensordot(features * share[:, :, None], features, axes=([0, 1], [0, 1])) - means.T @ means
        gradient = target - means.sum(axis=0) - RIDGE * weights
        step = np.linalg.solve(squares + RIDGE * np.eye(len(weights)), gradient)
        for halving in 0.5 ** np.arange(HALVINGS):
            found, near = _softmax(weights + halving * step, features, there, target)
            if found > likelihood:
                break
        else:
            break
        weights, likelihood, share = weights + halving * step, found, near
    return weights


def _softmax(weights: Float64, features: Float32, there: Bool, target: Float64) -> tuple[float, Float32]:
    """Penalised log-likelihood of the weights, and the softmax of each user's scores."""
    logits = np.where(there, features @ weights.astype(np.float32), -np.inf)
    top = logits.max(axis=1, keepdims=True)
    share = np.exp(logits - top)
    sums = share.sum(axis=1, keepdims=True)
    share /= sums
    normal = float((np.log(sums) + top).sum(dtype=np.float64))
    return float(weights @ target) - normal - 0.5 * RIDGE * float(weights @ weights), share


def climb(mixture: Mixture, candidates: Candidates, k: int) -> Mixture:
    """Change one weight at a time as long as recall@k and ndcg@k together rise."""
    best = mixture.quality(candidates, k)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for near in _neighbours(mixture, step):
                quality = near.quality(candidates, k)
                if quality > best + 1e-6:
                    mixture, best, improved = near, quality, True
                    break
    return mixture


def _neighbours(mixture: Mixture, step: float) -> Iterator[Mixture]:
    size = np.abs(mixture.weights).max()
    for place in range(len(mixture.weights)):
        if not mixture.weights[place]:
            continue
        for change in (step, -step):
            weights = mixture.weights.copy()
            weights[place] += change * max(abs(weights[place]), 0.1 * size)
            yield Mixture(weights, mixture.exponents)
