"""How good the slates are that serving would show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters
from headrace_training.models.product import FactorProduct
from headrace_training.probability import Moment
from headrace_training.ranking import accuracy, rank_users

K = 20
DAY_MS = 86_400_000


class Repeat(NamedTuple):
    """Lift of what was bought before: its height, and the days after which it has fallen to 1/e."""

    boost: float = 0.0
    days: float = 60.0


NO_REPEAT = Repeat()
MAX_CHOOSERS = 500
"""People on whom the lift is chosen."""
REPEATS = (NO_REPEAT, *(Repeat(boost, days) for days in (60.0, 120.0) for boost in (0.4, 0.8, 1.6)))


class FactorModel:
    """Products of given factors, with the lifts of what was bought before, if any; see headrace.kernels.repeats."""

    def __init__(
        self, user_factors: Float32, item_factors: Float32, lifts: sp.csr_matrix | None = None, name: str = "ials"
    ) -> None:
        self.name = name
        self.user_factors = user_factors
        self.item_factors = item_factors
        self.lifts = lifts

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self.item_factors)

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("the factors are given")

    def product(self) -> FactorProduct | None:
        return FactorProduct(self.user_factors, self.item_factors) if self.lifts is None else None

    def scores(self, users: Int32) -> Float32:
        scores = np.asarray(self.user_factors[users] @ self.item_factors.T, dtype=np.float32)
        return scores if self.lifts is None else add_sparse(scores, self.lifts[users])


def add_sparse(scores: Float32, rows: sp.csr_matrix) -> Float32:
    """scores + rows, written into ``scores``."""
    at = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    scores[at, rows.indices] += rows.data
    return scores


def repeat_matrix(moment: Moment, repeat: Repeat) -> sp.csr_matrix | None:
    """The lift of each bought item as serving gives it; (n_users, n_items) float32, None without a lift."""
    if not repeat.boost:
        return None
    lifts = moment.history.bought().tocsr()
    last_bought = moment.history.last_purchase_ms()
    _, last_event = moment.history.person_totals()
    users = np.repeat(np.arange(lifts.shape[0]), np.diff(lifts.indptr))
    bought_ms = np.asarray(last_bought[users, lifts.indices]).ravel()
    age_days = np.maximum(0, last_event[users] - bought_ms) / DAY_MS
    lifts.data = repeat.boost * np.log1p(lifts.data) * np.exp(-age_days / repeat.days)
    return lifts.astype(np.float32)


def choose_repeat(moment: Moment, bought_later: sp.csr_matrix) -> Repeat:
    """The lift that ranks best on what was bought later, among a few; none when nothing is gained by one."""
    buyers = np.flatnonzero(np.diff(bought_later.indptr))
    some = np.zeros(bought_later.shape[0], dtype=np.float32)
    some[buyers[:: max(1, len(buyers) // MAX_CHOOSERS)]] = 1.0
    sample = (sp.diags(some) @ bought_later).tocsr()
    sample.eliminate_zeros()
    found = {repeat: served_metrics(moment, sample, repeat, exclude=False)["ndcg@20"] for repeat in REPEATS}
    return max(REPEATS, key=lambda repeat: found[repeat])


def served_metrics(moment: Moment, bought_later: sp.csr_matrix, repeat: Repeat, *, exclude: bool) -> dict[str, float]:
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
    model = FactorModel(moment.user_factors, moment.item_factors, repeat_matrix(moment, repeat))
    ranked = rank_users(model, users, K, past if exclude else None)
    recall, ndcg = accuracy(ranked, wanted[users], np.diff(wanted[users].indptr)).means
    coverage = len(np.unique(ranked[ranked >= 0])) / model.n_items
    return {f"recall@{K}": recall, f"ndcg@{K}": ndcg, f"coverage@{K}": coverage, "validation_users": float(len(users))}
