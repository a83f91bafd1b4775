"""The append-only record of what people did, over the embedded store.

The log is the truth: all online state follows from it and an artifact. Time is the event's own, never a clock's.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headrace.events import columns, ingest, items
from headrace.events.columns import EventColumns, TrainingColumns
from headrace.events.identity import ensure_subject, erase_subject, split_name, subject_name
from headrace.events.ingest import Texts
from headrace.events.items import CatalogItem, ItemChange
from headrace.events.schema import ERASE, LOGIN, STATEMENTS
from headrace.events.store import Store
from headrace.types import Float64, Int8, Int64

READ_LIMIT = 65_536
"""Events in one answer of :meth:`EventLog.read`, unless told otherwise."""


class NewEvent(NamedTuple):
    """One event to store; fields as in events.proto, checked by the caller."""

    event_id: str
    user_id: str
    anonymous_id: str
    type: int
    item_id: str
    time_ms: int
    quantity: float = 1.0
    price_micros: int = 0
    channel: str = ""
    request_id: str = ""
    position: int = -1


class Appended(NamedTuple):
    """What became of an append: the log's last sequence, how many events were new, how many were known."""

    sequence: int
    accepted: int
    duplicates: int


class Slate(NamedTuple):
    """One answered slate; item_ids is a JSON list in order of position."""

    request_id: str
    time_ms: int
    subject_key: int
    artifact_version: str
    tier: int
    surface: str
    item_ids: str


_INSERT = (
    "INSERT INTO events (event_id, subject_key, anonymous_key, type, item_key, time_ms, quantity, price_micros, "
    "channel, request_id, position) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (event_id) DO NOTHING"
)

_DROP_SLATES = (
    "DELETE FROM slates WHERE request_id IN (SELECT request_id FROM slates WHERE time_ms < ? ORDER BY time_ms LIMIT ?)"
)


class EventLog:
    """Events, the ids of people, the catalog and the slates that were shown, in one store.

    store : shared with others that keep their own tables in it; not closed here.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.log_id: str = store.write(_prepare)

    def append(self, events: Sequence[NewEvent]) -> Appended:
        """Store events durably, all or none; an event id counts once. Raises StoreError."""
        return self.append_async(events).result()

    def append_async(self, events: Sequence[NewEvent]) -> Future[Appended]:
        """:meth:`append`; the future resolves after the commit."""
        return self.store.submit(lambda connection: _append(connection, events))

    def append_columns(
        self,
        *,
        user_ids: Any,
        item_ids: Any,
        times_ms: Int64,
        types: Int8,
        quantities: Float64,
        prices_micros: Int64,
        channels: Any,
        event_ids: Any = None,
    ) -> Appended:
        """Store many events of users, in commits of some thousands; after an interruption, call again with the same.

        Columns as in ingest.IngestColumns; texts as lists, NumPy or Arrow arrays. Without event ids each row's id
        follows from its content and from the number of equal rows before it, so a whole file must come in one call.
        Raises DataError naming column and row, StoreError.
        """
        users, things = Texts.of(user_ids, "user_ids"), Texts.of(item_ids, "item_ids")
        places = Texts.of(channels, "channels")
        times, prices = np.ascontiguousarray(times_ms, np.int64), np.ascontiguousarray(prices_micros, np.int64)
        kinds, amounts = np.ascontiguousarray(types, np.int8), np.ascontiguousarray(quantities, np.float64)
        ingest.check_lengths((users.codes, things.codes, places.codes, times, kinds, amounts, prices))
        if event_ids is None:
            names = ingest.content_ids(users, things, places, (times, kinds.astype(np.int64), amounts, prices))
        else:
            names = [str(name) for name in (event_ids.to_pylist() if hasattr(event_ids, "to_pylist") else event_ids)]
        ingest.check_lengths((times, names))
        batch = ingest.IngestColumns(users, things, times, kinds, amounts, prices, places, names)
        return Appended(*ingest.append(self.store, batch))

    def sequence(self) -> int:
        """Sequence of the last committed event; 0 for an empty log."""
        return int(self.store.read("SELECT coalesce(max(sequence), 0) FROM events")[0][0])

    def read(self, since: int, limit: int = READ_LIMIT) -> EventColumns:
        """The events after sequence ``since``, at most ``limit``."""
        return columns.read(self.store, since, limit)

    def read_columns(self, until_ms: int | None = None) -> TrainingColumns:
        """All item events of people not erased, before ``until_ms`` when given, with logins resolved, for columns."""
        return columns.read_training(self.store, self.log_id, until_ms)

    def export_parquet(self, path: Path, until_sequence: int) -> int:
        """Write the events up to a sequence to a Parquet file without any external id; returns their number."""
        return columns.export_parquet(self.store, path, until_sequence)

    def erase(self, name: str, time_ms: int, *, even_unknown: bool = False) -> bool:
        """Forget a person (see identity.erase_subject); False when the log does not know the name.

        ``even_unknown`` records the erasure of a name that only an artifact knows. What was deleted is also gone from
        the write-ahead log when this returns.
        """
        log_id = self.log_id

        def job(connection: sqlite3.Connection) -> bool:
            known = bool(connection.execute(_FIND, split_name(name)).fetchone())
            if known or even_unknown:
                erase_subject(connection, log_id, name, time_ms)
            return known

        known = self.store.write(job)
        if known or even_unknown:
            self._truncate_wal()
        return known

    def subject(self, name: str) -> tuple[int, int]:
        """Key and creation sequence of a subject; zeros when the name is not known."""
        rows = self.store.read(_FIND, split_name(name))
        return (int(rows[0][0]), int(rows[0][1])) if rows else (0, 0)

    def names(self, subject_keys: Sequence[int]) -> dict[int, str]:
        """Names of those subjects that still have one."""
        return columns.names_of(self.store, subject_keys)

    def erased_since(self, sequence: int) -> tuple[int, list[int]]:
        """The log's last sequence, and the keys of the subjects that were erased after a given one."""
        last = self.sequence()
        query = "SELECT subject_key FROM events WHERE sequence > ? AND sequence <= ? AND type = ?"
        return last, [row[0] for row in self.store.read(query, (sequence, last, ERASE))] if last > sequence else []

    def erasures(self) -> frozenset[bytes]:
        """Marks (identity.erasure_mark) of all names erased at any time."""
        return frozenset(row[0] for row in self.store.read("SELECT mark FROM erasures"))

    def upsert_items(self, catalog_items: Sequence[CatalogItem]) -> int:
        """Create or replace catalog items durably, all or none; returns their number."""
        return self.store.write(lambda connection: items.upsert(connection, catalog_items))

    def delete_items(self, item_ids: Sequence[str], known: Sequence[bool]) -> int:
        """Take items out of answers; ``known`` says which ids the artifact knows. Returns how many were known."""
        return self.store.write(lambda connection: items.delete(connection, item_ids, known))

    def item_changes(self, since_change: int) -> list[ItemChange]:
        """Items created or changed after a change sequence, by item_key."""
        return items.changes(self.store, since_change)

    def append_slates(self, slates: Sequence[Slate], keep_from_ms: int | None = None) -> Future[None]:
        """Store slates; the future resolves after the commit.

        In the same commit slates shown before ``keep_from_ms`` are dropped, the oldest first, at most two for each new.
        """
        return self.store.submit(lambda connection: _append_slates(connection, slates, keep_from_ms))

    def _truncate_wal(self) -> None:
        # Its own connection, because a checkpoint cannot run inside the writer's transactions.
        connection = sqlite3.connect(self.store.path, isolation_level=None, timeout=5.0)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()


_FIND = "SELECT subject_key, created_sequence FROM subjects WHERE kind = ? AND external_id = ?"


def _prepare(connection: sqlite3.Connection) -> str:
    # The unique index over event ids must stay in memory, and each page reach the file once in many commits.
    connection.execute("PRAGMA cache_size = -131072")
    connection.execute("PRAGMA wal_autocheckpoint = 16384")
    for statement in STATEMENTS:
        connection.execute(statement)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('log_id', ?)", (uuid.uuid4().hex,))
    return str(connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()[0])


def _append(connection: sqlite3.Connection, events: Sequence[NewEvent]) -> Appended:
    accepted = sum(_append_one(connection, event) for event in events)
    last = connection.execute("SELECT max(sequence) FROM events").fetchone()[0]
    return Appended(int(last or 0), accepted, len(events) - accepted)


def _append_one(connection: sqlite3.Connection, event: NewEvent) -> int:
    # Looked up first, so that a duplicate creates neither a subject nor an item.
    if connection.execute("SELECT 1 FROM events WHERE event_id = ?", (event.event_id,)).fetchone():
        return 0
    anonymous = ensure_subject(connection, subject_name("", event.anonymous_id)) if event.type == LOGIN else 0
    subject = ensure_subject(connection, subject_name(event.user_id, event.anonymous_id))
    item = items.ensure(connection, event.item_id) if event.item_id else 0
    connection.execute(_INSERT, (event.event_id, subject, anonymous, event.type, item, *event[5:]))
    return 1


def _append_slates(connection: sqlite3.Connection, slates: Sequence[Slate], keep_from_ms: int | None) -> None:
    connection.executemany("INSERT OR IGNORE INTO slates VALUES (?, ?, ?, ?, ?, ?, ?)", slates)
    if keep_from_ms is not None:
        connection.execute(_DROP_SLATES, (keep_from_ms, 2 * len(slates)))
