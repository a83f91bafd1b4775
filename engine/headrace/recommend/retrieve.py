"""From people to rows: fold-in, exact or approximate search, and what fills a slate when that is not enough."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from headrace.kernels.history import purchased_rows
from headrace.kernels.repeats import merge_repeats, repeat_lifts
from headrace.kernels.topk import MAX_QUERIES, ban, take_allowed, top_candidates, top_rows
from headrace.recommend.model import Model
from headrace.state.users import People
from headrace.types import Bool, Float32, Int8, Int32, Int64, UInt32

EXACT, APPROXIMATE, POPULAR = 1, 2, 3
"""Tiers, numbered as in recommender.proto."""

_CANDIDATES = 4
"""Candidates asked of an approximate index, as a multiple of what is wanted."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What at most MAX_QUERIES people want.

    limits : (n,) int32, 1 or more. exclude_purchased : (n,) int8. excluded_indptr, excluded_rows : item rows that the
    callers exclude, int64 (n + 1,) and int32.
    """

    limits: Int32
    exclude_purchased: Int8
    excluded_indptr: Int64
    excluded_rows: Int32


@dataclass(frozen=True, slots=True)
class Found:
    """Slates of n people: rows (n, k) int32, scores (n, k) float32, counts (n,) int32 of valid entries, tiers."""

    rows: Int32
    scores: Float32
    counts: Int32
    tiers: list[int]


def retrieve(model: Model, people: People, wanted: Wanted) -> Found:
    """The best allowed items of each person, as many as wanted whenever so many may be shown.

    Each person's slate follows from their own history and wishes alone, bit for bit.
    """
    limits = wanted.limits.tolist()
    n, k = len(limits), max(limits, default=0)
    assert n <= MAX_QUERIES
    indptr, rows, confidences = model.fold_in_input(people.merged)
    warm = [first < last for first, last in pairwise(indptr.tolist())]
    personal = EXACT if model.index is None else APPROXIMATE
    found = Found(
        rows=np.empty((n, k), dtype=np.int32),
        scores=np.empty((n, k), dtype=np.float32),
        counts=np.zeros(n, dtype=np.int32),
        tiers=[personal if each else POPULAR for each in warm],
    )
    banned = _banned(people, wanted)
    if any(warm):
        vectors = model.embeddings.of(indptr, rows, confidences)
        lifted = np.array(warm) & (wanted.exclude_purchased == 0) if model.artifact.manifest.repeat_boost > 0 else None
        if lifted is None or not lifted.any():
            _search(model, vectors, warm, wanted.limits, banned, found)
        else:
            _search_lifted(model, people, vectors, lifted, wanted.limits, banned, found)
    for q, count in enumerate(found.counts.tolist()):
        if count < limits[q]:
            _fill(model, people.n_rows, q, limits[q], banned, found)
    return found


def _search_lifted(
    model: Model, people: People, vectors: Float32, lifted: Bool, limits: Int32, banned: UInt32, found: Found
) -> None:
    """Search without what the people in ``lifted`` bought before, then merge that in with its lift.

    ``banned`` bars the lifted items too when this returns: those that may be shown have had their chance.
    """
    manifest, size = model.artifact.manifest, len(people.merged.rows)
    lifts = (np.zeros(len(limits) + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32))
    chosen = lifted.astype(np.int8)
    repeat_lifts(people.merged, chosen, model.n_items, manifest.repeat_boost, manifest.repeat_days, lifts)
    allowed = banned.copy()
    ban(banned, lifts[0], lifts[1])
    warm = [tier != POPULAR for tier in found.tiers]
    _search(model, vectors, warm, limits, banned, found)
    slates = (found.rows, found.scores, found.counts)
    merge_repeats(lifts, model.artifact.item_factors, vectors, allowed, limits, slates)


def _search(model: Model, vectors: Float32, warm: list[bool], limits: Int32, banned: UInt32, found: Found) -> None:
    if not all(warm):  # a limit of nought makes a search pass over the cold ones
        limits = np.where(warm, limits, np.int32(0))
    if model.index is None:
        slates = (found.rows, found.scores, found.counts)
        top_rows(model.coarse, model.artifact.item_factors, vectors, limits, banned, slates)
    else:
        _approximate(model, vectors, limits.tolist(), banned, found)


def _banned(people: People, wanted: Wanted) -> UInt32:
    banned = people.banned.copy()
    ban(banned, wanted.excluded_indptr, wanted.excluded_rows)
    if wanted.exclude_purchased.any():
        indptr = np.zeros(len(wanted.limits) + 1, dtype=np.int64)
        rows = np.empty_like(people.merged.rows)
        purchased_rows(people.merged, wanted.exclude_purchased, indptr, rows)
        ban(banned, indptr, rows)
    return banned


def _approximate(model: Model, vectors: Float32, limits: list[int], banned: UInt32, found: Found) -> None:
    factors = model.artifact.item_factors
    d = factors.shape[1]
    for q, k in enumerate(limits):
        if not k:
            continue
        slate = (found.rows[q, :k], found.scores[q, :k], found.counts[q : q + 1])
        for ask in (_CANDIDATES * k, _CANDIDATES * _CANDIDATES * _CANDIDATES * k):
            # One at a time: Faiss rounds differently, and may visit other lists, when it searches for many at once.
            _, candidates = model.index.search(vectors[q : q + 1, :d], min(ask, model.n_items))
            rows = np.unique(candidates[0][candidates[0] >= 0])
            top_candidates(factors, rows, vectors[q], banned, q, slate)
            if found.counts[q] == k:
                break
        else:
            found.tiers[q] = EXACT
            own = (banned >> np.uint32(q)) & np.uint32(1)
            slates = (found.rows[q : q + 1], found.scores[q : q + 1], found.counts[q : q + 1])
            top_rows(model.coarse, factors, vectors[q : q + 1], np.array([k], dtype=np.int32), own, slates)


def _fill(model: Model, n_rows: int, q: int, limit: int, banned: UInt32, found: Found) -> None:
    """Popular items for those of whom nothing is known, then items that the artifact does not know, with score 0."""
    rows, count = found.rows[q, :limit], int(found.counts[q])
    if found.tiers[q] == POPULAR:
        count = take_allowed(model.artifact.popular_order, banned, q, rows, count)
        found.scores[q, :count] = model.artifact.popularity[rows[:count]]
    scored = count
    count = take_allowed(np.arange(model.n_items, n_rows, dtype=np.int32), banned, q, rows, count)
    found.scores[q, scored:count] = 0.0
    found.counts[q] = count
