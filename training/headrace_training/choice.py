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
MAX_CHOOSERS = 1000
"""People on whom everything is chosen."""
BOOSTS, DAYS = (0.4, 0.8, 1.6), (60.0, 120.0)
"""Lifts tried."""
START = BlendTerms(power=0.5, length_power=0.5)
SHARES = (0.1, 0.3, 1.0)
"""Weights tried, with the links' scores brought to the spread of the factors'."""
LEAST_GAIN = 0.005
"""What is changed must gain so much of the goal: less is within the noise of so many people."""


@dataclass(frozen=True)
class Goal:
    """NDCG@20 of slates with everything, and of slates without what was bought before, on what is new then."""

    everything: float
    new: float

    def gain(self, base: Goal) -> Gain:
        """Each as a multiple of the base's."""
        pairs = ((self.everything, base.everything), (self.new, base.new))
        return Gain(*(mine / theirs if theirs else 1.0 for mine, theirs in pairs))


class Gain(NamedTuple):
    """Two goals compared, side by side."""

    everything: float
    new: float


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
        lifts, terms = repeat_matrix(self.moment, extras.repeat), extras.terms
        sources = None if extras.links is None else self._sources(terms)
        everything: list[Float64] = []
        new: list[Float64] = []
        for start in range(0, len(self.users), self._step):
            part = slice(start, start + self._step)
            scores = self._factor_scores(part)
            fresh = scores.copy()
            if sources is not None and extras.links is not None:
                added = dense_product(sources[part], extras.links)
                scores += np.float32(terms.item_weight) * added
                fresh += np.float32(terms.new_item_weight) * added
            if lifts is not None:
                scores = add_sparse(scores, lifts[self.users[part]])
            everything.append(_ndcg(scores, self._wanted[part]))
            new.append(_ndcg(mask(fresh, self._past[part]), self._new[part]))
        return Goal(_mean(everything), _mean(new))

    def spread(self, links: sp.csr_matrix, terms: BlendTerms) -> float:
        """Standard deviation of the factors' scores over that of the links', for a few people; 1 if there is none."""
        part = slice(0, self._step)
        if not len(self.users):
            return 1.0
        added = dense_product(self._sources(terms)[part], links)
        factors, linked = (float(np.mean(scores.std(axis=1))) for scores in (self._factor_scores(part), added))
        return factors / linked if factors > 0 and linked > 0 else 1.0

    def _factor_scores(self, part: slice) -> Float32:
        return np.asarray(self.moment.user_factors[self.users[part]] @ self.moment.item_factors.T, dtype=np.float32)

    def _sources(self, terms: BlendTerms) -> sp.csr_matrix:
        return item_sources(self.moment, terms, 1.0)[self.users]


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
    served, kind = plain, ""
    if links_of is not None and len(choosers.users):
        served, kind = _blended(choosers, plain, base, links_of)
    goal = choosers.goal(served)
    say(f"  ndcg@20 {base.everything:.4f} by factors, {goal.everything:.4f} served; new {base.new:.4f}, {goal.new:.4f}")
    ndcg = {"factors": base.everything, "factors_new": base.new, "served": goal.everything, "served_new": goal.new}
    return Choice(served, plain, kind, ndcg)


def _blended(
    choosers: Choosers, plain: Extras, base: Goal, links_of: Callable[[str], sp.csr_matrix]
) -> tuple[Extras, str]:
    """The kind of links that gains most, and its weight on either side of the goal, 0 where it gains nothing."""
    best, best_kind, best_value = plain, "", 1.0
    for kind in KINDS:
        links = links_of(kind)
        if not links.nnz:
            continue
        gains = {0.0: Gain(1.0, 1.0)}
        for weight in (share * choosers.spread(links, START) for share in SHARES):
            gains[weight] = _gain(choosers, _weighed(plain, links, weight, weight), base, kind)
        weights = (
            max(gains, key=lambda weight: gains[weight].everything),
            max(gains, key=lambda weight: gains[weight].new),
        )
        sides = (gains[weights[0]].everything, gains[weights[1]].new)
        kept = [weight if side >= 1 + LEAST_GAIN else 0.0 for weight, side in zip(weights, sides, strict=True)]
        if any(kept) and sum(sides) / 2 > best_value:
            best, best_kind, best_value = _weighed(plain, links, *kept), kind, sum(sides) / 2
    if not best_kind:
        return plain, ""
    value = sum(_gain(choosers, best, base, best_kind))
    changes: tuple[dict[str, float], ...] = ({"half_life_days": 30.0}, {"half_life_days": 120.0}, {"power": 1.0})
    for extras in [_changed(choosers, best, each) for each in changes]:
        gain = _gain(choosers, extras, base, best_kind)
        if min(gain) >= 1 and sum(gain) > value + LEAST_GAIN:
            best, value = extras, sum(gain)
    return (choose_repeat(choosers, best) if best.terms.item_weight else best), best_kind


def _weighed(plain: Extras, links: sp.csr_matrix, weight: float, new_weight: float) -> Extras:
    terms = msgspec.structs.replace(START, item_weight=weight, new_item_weight=new_weight)
    return replace(plain, terms=terms, links=links)


def _gain(choosers: Choosers, extras: Extras, base: Goal, kind: str) -> Gain:
    goal, terms = choosers.goal(extras), extras.terms
    say(
        f"  {kind} links x {terms.item_weight:.3g} and {terms.new_item_weight:.3g}, power {terms.power:g}, "
        f"half-life {terms.half_life_days:g}: ndcg@20 {goal.everything:.4f}, new {goal.new:.4f}"
    )
    return goal.gain(base)


def _changed(choosers: Choosers, extras: Extras, changes: dict[str, float]) -> Extras:
    """Other terms with the same weights relative to the factors, so that one thing changes at a time."""
    assert extras.links is not None
    terms = msgspec.structs.replace(extras.terms, **changes)
    ratio = choosers.spread(extras.links, terms) / choosers.spread(extras.links, extras.terms)
    weights = {name: ratio * getattr(terms, name) for name in ("item_weight", "new_item_weight")}
    return replace(extras, terms=msgspec.structs.replace(terms, **weights))
