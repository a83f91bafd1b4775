"""What each person did until a moment, in the form that artifacts store and that serving reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from headrace.events.columns import TrainingColumns
from headrace.kernels.foldin import PANEL, fold_in
from headrace.state.users import MAX_HISTORY
from headrace.types import Float32, Float64, Int8, Int32, Int64
from headrace_training.mapping import EVENT_TYPES

PURCHASE = EVENT_TYPES["purchase"]
RETURN = EVENT_TYPES["return"]


@dataclass(frozen=True)
class History:
    """Distinct (user, item, type), sorted by user, item, type; types without a weight are left out.

    indptr : (n_users + 1,) int64.   items : int32.   types : int8.   counts : float64, events.
    weights : float32, counts times the type's weight.   times_ms : int64, the last event's.
    """

    indptr: Int64
    items: Int32
    types: Int8
    counts: Float64
    weights: Float32
    times_ms: Int64
    n_items: int

    @property
    def n_users(self) -> int:
        return len(self.indptr) - 1

    @property
    def users(self) -> Int64:
        """User of each row, int64."""
        return np.repeat(np.arange(self.n_users), np.diff(self.indptr))

    def bought(self) -> sp.csr_matrix:
        """Purchases less returns, at least 0; (n_users, n_items) float64 without stored zeros."""
        sign = np.where(self.types == PURCHASE, 1.0, np.where(self.types == RETURN, -1.0, 0.0))
        matrix = self._matrix(sign * self.counts)
        matrix.data = np.maximum(matrix.data, 0.0)
        matrix.eliminate_zeros()
        return matrix

    def confidence(self, purchase_weight: float) -> sp.csr_matrix:
        """Confidence weights as serving sums them: purchases less returns, plus all other events; float32."""
        other = (self.types != PURCHASE) & (self.types != RETURN)
        matrix = (self.bought() * purchase_weight + self._matrix(np.where(other, self.weights, 0.0))).tocsr()
        matrix = matrix.astype(np.float32)
        matrix.eliminate_zeros()  # of what has aged to less than a float32, too
        matrix.sort_indices()
        return matrix

    def taken(self) -> sp.csr_matrix:
        """Sums of stored weights; (n_users, n_items) float32 without stored zeros."""
        matrix = self._matrix(self.weights.astype(np.float64))
        matrix.eliminate_zeros()
        return matrix.astype(np.float32)

    def served(self, purchase_weight: float) -> tuple[sp.csr_matrix, Int64]:
        """Confidence weights of the latest items of each person, as many as serving uses, and each one's last time.

        Returns (n_users, n_items) float32 CSR and int64 ms beside its stored values.
        """
        weights = self.confidence(purchase_weight)
        keys = self.users * self.n_items + self.items
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        users = np.repeat(np.arange(self.n_users), np.diff(weights.indptr))
        stored = users * self.n_items + weights.indices
        latest = np.maximum.reduceat(self.times_ms, starts) if len(starts) else self.times_ms
        last_ms = latest[np.searchsorted(keys[starts], stored)]
        order = np.lexsort((np.arange(len(users)), -last_ms, users))
        place = np.empty(len(users), dtype=np.int64)
        place[order] = np.arange(len(users)) - weights.indptr[users[order]]
        kept = place < MAX_HISTORY
        indptr = np.concatenate([[0], np.cumsum(np.bincount(users[kept], minlength=self.n_users))])
        shape = (self.n_users, self.n_items)
        return sp.csr_matrix((weights.data[kept], weights.indices[kept], indptr), shape=shape), last_ms[kept]

    def last_purchase_ms(self) -> sp.csr_matrix:
        """Time of the last purchase of each bought item; (n_users, n_items) int64."""
        rows = self.types == PURCHASE
        shape = (self.n_users, self.n_items)
        return sp.csr_matrix((self.times_ms[rows], (self.users[rows], self.items[rows])), shape=shape)

    def person_totals(self) -> tuple[Int64, Int64]:
        """Events but for returns and time of the last event of any kind, a user each; int64, 0 for none."""
        counted = np.where(self.types == RETURN, 0.0, self.counts)
        n_events = np.bincount(self.users, weights=counted, minlength=self.n_users)
        last = np.zeros(self.n_users, dtype=np.int64)
        np.maximum.at(last, self.users, self.times_ms)
        return np.rint(n_events).astype(np.int64), last

    def _matrix(self, values: Float64) -> sp.csr_matrix:
        matrix = sp.csr_matrix((values, (self.users, self.items)), shape=(self.n_users, self.n_items))
        matrix.sum_duplicates()
        return matrix


def type_weights(event_weights: dict[str, float]) -> Float64:
    """Weight by event type number, (8,) float64; a return weighs what it takes back, a purchase."""
    weights = np.zeros(8)
    for name, number in EVENT_TYPES.items():
        weights[number] = event_weights.get(name, 0.0)
    weights[RETURN] = weights[PURCHASE]
    return weights


def build_history(
    events: TrainingColumns, event_weights: dict[str, float], until_ms: int, decay: Float64 | None = None
) -> History:
    """History of the events before a moment.

    decay : (n_events,) factor of each event's weight, None for 1; counts are decayed alike.
    """
    unit = type_weights(event_weights)
    used = (events.times_ms < until_ms) & (unit[events.types] > 0)
    users, items, types = events.user_idx[used], events.item_idx[used], events.types[used].astype(np.int64)
    n_users, n_items = len(events.user_names), len(events.item_ids)
    keys = (users.astype(np.int64) * n_items + items) * 8 + types
    distinct, inverse = np.unique(keys, return_inverse=True)
    counts = np.bincount(inverse, weights=None if decay is None else decay[used], minlength=len(distinct))
    times = np.zeros(len(distinct), dtype=np.int64)
    np.maximum.at(times, inverse, events.times_ms[used])
    row_types = distinct % 8
    row_users = distinct // 8 // max(1, n_items)
    return History(
        indptr=np.concatenate([[0], np.cumsum(np.bincount(row_users, minlength=n_users))]).astype(np.int64),
        items=(distinct // 8 % max(1, n_items)).astype(np.int32),
        types=row_types.astype(np.int8),
        counts=counts.astype(np.float64),
        weights=(counts * unit[row_types]).astype(np.float32),
        times_ms=times,
        n_items=n_items,
    )


def repeat_rate(events: TrainingColumns) -> float:
    """Share of purchases whose buyer had bought the item at an earlier time; 0 without purchases."""
    rows = events.types == PURCHASE
    if not rows.any():
        return 0.0
    users, items, times = events.user_idx[rows], events.item_idx[rows], events.times_ms[rows]
    order = np.lexsort((times, items, users))
    users, items, times = users[order], items[order], times[order]
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    starts = np.concatenate([[True], ~same])
    first_time = times[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return float((times > first_time).mean())


def recent_popularity(
    events: TrainingColumns, event_weights: dict[str, float], since_ms: int, until_ms: int
) -> Float32:
    """Share of each item in the positive interactions of a window, by weight; (n_items,) float32."""
    unit = type_weights(event_weights)
    unit[RETURN] = 0.0
    used = (events.times_ms >= since_ms) & (events.times_ms < until_ms)
    weights = np.bincount(events.item_idx[used], weights=unit[events.types[used]], minlength=len(events.item_ids))
    return np.asarray(weights / max(weights.sum(), 1e-12), dtype=np.float32)


def popular_order(popularity: Float32) -> Int32:
    """Items by popularity descending, then index ascending; (n_items,) int32."""
    return np.argsort(-popularity, kind="stable").astype(np.int32)


def daily_groups(events: TrainingColumns, event_weights: dict[str, float], until_ms: int) -> sp.csr_matrix:
    """Which items one person took on one UTC day, by purchases if there are any, else by every weighted event.

    Returns (n_person_days, n_items) float32 with ones.
    """
    unit = type_weights(event_weights)
    unit[RETURN] = 0.0
    used = (events.times_ms < until_ms) & (unit[events.types] > 0)
    purchases = used & (events.types == PURCHASE)
    used = purchases if purchases.any() else used
    days = events.times_ms[used] // 86_400_000
    keys = events.user_idx[used].astype(np.int64) * 100_000 + days
    _, groups = np.unique(keys, return_inverse=True)
    n_groups = int(groups.max()) + 1 if len(groups) else 0
    ones = np.ones(len(groups), dtype=np.float32)
    matrix = sp.csr_matrix((ones, (groups, events.item_idx[used])), shape=(n_groups, len(events.item_ids)))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def fold_in_all(
    history: History, items: Float32, alpha: float, regularization: float, purchase_weight: float
) -> Float32:
    """Factors of all users by the serving kernel; (n_users, d) float32, zeros without a history."""
    d = items.shape[1]
    width = -(-d // PANEL) * PANEL
    confidence = history.served(purchase_weight)[0]
    gram = np.eye(width, dtype=np.float32)
    gram[:d, :d] = items.T @ items + regularization * np.eye(d, dtype=np.float32)
    out = np.zeros((history.n_users, width), dtype=np.float32)
    fold_in(
        gram,
        np.ascontiguousarray(items),
        confidence.indptr.astype(np.int64),
        confidence.indices.astype(np.int32),
        (confidence.data * np.float32(alpha)).astype(np.float32),
        out,
    )
    return np.ascontiguousarray(out[:, :d])
