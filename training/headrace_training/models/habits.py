"""What a person's own baskets say of the items in them: how often, how lately, and whether the next time is due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.types import Float32, Float64, Int64
from headrace_training.baskets import Baskets

FEATURES = (
    "own",
    "log_count",
    "share",
    "recent_10",
    "recent_2",
    "log_age",
    "due",
    "repeat_rate",
    "repeat_rate_share",
    "log_baskets",
    "log_size",
)
"""Of one (person, item) pair with count baskets, the latest ``age`` baskets ago, in a history of n baskets:
1 · log count · count / n · Σ 0.9^age · Σ 0.5^age · log(1 + age) · (1 + age) / rhythm, at most 4 · log rate of the item
· rate · count / n · log n · log of the mean basket's size."""

MAX_DUE = 4.0
SMOOTHING = 10.0
"""People that the mean over all items stands for in an item's repeat rate and rhythm."""


@dataclass(frozen=True)
class Rates:
    """How an item repeats: by those who have it.

    repeat : (n_items,) float64 in (0, 1), share of its owners who took it in two baskets or more, smoothed.
    rhythm : (n_items,) float64 > 0, mean number of baskets from one with it to the next, smoothed.
    """

    repeat: Float64
    rhythm: Float64


@dataclass(frozen=True)
class Habits:
    """Every (person, item) pair of a history, by person, then by item.

    indptr : (n_users + 1,) int64.   items : (n,) int64.
    count, first, last : (n,) float64, baskets with the item and the ages of the earliest and the latest of them.
    recent_10, recent_2 : (n,) float64, Σ 0.9^age and Σ 0.5^age over them.
    n_baskets, size : (n_users,) float64, a person's baskets and their mean number of items.
    """

    indptr: Int64
    items: Int64
    count: Float64
    first: Float64
    last: Float64
    recent_10: Float64
    recent_2: Float64
    n_baskets: Float64
    size: Float64

    @classmethod
    def of(cls, baskets: Baskets) -> Habits:
        """Count the pairs of a history."""
        users, age = baskets.user_of, baskets.age.astype(np.float64)
        keys, at = np.unique(users * baskets.n_items + baskets.items, return_inverse=True)
        count = np.bincount(at, minlength=len(keys)).astype(np.float64)
        first, last = np.zeros(len(keys)), np.full(len(keys), np.inf)
        np.maximum.at(first, at, age)
        np.minimum.at(last, at, age)
        n_baskets = baskets.n_baskets.astype(np.float64)
        n_taken = np.bincount(users, minlength=baskets.n_users)
        return cls(
            np.searchsorted(keys, np.arange(baskets.n_users + 1) * baskets.n_items).astype(np.int64),
            keys % max(1, baskets.n_items),
            count,
            first,
            last,
            np.bincount(at, 0.9**age, minlength=len(keys)).astype(np.float64),
            np.bincount(at, 0.5**age, minlength=len(keys)).astype(np.float64),
            n_baskets,
            n_taken / np.maximum(n_baskets, 1),
        )

    @property
    def users(self) -> Int64:
        """The person of each pair; (n,) int64."""
        return np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))

    def rates(self, n_items: int) -> Rates:
        """How each item repeats; items of few people lean to the mean of all."""
        owners = np.bincount(self.items, minlength=n_items)
        again = self.count > 1
        repeaters = np.bincount(self.items[again], minlength=n_items)
        steps = np.bincount(self.items[again], self.count[again] - 1, minlength=n_items)
        spans = np.bincount(self.items[again], (self.first - self.last)[again], minlength=n_items)
        mean = (again.sum() + 1) / (len(again) + 2)
        typical = (spans.sum() + 1) / (steps.sum() + 1)
        return Rates(
            (repeaters + SMOOTHING * mean) / (owners + SMOOTHING), (spans + SMOOTHING * typical) / (steps + SMOOTHING)
        )

    def features(self, rates: Rates) -> Float32:
        """FEATURES of every pair; (n, len(FEATURES)) float32.

        A person's rhythm with an item is the mean of its steps there and one step of the item's rhythm.
        """
        users = self.users
        n, size = self.n_baskets[users], self.size[users]
        rhythm = (self.first - self.last + rates.rhythm[self.items]) / self.count
        rate, share = rates.repeat[self.items], self.count / n
        columns = (
            np.ones(len(users)),
            np.log(self.count),
            share,
            self.recent_10,
            self.recent_2,
            np.log1p(self.last),
            np.minimum((1 + self.last) / rhythm, MAX_DUE),
            np.log(rate),
            rate * share,
            np.log(n),
            np.log(size),
        )
        return np.stack(columns, axis=1).astype(np.float32)
