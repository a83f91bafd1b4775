"""What people did since the artifact, as arrays; both together are merged natively, by native/src/history.cpp.

A person has one *slot*: a stretch of the arena with one entry for each distinct (item row, event type), in order of
first appearance. Rows are those of the artifact's items, then of items that it does not know.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Float32, Int8, Int32, Int64

_PURCHASE = 3
_RETURN = 4
_FIRST_CAPACITY = 4


class Arena(NamedTuple):
    """Entries of all slots, and where each slot's lie.

    rows, types, counts, times_ms : (size,) int32, int8, float32 (events), int64 (the last one's time).
    start, length, capacity : (n_slots,) int64, int32, int32.
    tail : (1,) int64, first entry never used.
    """

    rows: Int32
    types: Int8
    counts: Float32
    times_ms: Int64
    start: Int64
    length: Int32
    capacity: Int32
    tail: Int64


class Csr(NamedTuple):
    """The artifact's histories: ``indptr`` (n_users + 1,) int64 into rows, types, weights and times_ms."""

    indptr: Int64
    rows: Int32
    types: Int8
    weights: Float32
    times_ms: Int64


class Merged(NamedTuple):
    """Histories of n people with one entry an item row, in order of first appearance.

    indptr : (n + 1,) int64 into the next five.
    rows : int32. weights : float32 confidence, before alpha. n_bought : float32 purchases less returns, at least 0.
    last_ms, last_bought_ms : int64 time of the last event and of the last purchase, 0 for none.
    n_events, last_event_ms : (n,) float32, int64 over the whole history.
    """

    indptr: Int64
    rows: Int32
    weights: Float32
    n_bought: Float32
    last_ms: Int64
    last_bought_ms: Int64
    n_events: Float32
    last_event_ms: Int64


@njit(nogil=True, cache=True)
def _move(arena: Arena, slot: int, target: int) -> None:
    start = arena.start[slot]
    for i in range(arena.length[slot]):
        arena.rows[target + i] = arena.rows[start + i]
        arena.types[target + i] = arena.types[start + i]
        arena.counts[target + i] = arena.counts[start + i]
        arena.times_ms[target + i] = arena.times_ms[start + i]
    arena.start[slot] = target


@njit(nogil=True, cache=True)
def _drop(arena: Arena, slot: int, position: int) -> None:
    last = arena.start[slot] + arena.length[slot] - 1
    for i in range(position, last):
        arena.rows[i] = arena.rows[i + 1]
        arena.types[i] = arena.types[i + 1]
        arena.counts[i] = arena.counts[i + 1]
        arena.times_ms[i] = arena.times_ms[i + 1]
    arena.length[slot] -= 1


@njit(nogil=True, cache=True)
def _room(arena: Arena, slot: int) -> int:
    """Index of a new entry of the slot, which moves to the tail when it is full."""
    if arena.length[slot] == arena.capacity[slot]:
        arena.capacity[slot] = max(_FIRST_CAPACITY, 2 * arena.capacity[slot])
        target = arena.tail[0]
        _move(arena, slot, target)
        arena.tail[0] = target + arena.capacity[slot]
    arena.length[slot] += 1
    return int(arena.start[slot] + arena.length[slot] - 1)


@njit(nogil=True, cache=True)
def append_events(
    arena: Arena, slots: Int32, rows: Int32, types: Int8, counts: Float32, times_ms: Int64, max_history: int
) -> None:
    """Add events to slots, in order; equal (row, type) add up.

    slots, rows : (n,) int32 >= 0. types : (n,) int8. counts : (n,) float32 > 0. times_ms : (n,) int64.
    max_history : entries that are neither purchases nor returns kept a slot; the oldest gives way.
    The caller sees to it that the arena has room behind its tail for every slot touched to double as often as needed.
    """
    for e in range(slots.shape[0]):
        slot, kind = slots[e], types[e]
        found, oldest, n_others = -1, -1, 0
        for p in range(arena.start[slot], arena.start[slot] + arena.length[slot]):
            if arena.rows[p] == rows[e] and arena.types[p] == kind:
                found = p
                break
            if arena.types[p] != _PURCHASE and arena.types[p] != _RETURN:
                n_others += 1
                if oldest < 0 or arena.times_ms[p] < arena.times_ms[oldest]:
                    oldest = p
        if found >= 0:
            arena.counts[found] += counts[e]
            arena.times_ms[found] = max(arena.times_ms[found], times_ms[e])
            continue
        if kind != _PURCHASE and kind != _RETURN and n_others >= max_history:
            _drop(arena, slot, oldest)
        p = _room(arena, slot)
        arena.rows[p] = rows[e]
        arena.types[p] = kind
        arena.counts[p] = counts[e]
        arena.times_ms[p] = times_ms[e]


@njit(nogil=True, cache=True)
def repack(arena: Arena, out: Arena) -> None:
    """Copy all slots, one after the other, into a fresh arena that shares start, length and capacity.

    out : an arena with at least sum(capacity) entries.
    """
    target = 0
    for slot in range(arena.start.shape[0]):
        start = arena.start[slot]
        for i in range(arena.length[slot]):
            out.rows[target + i] = arena.rows[start + i]
            out.types[target + i] = arena.types[start + i]
            out.counts[target + i] = arena.counts[start + i]
            out.times_ms[target + i] = arena.times_ms[start + i]
        out.start[slot] = target
        target += arena.capacity[slot]
    out.tail[0] = target


@njit(nogil=True, cache=True)
def n_entries(indptr: Int64, length: Int32, user_idx: Int32, slots: Int32) -> int:
    """Entries of n people in the artifact's histories and in the arena together.

    indptr, length : of :class:`Csr` and :class:`Arena`. user_idx, slots : (n,) int32, -1 for none.
    """
    total = 0
    for person in range(user_idx.shape[0]):
        if user_idx[person] >= 0:
            total += indptr[user_idx[person] + 1] - indptr[user_idx[person]]
        if slots[person] >= 0:
            total += length[slots[person]]
    return total


@njit(nogil=True, cache=True)
def add_session(merged: Merged, indptr: Int64, rows: Int32, weight: float, now_ms: int, out: Merged) -> None:
    """Copy histories of n people and add one event for each row of their sessions, a millisecond apart up to now.

    indptr, rows : (n + 1,) int64, int32, oldest first. weight : of one such event. out : with room for all entries.
    """
    entry = 0
    out.indptr[0] = 0
    for person in range(merged.n_events.shape[0]):
        first = entry
        for p in range(merged.indptr[person], merged.indptr[person + 1]):
            out.rows[entry], out.weights[entry] = merged.rows[p], merged.weights[p]
            out.n_bought[entry], out.last_ms[entry] = merged.n_bought[p], merged.last_ms[p]
            out.last_bought_ms[entry] = merged.last_bought_ms[p]
            entry += 1
        out.n_events[person], out.last_event_ms[person] = merged.n_events[person], merged.last_event_ms[person]
        for s in range(indptr[person], indptr[person + 1]):
            time_ms = now_ms - (indptr[person + 1] - 1 - s)
            place = first
            while place < entry and out.rows[place] != rows[s]:
                place += 1
            if place == entry:
                out.rows[entry], out.weights[entry], out.n_bought[entry] = rows[s], np.float32(0.0), np.float32(0.0)
                out.last_ms[entry] = out.last_bought_ms[entry] = 0
                entry += 1
            out.weights[place] += np.float32(weight)
            out.last_ms[place] = max(out.last_ms[place], time_ms)
            out.last_event_ms[person] = max(out.last_event_ms[person], time_ms)
            out.n_events[person] += np.float32(1.0)
        out.indptr[person + 1] = entry


@njit(nogil=True, cache=True)
def purchased_rows(merged: Merged, wanted: Int8, indptr: Int64, rows: Int32) -> None:
    """Rows that the people with ``wanted`` set have bought and not returned; indptr, rows are output."""
    entry = 0
    indptr[0] = 0
    for person in range(merged.indptr.shape[0] - 1):
        if wanted[person]:
            for p in range(merged.indptr[person], merged.indptr[person + 1]):
                if merged.n_bought[p] > 0.0:
                    rows[entry] = merged.rows[p]
                    entry += 1
        indptr[person + 1] = entry
