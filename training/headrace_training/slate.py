"""How good the slates are that serving would show."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters
from headrace_training.probability import Moment
from headrace_training.ranking import accuracy, rank_users

K = 20


class FactorModel:
    """Products of given factors."""

    name = "ials"

    def __init__(self, user_factors: Float32, item_factors: Float32) -> None:
        self.user_factors = user_factors
        self.item_factors = item_factors

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self.item_factors)

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("the factors are given")

    def scores(self, users: Int32) -> Float32:
        return np.asarray(self.user_factors[users] @ self.item_factors.T, dtype=np.float32)


def served_metrics(moment: Moment, bought_later: sp.csr_matrix, *, exclude: bool) -> dict[str, float]:
    """recall@20, ndcg@20 and coverage@20 (share of the items that were in some slate) on what was bought later.

    exclude : items that the person bought before are neither shown nor looked for. Zeros when nobody with a history
    bought anything.
    """
    past = moment.history.bought().astype(np.float32)
    wanted = bought_later.copy()
    wanted.data = np.ones_like(wanted.data)
    if exclude:
        wanted = (wanted - wanted.multiply(past > 0)).tocsr()
        wanted.eliminate_zeros()
    known = np.diff(moment.history.indptr) > 0
    users = np.flatnonzero(known & (np.diff(wanted.indptr) > 0)).astype(np.int32)
    if not len(users):
        return {f"recall@{K}": 0.0, f"ndcg@{K}": 0.0, f"coverage@{K}": 0.0, "validation_users": 0.0}
    model = FactorModel(moment.user_factors, moment.item_factors)
    ranked = rank_users(model, users, K, past if exclude else None)
    recall, ndcg = accuracy(ranked, wanted[users], np.diff(wanted[users].indptr)).means
    coverage = len(np.unique(ranked[ranked >= 0])) / model.n_items
    return {f"recall@{K}": recall, f"ndcg@{K}": ndcg, f"coverage@{K}": coverage, "validation_users": float(len(users))}
