"""From people to rows: fold-in, exact or approximate search, and what fills a slate when that is not enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.recommend.model import Model
from headrace.state.users import People
from headrace.types import Float32, Int8, Int32, Int64

EXACT, APPROXIMATE, POPULAR = 1, 2, 3
"""Tiers, numbered as in recommender.proto."""

_TIERS = {tier: np.array([POPULAR, tier], dtype=np.int32) for tier in (EXACT, APPROXIMATE, POPULAR)}
"""Of a person who is not warm, and of one who is."""

_ASKS = (4, 64)
"""Candidates asked of an approximate index, as a multiple of what is wanted; then every item is scored."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What n people want.

    limits : (n,) int32, 1 or more. exclude_purchased : (n,) int8. excluded_indptr, excluded_rows : item rows that the
    callers exclude, int64 (n + 1,) and int32. session_indptr, session_rows : alike, the items that callers know of the
    present session, oldest first.
    """

    limits: Int32
    exclude_purchased: Int8
    excluded_indptr: Int64
    excluded_rows: Int32
    session_indptr: Int64
    session_rows: Int32


@dataclass(frozen=True, slots=True)
class Found:
    """Slates of n people: rows (n, k) int32, scores (n, k) float32, counts (n,) int32 of valid entries, tiers int32."""

    rows: Int32
    scores: Float32
    counts: Int32
    tiers: Int32


def retrieve(model: Model, people: People, wanted: Wanted) -> Found:
    """The best allowed items of each person, as many as wanted whenever so many may be shown.

    Each person's slate follows from their own history and wishes alone, bit for bit.
    """
    indptr, rows, confidences = model.fold_in_input(people.merged)
    warm = (indptr[1:] > indptr[:-1]).astype(np.int8)
    vectors = model.embeddings.of(indptr, rows, confidences)
    task = _Task(model, people, wanted, vectors, warm)
    if model.index is None:
        return task.search(slice(0, len(warm)), EXACT)[0]
    return task.search_by_index()


def popular(model: Model, people: People, wanted: Wanted) -> Found:
    """Popular items for n people, whatever is known of them, but for what their callers exclude."""
    n = len(wanted.limits)
    task = _Task(model, people, wanted, np.zeros((n, len(model.gram)), np.float32), np.zeros(n, np.int8))
    return task.search(slice(0, n), POPULAR)[0]


@dataclass(frozen=True, slots=True)
class _Task:
    """One batch, with people's vectors (n, w) float32 and whether anything usable is known of them, (n,) int8."""

    model: Model
    people: People
    wanted: Wanted
    vectors: Float32
    warm: Int8

    def search(self, part: slice, tier: int, candidates: Int64 | None = None) -> tuple[Found, Int32]:
        """Slates of some of the people, out of all items or of one person's candidates.

        Also how many items of each slate the search found itself, (n,) int32.
        """
        merged, wanted, n = self.people.merged, self.wanted, part.stop - part.start
        limits, warm = wanted.limits[part], self.warm[part]
        k = max(limits.tolist(), default=0)
        found = Found(
            rows=np.empty((n, k), dtype=np.int32),
            scores=np.empty((n, k), dtype=np.float32),
            counts=np.empty(n, dtype=np.int32),
            tiers=_TIERS[tier][warm],
        )
        reached, exact = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int8)
        pointers = slice(part.start, part.stop + 1)
        self.model.retriever.retrieve(
            self.vectors[part],
            warm,
            limits,
            wanted.exclude_purchased[part],
            merged.indptr[pointers],
            merged.rows,
            merged.n_bought,
            merged.last_bought_ms,
            merged.last_event_ms[part],
            wanted.excluded_indptr[pointers],
            wanted.excluded_rows,
            None if candidates is None else np.array([0, len(candidates)]),
            candidates,
            self.people.banned,
            found.rows,
            found.scores,
            found.counts,
            reached,
            merged.weights,
            merged.last_ms,
            self.people.now_ms,
            exact,
        )
        found.tiers[exact == 0] = APPROXIMATE
        return found, reached

    def search_by_index(self) -> Found:
        """Slates of all by the approximate index, one at a time.

        Faiss rounds differently, and may visit other lists, when it searches for many at once.
        """
        n, k = len(self.warm), int(self.wanted.limits.max(initial=0))
        all_found = Found(
            rows=np.empty((n, k), dtype=np.int32),
            scores=np.empty((n, k), dtype=np.float32),
            counts=np.empty(n, dtype=np.int32),
            tiers=np.empty(n, dtype=np.int32),
        )
        for q in range(n):
            found = self._search_one(q)
            count = int(found.counts[0])
            all_found.rows[q, :count] = found.rows[0, :count]
            all_found.scores[q, :count] = found.scores[0, :count]
            all_found.counts[q], all_found.tiers[q] = count, found.tiers[0]
        return all_found

    def _search_one(self, q: int) -> Found:
        model, part, k = self.model, slice(q, q + 1), int(self.wanted.limits[q])
        d = model.artifact.item_factors.shape[1]
        for ask in _ASKS if self.warm[q] else ():
            _, candidates = model.index.search(self.vectors[part, :d], min(ask * k, model.n_items))
            found, reached = self.search(part, APPROXIMATE, np.unique(candidates[0]))
            if reached[0] == k:
                return found
        return self.search(part, EXACT)[0]
