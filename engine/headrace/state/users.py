"""What is known of people now: the artifact's histories and the log's events after it.

The state is a function of artifact and log alone, whoever asked what before.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace._native import gather
from headrace.artifacts import Artifact
from headrace.events.columns import EventColumns
from headrace.events.identity import erasure_mark
from headrace.events.log import EventLog
from headrace.events.schema import ERASE, LOGIN, PURCHASE, RETURN, TYPE_NAMES, VIEW
from headrace.kernels.history import Arena, Csr, Merged, add_session, append_events, n_entries, repack
from headrace.state.items import ItemTable
from headrace.types import Float32, Int8, Int32, Int64, UInt32

MAX_HISTORY = 500
"""Distinct items of a person that fold-in uses, and other entries than purchases kept in memory; the latest win."""

_CHUNK = 65_536


@dataclass(frozen=True, slots=True)
class People:
    """What is known of n people at one moment of the log.

    merged : their histories. sequence : the last event seen. subject_keys : of the log, 0 for strangers.
    banned : the item table's mask at the asked time, now_ms. n_rows : rows of the item table.
    """

    merged: Merged
    sequence: int
    subject_keys: list[int]
    banned: UInt32
    n_rows: int
    now_ms: int


def type_weights(event_weights: dict[str, float]) -> Float32:
    """Confidence weight of one event, by event type as a number; a return weighs what it takes back, a purchase."""
    weights = np.zeros(128, dtype=np.float32)
    for number, name in TYPE_NAMES.items():
        weights[number] = max(0.0, event_weights.get(name.lower(), 0.0))
    weights[RETURN] = weights[PURCHASE]
    return weights


class UserState:
    """Histories by name over one artifact, following one log.

    Thread-safe: changes and reads take turns on one lock, held for some microseconds a person.
    """

    def __init__(self, artifact: Artifact, log: EventLog, items: ItemTable, *, max_history: int = MAX_HISTORY) -> None:
        self.artifact = artifact
        self.log = log
        self.items = items
        self.type_weights = type_weights(artifact.manifest.event_weights)
        self.max_history = max_history
        self._same_log = artifact.manifest.log_id == log.log_id
        self.sequence = artifact.manifest.log_sequence if self._same_log else 0
        self._history = Csr(
            artifact.history_indptr,
            artifact.history_items,
            artifact.history_types,
            artifact.history_weights,
            artifact.history_times_ms,
        )
        self._arena = new_arena(1024, 256)
        self._where = np.full(max(items.n_rows, 1), -1, dtype=np.int32)
        self._slot_of_name: dict[str, int] = {}
        self._slot_of_key: dict[int, int] = {}
        self._name_of_slot: list[str] = []
        self._key_of_slot: list[int] = []
        self._user_idx_of_slot: list[int] = []
        self._erasures = log.erasures()
        self.lock = threading.RLock()

    def catch_up(self) -> int:
        """Follow the log and the catalog to their present ends; returns the sequence of the last event seen."""
        with self.lock:
            while True:
                events = self.log.read(self.sequence, _CHUNK)
                # Items after events: an item is committed with the first event that names it, or before.
                self.items.apply(self.log.item_changes(self.items.change_sequence))
                if not len(events):
                    return self.sequence
                self._apply(events)
                self.sequence = int(events.sequences[-1])

    def gather(self, names: Sequence[str], now_ms: int) -> People:
        """Histories of people by name (see events.identity), with the items that may be shown at that time."""
        with self.lock:
            slots = [self._find(name) if name else -1 for name in names]
            keys = [self._key_of_slot[slot] if slot >= 0 else 0 for slot in slots]
            users = [self._user_idx_of_slot[slot] if slot >= 0 else -1 for slot in slots]
            merged = self.merge(np.array(users, dtype=np.int32), np.array(slots, dtype=np.int32), self._arena)
            return People(merged, self.sequence, keys, self.items.banned(now_ms), self.items.n_rows, now_ms)

    def strangers(self, n: int, now_ms: int) -> People:
        """n people of whom nothing is looked up, with the items that may be shown at that time."""
        with self.lock:
            return People(_merged(n, 0), self.sequence, [0] * n, self.items.banned(now_ms), self.items.n_rows, now_ms)

    def with_session(self, people: People, indptr: Int64, rows: Int32) -> People:
        """The same people, for each of whom the rows of a session count as views just now.

        indptr, rows : (n + 1,) int64 and int32, rows of the item table, oldest first. Where views weigh nothing, the
        least weight of any event is taken.
        """
        weight = float(self.type_weights[VIEW]) or float(self.type_weights[self.type_weights > 0].min())
        return replace(people, merged=with_session(people.merged, indptr, rows, weight, people.now_ms))

    def knows(self, name: str) -> bool:
        """True when the artifact or the log has something of the name that may be used."""
        with self.lock:
            return self._find(name) >= 0

    def _find(self, name: str) -> int:
        """The slot of a name, made on first use for people whom only the artifact knows; -1 for strangers."""
        slot = self._slot_of_name.get(name, -1)
        if slot >= 0:
            return slot
        user_idx = self.artifact.user_ids.find(name)
        if user_idx < 0:
            return -1
        # Whoever did anything in a log that the artifact was not trained on has a slot by now.
        key, created = self.log.subject(name) if self._same_log else (0, 0)
        if not self._usable(name, key, created):
            return -1
        return self._add_slot(name, key, user_idx)

    def _usable(self, name: str, key: int, created_sequence: int) -> bool:
        """Whether the artifact's row is this person's, and not that of one erased since under the same name."""
        if self._same_log:
            return key != 0 and created_sequence <= self.artifact.manifest.log_sequence
        return erasure_mark(self.log.log_id, name) not in self._erasures if self._erasures else True

    def _add_slot(self, name: str, key: int, user_idx: int) -> int:
        slot = len(self._name_of_slot)
        if slot >= len(self._arena.start):
            self._arena = _with_slots(self._arena, 2 * slot)
        self._name_of_slot.append(name)
        self._key_of_slot.append(key)
        self._user_idx_of_slot.append(user_idx)
        self._slot_of_name[name] = slot
        if key:
            self._slot_of_key[key] = slot
        return slot

    def _apply(self, events: EventColumns) -> None:
        if (events.types == ERASE).any():
            self._erasures = self.log.erasures()
        self._name_subjects(events)
        special = np.flatnonzero(events.types >= LOGIN)
        first = 0
        for position in special.tolist():
            self._append(events, first, position)
            if events.types[position] == LOGIN:
                self._login(int(events.subject_keys[position]), int(events.anonymous_keys[position]))
            elif events.types[position] == ERASE:
                self._erase(int(events.subject_keys[position]))
            first = position + 1
        self._append(events, first, len(events))

    def _name_subjects(self, events: EventColumns) -> None:
        """Give a slot to every subject of the events that still has a name."""
        keys = np.unique(np.concatenate((events.subject_keys, events.anonymous_keys))).tolist()
        unknown = [key for key in keys if key and key not in self._slot_of_key]
        for key, name in self.log.names(unknown).items():
            slot = self._slot_of_name.get(name, -1)
            if slot >= 0 and not self._key_of_slot[slot]:
                self._forget(slot)
            user_idx = self.artifact.user_ids.find(name)
            if user_idx >= 0 and not self._usable(name, *self.log.subject(name)):
                user_idx = -1
            self._add_slot(name, key, user_idx)

    def _append(self, events: EventColumns, first: int, last: int) -> None:
        part = slice(first, last)
        distinct, inverse = np.unique(events.subject_keys[part], return_inverse=True)
        slots = np.array([self._slot_of_key.get(key, -1) for key in distinct.tolist()], dtype=np.int32)[inverse]
        types = events.types[part]
        used = (slots >= 0) & (self.type_weights[types] > 0) & (events.item_keys[part] > 0)
        if not used.any():
            return
        rows = self.items.rows_of_keys(events.item_keys[part][used])
        counts = np.ones(len(rows), dtype=np.float32)
        self._append_entries(slots[used], rows, types[used], counts, events.times_ms[part][used])

    def _append_entries(self, slots: Int32, rows: Int32, types: Int8, counts: Float32, times_ms: Int64) -> None:
        touched, n_new = np.unique(slots, return_counts=True)
        # A slot that doubles until it holds m entries leaves less than 4 m behind.
        needed = int((4 * (self._arena.length[touched].astype(np.int64) + n_new + 4)).sum())
        self._reserve(needed)
        append_events(self._arena, slots, rows, types, counts, times_ms, self.max_history)

    def _reserve(self, n_entries: int) -> None:
        arena = self._arena
        if arena.tail[0] + n_entries <= len(arena.rows):
            return
        live = int(arena.capacity.astype(np.int64).sum())
        fresh = new_arena(2 * (live + n_entries), 0)._replace(
            start=arena.start, length=arena.length, capacity=arena.capacity
        )
        repack(arena, fresh)
        self._arena = fresh

    def _login(self, user_key: int, anonymous_key: int) -> None:
        """Move the visitor's history to the user, as if the user had made it."""
        visitor = self._slot_of_key.get(anonymous_key, -1)
        user = self._slot_of_key.get(user_key, -1)
        if visitor < 0 or user == visitor:
            return
        if user >= 0:
            self._copy(visitor, user)
        self._arena.length[visitor] = 0
        self._user_idx_of_slot[visitor] = -1

    def _copy(self, source: int, target: int) -> None:
        arena, user_idx = self._arena, self._user_idx_of_slot[source]
        span = slice(arena.start[source], arena.start[source] + arena.length[source])
        parts = [(arena.rows[span], arena.types[span], arena.counts[span], arena.times_ms[span])]
        if user_idx >= 0:
            history = self._history
            span = slice(history.indptr[user_idx], history.indptr[user_idx + 1])
            types, weights = history.types[span], np.abs(history.weights[span])
            units = self.type_weights[types]
            counts = np.divide(weights, units, out=np.zeros_like(weights), where=units > 0)
            parts.insert(0, (history.rows[span], types, counts, history.times_ms[span]))
        rows, types, counts, times_ms = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        if len(rows):
            self._append_entries(np.full(len(rows), target, dtype=np.int32), rows, types, counts, times_ms)

    def _erase(self, key: int) -> None:
        slot = self._slot_of_key.pop(key, -1)
        if slot >= 0:
            self._forget(slot)
        if not self._same_log:
            # The name behind an erasure is gone; those known from the artifact alone are looked up again.
            for keyless in [s for s, k in enumerate(self._key_of_slot) if not k and self._name_of_slot[s]]:
                self._forget(keyless)

    def _forget(self, slot: int) -> None:
        name = self._name_of_slot[slot]
        if self._slot_of_name.get(name) == slot:  # else someone new goes by the name
            del self._slot_of_name[name]
        self._name_of_slot[slot] = ""
        self._key_of_slot[slot] = 0
        self._user_idx_of_slot[slot] = -1
        self._arena.length[slot] = 0

    def merge(self, users: Int32, slots: Int32, arena: Arena) -> Merged:
        """Histories from the artifact's users and an arena's slots, -1 for none; the caller holds the lock."""
        if len(self._where) < self.items.n_rows:
            self._where = np.full(2 * self.items.n_rows, -1, dtype=np.int32)
        known = self._history
        out = _merged(len(users), n_entries(known.indptr, arena.length, users, slots))
        gather(
            known.indptr, known.rows, known.types, known.weights, known.times_ms,
            arena.start, arena.length, arena.rows, arena.types, arena.counts, arena.times_ms,
            users, slots, self.type_weights, self._where,
            out.indptr, out.rows, out.weights, out.n_bought, out.last_ms, out.last_bought_ms,
            out.n_events, out.last_event_ms,
        )  # fmt: skip
        return out


def new_arena(size: int, n_slots: int) -> Arena:
    """An empty arena with room for some entries and slots."""
    return Arena(
        rows=np.empty(size, dtype=np.int32),
        types=np.empty(size, dtype=np.int8),
        counts=np.empty(size, dtype=np.float32),
        times_ms=np.empty(size, dtype=np.int64),
        start=np.zeros(n_slots, dtype=np.int64),
        length=np.zeros(n_slots, dtype=np.int32),
        capacity=np.zeros(n_slots, dtype=np.int32),
        tail=np.zeros(1, dtype=np.int64),
    )


def with_session(merged: Merged, indptr: Int64, rows: Int32, weight: float, now_ms: int) -> Merged:
    """Histories with the rows of sessions added as events of a weight, the last of each at ``now_ms``."""
    out = _merged(len(merged.n_events), len(merged.rows) + len(rows))
    add_session(merged, indptr, rows, weight, now_ms, out)
    return out


def _with_slots(arena: Arena, n_slots: int) -> Arena:
    def longer(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.concatenate((array, np.zeros(n_slots - len(array), dtype=array.dtype)))

    return arena._replace(start=longer(arena.start), length=longer(arena.length), capacity=longer(arena.capacity))


def _merged(n: int, size: int) -> Merged:
    return Merged(
        indptr=np.zeros(n + 1, dtype=np.int64),
        rows=np.empty(size, dtype=np.int32),
        weights=np.empty(size, dtype=np.float32),
        n_bought=np.empty(size, dtype=np.float32),
        last_ms=np.empty(size, dtype=np.int64),
        last_bought_ms=np.empty(size, dtype=np.int64),
        n_events=np.zeros(n, dtype=np.float32),
        last_event_ms=np.zeros(n, dtype=np.int64),
    )
