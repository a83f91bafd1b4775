"""What is served beside the factors, chosen by what people bought after a moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
import numpy as np
import scipy.sparse as sp

from headrace.artifact_format import BlendTerms
from headrace.types import Float32, Float64, Int32
from headrace_training.links import KINDS
from headrace_training.models.base import dense_product
from headrace_training.probability import Moment
from headrace_training.progress import say
from headrace_training.ranking import BLOCK_CELLS, accuracy, mask, top_k
from headrace_training.slate import NO_EXTRAS, NO_REPEAT, Extras, Repeat, add_sparse, item_sources, repeat_matrix

K = 20
MAX_CHOOSERS = 500
"""People on whom everything is chosen."""
BOOSTS, DAYS = (0.4, 0.8, 1.6), (60.0, 120.0)
"""Lifts tried."""
START = BlendTerms(power=0.5, length_power=0.5)
SHARES = (0.1, 0.3, 1.0)
"""Weights tried, with the links' scores brought to the spread of the factors'."""
N_LIFTED, MORE_LIFT = 3, (1.25, 1.6)
"""With how many of these how much more of a lift is tried."""
LEAST_GAIN = 0.005
"""What is changed must gain so much of the goal: less is within the noise of 500 people."""


@dataclass(frozen=True)
class Goal:
    """NDCG@20 of slates with everything, and of slates without what was bought before, on what is new then."""

    everything: float
    new: float

    def against(self, base: Goal) -> float:
        """The mean of both, each as a multiple of the base's."""
        pairs = ((self.everything, base.everything), (self.new, base.new))
        return sum(mine / theirs if theirs else 1.0 for mine, theirs in pairs) / 2


@dataclass
class Choosers:
    """Some people with a history at a moment and what they bought afterwards."""

    moment: Moment
    wanted: sp.csr_matrix
    users: Int32 = field(init=False)

    def __post_init__(self) -> None:
        known = (np.diff(self.moment.history.indptr) > 0) & (np.diff(self.wanted.indptr) > 0)
        users = np.flatnonzero(known).astype(np.int32)
        self.users = users[:: -(-max(1, len(users)) // MAX_CHOOSERS)]
        self._past = self.moment.history.bought().astype(np.float32).tocsr()[self.users]
        self._wanted = self.wanted[self.users].tocsr()
        self._wanted.data = np.ones_like(self._wanted.data)
        self._new = (self._wanted - self._wanted.multiply(self._past > 0)).tocsr()
        self._new.eliminate_zeros()
        self._step = max(1, BLOCK_CELLS // max(1, self.moment.history.n_items))

    def goal(self, extras: Extras) -> Goal:
        """How good slates with the extras are; zeros when nobody is there to choose for."""
        lifts = repeat_matrix(self.moment, extras.repeat)
        sources = self._sources(extras.terms) if extras.links is not None else None
        everything: list[Float64] = []
        new: list[Float64] = []
        for start in range(0, len(self.users), self._step):
            part = slice(start, start + self._step)
            scores = self._factor_scores(part)
            if sources is not None and extras.links is not None:
                scores += dense_product(sources[part], extras.links)
            unlifted = scores.copy()
            if lifts is not None:
                scores = add_sparse(scores, lifts[self.users[part]])
            everything.append(_ndcg(scores, self._wanted[part]))
            new.append(_ndcg(mask(unlifted, self._past[part]), self._new[part]))
        return Goal(_mean(everything), _mean(new))

    def spread(self, links: sp.csr_matrix, terms: BlendTerms) -> float:
        """Standard deviation of the factors' scores over that of the links', for a few people; 1 if there is none."""
        part = slice(0, self._step)
        if not len(self.users):
            return 1.0
        added = dense_product(self._sources(msgspec.structs.replace(terms, item_weight=1.0))[part], links)
        factors, linked = (float(np.mean(scores.std(axis=1))) for scores in (self._factor_scores(part), added))
        return factors / linked if factors > 0 and linked > 0 else 1.0

    def _factor_scores(self, part: slice) -> Float32:
        return np.asarray(self.moment.user_factors[self.users[part]] @ self.moment.item_factors.T, dtype=np.float32)

    def _sources(self, terms: BlendTerms) -> sp.csr_matrix:
        return item_sources(self.moment.history, self.moment.purchase_weight, terms)[self.users]


def _mean(parts: list[Float64]) -> float:
    """Mean of all values, 0 of none."""
    values = np.concatenate([*parts, np.empty(0)])
    return float(values.mean()) if len(values) else 0.0


def _ndcg(scores: Float32, wanted: sp.csr_matrix) -> Float64:
    """NDCG of the rows that want anything."""
    n_wanted = np.diff(wanted.indptr)
    some = np.flatnonzero(n_wanted)
    if not len(some):
        return np.empty(0)
    return accuracy(top_k(scores[some], K), wanted[some], n_wanted[some]).ndcg


def choose_repeat(choosers: Choosers, extras: Extras) -> Extras:
    """The same with the lift that ranks best among a few; none when nothing is gained by one."""
    repeats = (NO_REPEAT, *(Repeat(boost, days) for days in DAYS for boost in BOOSTS))
    tried = [replace(extras, repeat=repeat) for repeat in repeats]
    return max(tried, key=lambda each: choosers.goal(each).everything)


@dataclass(frozen=True)
class Choice:
    """What serves best, and the best without a blend; ``kind`` is that of the links, "" for none.

    ndcg : NDCG@20 of both, over all items and over new ones, on the people it was chosen for.
    """

    served: Extras = NO_EXTRAS
    plain: Extras = NO_EXTRAS
    kind: str = ""
    ndcg: dict[str, float] = field(default_factory=dict)


def choose_extras(choosers: Choosers, links_of: Callable[[str], sp.csr_matrix] | None) -> Choice:
    """The lift of repeats and, where they gain on factors alone, links with their terms.

    links_of : links by kind, learned from what was known at the choosers' moment; None: no links are tried.
    """
    plain = choose_repeat(choosers, NO_EXTRAS)
    base = choosers.goal(plain)
    best = Tried(plain, "", base)
    if links_of is not None and len(choosers.users):
        best = _blended(choosers, best, links_of)
    served, goal = best.extras, best.goal
    say(f"  ndcg@20 {base.everything:.4f} by factors, {goal.everything:.4f} served; new {base.new:.4f}, {goal.new:.4f}")
    ndcg = {"factors": base.everything, "factors_new": base.new, "served": goal.everything, "served_new": goal.new}
    return Choice(served, plain, best.kind, ndcg)


class Tried(NamedTuple):
    """What might be served, the kind of its links, and how good its slates are."""

    extras: Extras
    kind: str
    goal: Goal


def _blended(choosers: Choosers, plain: Tried, links_of: Callable[[str], sp.csr_matrix]) -> Tried:
    """What gains most on ``plain`` without a loss on either side of the goal; ``plain`` if nothing does."""

    def tried(extras: Extras, kind: str) -> Tried:
        found, terms = Tried(extras, kind, choosers.goal(extras)), extras.terms
        say(
            f"  {kind} links x {terms.item_weight:.3g}, power {terms.power:g}, half-life {terms.half_life_days:g}, "
            f"lift {extras.repeat.boost:g}: ndcg@20 {found.goal.everything:.4f}, new {found.goal.new:.4f}"
        )
        return found

    first = []
    for kind in KINDS:
        links = links_of(kind)
        spread = choosers.spread(links, START) if links.nnz else 0.0
        terms = [msgspec.structs.replace(START, item_weight=share * spread) for share in SHARES if spread]
        first += [tried(replace(plain.extras, terms=each, links=links), kind) for each in terms]
    # links lift what goes with all that was bought: what was bought keeps up only with more of a lift
    first.sort(key=lambda each: each.goal.against(plain.goal), reverse=True)
    second = [tried(_lifted(each.extras, more), each.kind) for each in first[:N_LIFTED] for more in MORE_LIFT]
    best = _best(plain, first + second)
    changes: tuple[dict[str, float], ...] = ({"half_life_days": 30.0}, {"half_life_days": 120.0}, {"power": 1.0})
    third = [tried(_changed(choosers, best.extras, each), best.kind) for each in changes if best.kind]
    return _best(plain, [best, *third])


def _best(plain: Tried, others: list[Tried]) -> Tried:
    """The one that gains most, of those that gain anything to speak of and lose nothing."""
    base = plain.goal
    sound = [each for each in others if each.goal.everything >= base.everything and each.goal.new >= base.new]
    gaining = [each for each in sound if each.goal.against(base) >= 1 + LEAST_GAIN]
    return max(gaining, key=lambda each: each.goal.against(base), default=plain)


def _lifted(extras: Extras, more: float) -> Extras:
    return replace(extras, repeat=extras.repeat._replace(boost=more * extras.repeat.boost))


def _changed(choosers: Choosers, extras: Extras, changes: dict[str, float]) -> Extras:
    """Other terms with the same weight relative to the factors, so that one thing changes at a time."""
    assert extras.links is not None
    terms = msgspec.structs.replace(extras.terms, **changes)
    ratio = choosers.spread(extras.links, terms) / choosers.spread(extras.links, extras.terms)
    return replace(extras, terms=msgspec.structs.replace(terms, item_weight=extras.terms.item_weight * ratio))
