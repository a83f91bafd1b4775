"""What an event is worth for recommendations, by its type, age and quantity, learned on what came after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from headrace.events.columns import TrainingColumns
from headrace.types import Bool, Float64, Int32
from headrace_training.history import PURCHASE, RETURN, type_weights
from headrace_training.mapping import EVENT_TYPES
from headrace_training.models.graph import GraphModel
from headrace_training.progress import say
from headrace_training.ranking import accuracy, rank_users

DAY_MS = 86_400_000
MAX_USERS = 2000
MIN_USERS = 40
"""With fewer people to learn from, the weights stay as they are."""

NEIGHBOURS = 200
FACTORS = (0.0, 0.2, 0.5, 2.0, 5.0)
"""Multiples of a type's weight that are tried."""

HALF_LIVES = (7.0, 30.0, 90.0, 365.0)
EXPONENTS = (0.5, 1.0)
MARGIN = 0.01
"""Share by which a change has to raise the quality: a change for nothing is none."""


@dataclass(frozen=True, kw_only=True)
class Worth:
    """An event weighs weights[type] * 2 ** (-age / half_life_days) * quantity ** quantity_exponent.

    weights : by event type, as in the settings of `fit`.   half_life_days : 0 for no ageing.
    """

    weights: Mapping[str, float]
    half_life_days: float = 0.0
    quantity_exponent: float = 0.0


@dataclass(frozen=True)
class Learned:
    """The worth that was found, and mean of recall@k and ndcg@k on people it was not learned on, before and after."""

    worth: Worth
    before: float
    after: float


def weigh(events: TrainingColumns, worth: Worth, until_ms: int) -> sp.csr_matrix:
    """Confidence of each (user, item) from the events before a moment; a return takes back what a purchase weighs.

    Returns (n_users, n_items) float32 CSR, what is stored is above 0.
    """
    unit = type_weights(dict(worth.weights))
    used = (events.times_ms < until_ms) & (unit[events.types] > 0)
    values = np.where(events.types == RETURN, -1.0, 1.0)[used] * unit[events.types[used]]
    if worth.half_life_days:
        values *= 0.5 ** ((until_ms - events.times_ms[used]) / DAY_MS / worth.half_life_days)
    if worth.quantity_exponent:
        values *= np.maximum(np.abs(events.quantities[used]), 1e-9) ** worth.quantity_exponent
    shape = (len(events.user_names), len(events.item_ids))
    matrix = sp.csr_matrix((values, (events.user_idx[used], events.item_idx[used])), shape=shape)
    # a return of something bought long ago weighs more than the purchase: less than nothing is nothing
    matrix.data[matrix.data <= 1e-12] = 0.0
    matrix.eliminate_zeros()
    return matrix.astype(np.float32)


def learn_weights(
    events: TrainingColumns,
    start: Worth,
    until_ms: int,
    horizon_ms: int,
    *,
    quantities: bool = True,
    k: int = 20,
    seed: int = 0,
) -> Learned:
    """The worth whose item-item filter best finds what people buy next; ``start`` where nothing is better for certain.

    One value after the other is tried, on half of the people; what came of it has to be better than ``start`` on the
    other half too. Learned from before ``until_ms``, measured on the purchases (or, without any, all weighted events)
    within ``horizon_ms`` from then on. Without ``quantities`` the exponent of quantity stays as it is.
    """
    trial = _Trial(events, start, until_ms, horizon_ms, k, seed)
    if len(trial.users) < MIN_USERS:
        say(f"  {len(trial.users)} people to learn event weights from, fewer than {MIN_USERS}: they stay as they are")
        return Learned(start, 0.0, 0.0)
    fold = np.arange(len(trial.users)) % 2 == 0
    qualities = trial.qualities(start)
    best, best_quality = start, float(qualities[fold].mean())
    before = float(qualities[~fold].mean())
    for place in range(len(_moves(events, start, until_ms, quantities))):
        for near in _moves(events, best, until_ms, quantities)[place]:
            quality = float(trial.qualities(near)[fold].mean())
            if quality > best_quality * (1 + MARGIN):
                best, best_quality = near, quality
    after = float(trial.qualities(best)[~fold].mean())
    if after <= before:
        best, after = start, before
    say(f"  event weights: {_describe(best)}; quality on other people {before:.4f} before, {after:.4f} after")
    return Learned(best, before, after)


class _Trial:
    """What is asked of every worth alike."""

    def __init__(
        self, events: TrainingColumns, start: Worth, until_ms: int, horizon_ms: int, k: int, seed: int
    ) -> None:
        self.events = events
        self.until_ms = until_ms
        self.k = k
        bought = events.types == PURCHASE
        counted = bought if bought.any() else (type_weights(dict(start.weights))[events.types] > 0)
        later = counted & (events.times_ms >= until_ms) & (events.times_ms < until_ms + horizon_ms)
        self.known = _pattern(events, bought & (events.times_ms < until_ms))
        wanted = _pattern(events, later)
        wanted = (wanted - wanted.multiply(self.known)).tocsr()
        wanted.eliminate_zeros()
        self.wanted = wanted
        started = np.diff(weigh(events, start, until_ms).indptr) > 0
        users = np.flatnonzero((np.diff(wanted.indptr) > 0) & started).astype(np.int32)
        self.users: Int32 = np.sort(np.random.default_rng(seed).permutation(users)[:MAX_USERS])

    def qualities(self, worth: Worth) -> Float64:
        """Mean of recall@k and ndcg@k of each person."""
        train = weigh(self.events, worth, self.until_ms)
        model = GraphModel(low_pass=0.0, max_neighbours=NEIGHBOURS)
        model.fit(train)
        ranked = rank_users(model, self.users, self.k, self.known)
        wanted = self.wanted[self.users]
        found = accuracy(ranked, wanted, np.diff(wanted.indptr))
        return (found.recall + found.ndcg) / 2


def _pattern(events: TrainingColumns, chosen: Bool) -> sp.csr_matrix:
    shape = (len(events.user_names), len(events.item_ids))
    ones = np.ones(int(chosen.sum()), dtype=np.float32)
    matrix = sp.csr_matrix((ones, (events.user_idx[chosen], events.item_idx[chosen])), shape=shape)
    matrix.data[:] = 1.0
    return matrix


def _moves(events: TrainingColumns, worth: Worth, until_ms: int, quantities: bool) -> list[list[Worth]]:
    """Changes of one value each: of every type but the one that sets the scale, of ageing, of quantity."""
    early = events.times_ms < until_ms
    present = {name for name, number in EVENT_TYPES.items() if (events.types[early] == number).any()}
    weighted = [name for name in sorted(present - {"return"}) if worth.weights.get(name, 0.0) > 0 or name != "purchase"]
    scale = "purchase" if "purchase" in weighted else (weighted[0] if weighted else "")
    moves = [list(_type_moves(worth, name)) for name in weighted if name != scale]
    span_days = (until_ms - int(events.times_ms.min())) / DAY_MS
    moves.append([replace(worth, half_life_days=days) for days in HALF_LIVES if days < span_days])
    if quantities and (events.quantities[early] != 1).any():
        moves.append([replace(worth, quantity_exponent=exponent) for exponent in EXPONENTS])
    return moves


def _type_moves(worth: Worth, name: str) -> Iterator[Worth]:
    weight = worth.weights.get(name, 0.0) or 0.1
    for factor in FACTORS:
        yield replace(worth, weights={**worth.weights, name: weight * factor})


def _describe(worth: Worth) -> str:
    weights = ", ".join(f"{name} {weight:.3g}" for name, weight in worth.weights.items())
    age = f"half-life {worth.half_life_days:g} days" if worth.half_life_days else "no ageing"
    return f"{weights}, {age}, quantity ** {worth.quantity_exponent:g}"
