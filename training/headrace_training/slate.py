"""How good the slates are that serving would show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from headrace.artifact_format import BlendTerms
from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters, dense_product
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


@dataclass(frozen=True)
class Extras:
    """What serving adds to the factors' scores, but for sessions, which are over when slates are measured."""

    repeat: Repeat = NO_REPEAT
    terms: BlendTerms = field(default_factory=BlendTerms)
    links: sp.csr_matrix | None = None


NO_EXTRAS = Extras()


class FactorModel:
    """Products of given factors plus, where they are given, ``sources @ links`` and lifts of single items.

    sources : (n_users, n_items), what each entry of a history is worth; see :func:`item_sources`.
    links : (n_items, n_items). lifts : (n_users, n_items). All float32 CSR.
    """

    def __init__(
        self,
        user_factors: Float32,
        item_factors: Float32,
        *,
        sources: sp.csr_matrix | None = None,
        links: sp.csr_matrix | None = None,
        lifts: sp.csr_matrix | None = None,
        name: str = "ials",
    ) -> None:
        self.name = name
        self.user_factors = user_factors
        self.item_factors = item_factors
        self.sources = sources
        self.links = links
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
        plain = self.lifts is None and self.links is None
        return FactorProduct(self.user_factors, self.item_factors) if plain else None

    def scores(self, users: Int32) -> Float32:
        scores = np.asarray(self.user_factors[users] @ self.item_factors.T, dtype=np.float32)
        if self.sources is not None and self.links is not None:
            scores += dense_product(self.sources[users], self.links)
        return scores if self.lifts is None else add_sparse(scores, self.lifts[users])


def served_model(moment: Moment, extras: Extras, *, only_new: bool = False, name: str = "served") -> FactorModel:
    """What the server would answer from at the moment, for slates with or without what was bought before."""
    weight = extras.terms.new_item_weight if only_new else extras.terms.item_weight
    links = extras.links if weight else None
    return FactorModel(
        moment.user_factors,
        moment.item_factors,
        sources=None if links is None else item_sources(moment, extras.terms, weight),
        links=links,
        lifts=repeat_matrix(moment, extras.repeat),
        name=name,
    )


def item_sources(moment: Moment, terms: BlendTerms, weight: float) -> sp.csr_matrix:
    """What multiplies each item's links for each person, as native/include/headrace/blend.hpp has it; float32 CSR."""
    sources, last_ms = moment.history.served(moment.purchase_weight)
    users = np.repeat(np.arange(sources.shape[0]), np.diff(sources.indptr))
    values = sources.data.astype(np.float64) ** terms.power
    if terms.half_life_days:
        age_days = (moment.history.person_totals()[1][users] - last_ms) / DAY_MS
        values *= 0.5 ** (age_days / terms.half_life_days)
    totals = np.bincount(users, weights=values, minlength=sources.shape[0])[users]
    sources.data = (weight * values / totals**terms.length_power).astype(np.float32)
    return sources


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


def served_metrics(moment: Moment, bought_later: sp.csr_matrix, extras: Extras, *, exclude: bool) -> dict[str, float]:
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
    ranked = rank_users(served_model(moment, extras, only_new=exclude), users, K, past if exclude else None)
    recall, ndcg = accuracy(ranked, wanted[users], np.diff(wanted[users].indptr)).means
    coverage = len(np.unique(ranked[ranked >= 0])) / moment.history.n_items
    return {f"recall@{K}": recall, f"ndcg@{K}": ndcg, f"coverage@{K}": coverage, "validation_users": float(len(users))}
