"""The ledger's tables in the embedded store, and the one way into its journal.

The journal is a prefix or nothing: after one failed write no later record is committed until the owner has recovered.
"""

from __future__ import annotations

import hashlib
import sqlite3
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from headrace.errors import LedgerNotOwnerError, StoreError
from headrace.events.store import Store
from headrace.ledger.sql import Sql

Query = Callable[[str, tuple[object, ...]], list[tuple[Any, ...]]]
"""Runs a query and returns all its rows."""

Extra = Callable[[Sql, int], object]
"""Writes more rows in the commit of some records; takes their sequence, 0 where there are none."""

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("state", "u1"),
        ("exchange", "<u2"),
        ("account", "<i4"),
        ("lease", "<i8"),
        ("serial", "<u4"),
        ("day", "<i4"),
        ("a", "<i8"),
        ("b", "<i8"),
        ("time_ms", "<i8"),
    ]
)
"""One journal record, as native/include/headrace/records.hpp lays it out."""

GRANT, SETTLE, LEASE = 1, 3, 5

SNAPSHOT_EVERY_MS = 24 * 3600 * 1000
"""Snapshots that are kept for auditors lie at least so far apart."""

DIGEST_BYTES = 32
_STAMP = struct.Struct("<qq")

LEASE_LIFE_MS = 2 * 24 * 3600 * 1000
"""Longer than any lease reserves: the longest budget day, and then some."""

TABLES = (
    "CREATE TABLE IF NOT EXISTS ledger_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS ledger_accounts(
        account_number INTEGER PRIMARY KEY, account_id TEXT NOT NULL UNIQUE, parent INTEGER NOT NULL,
        currency TEXT NOT NULL, time_zone TEXT, mode INTEGER NOT NULL, expire_after_ms INTEGER NOT NULL,
        lifetime_micros INTEGER, daily_micros INTEGER, flight_start_ms INTEGER NOT NULL,
        flight_end_ms INTEGER NOT NULL, version INTEGER NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS ledger_funds(
        entry_id TEXT PRIMARY KEY, account_number INTEGER NOT NULL, amount_micros INTEGER NOT NULL,
        time_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ledger_funds_account ON ledger_funds(account_number, amount_micros)",
    """CREATE TABLE IF NOT EXISTS ledger_brakes(
        exchange TEXT NOT NULL, advertiser_id TEXT NOT NULL, reason TEXT NOT NULL, who TEXT NOT NULL,
        since_ms INTEGER NOT NULL, PRIMARY KEY(exchange, advertiser_id)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS ledger_audit(
        audit_id INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, why TEXT NOT NULL) STRICT""",
    """CREATE TRIGGER IF NOT EXISTS ledger_audit_no_update BEFORE UPDATE ON ledger_audit
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END""",
    """CREATE TRIGGER IF NOT EXISTS ledger_audit_no_delete BEFORE DELETE ON ledger_audit
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END""",
    # REPLACE deletes without firing the trigger above
    """CREATE TRIGGER IF NOT EXISTS ledger_audit_no_replace BEFORE INSERT ON ledger_audit
        WHEN EXISTS (SELECT 1 FROM ledger_audit WHERE audit_id = NEW.audit_id)
        BEGIN SELECT RAISE(ABORT, 'the audit is immutable'); END""",
    """CREATE TABLE IF NOT EXISTS ledger_journal(
        sequence INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, records BLOB NOT NULL) STRICT""",
    "CREATE TABLE IF NOT EXISTS ledger_snapshots(sequence INTEGER PRIMARY KEY, records BLOB NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS ledger_chain(sequence INTEGER PRIMARY KEY, digest BLOB NOT NULL) STRICT",
    """CREATE TABLE IF NOT EXISTS ledger_leases(
        lease_id INTEGER PRIMARY KEY, settled_ms INTEGER NOT NULL, records BLOB NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS ledger_reconciliation(
        lease_id INTEGER NOT NULL, serial INTEGER NOT NULL, notice_type INTEGER NOT NULL, outcome INTEGER NOT NULL,
        account_number INTEGER NOT NULL, reserved_cpm_micros INTEGER NOT NULL, price_cpm_micros INTEGER,
        time_ms INTEGER NOT NULL, token TEXT NOT NULL,
        PRIMARY KEY(lease_id, serial, notice_type, outcome)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS ledger_notices_pending(
        notice_id INTEGER PRIMARY KEY AUTOINCREMENT, notice_type INTEGER NOT NULL, token TEXT NOT NULL,
        price_cpm_micros INTEGER NOT NULL, time_ms INTEGER NOT NULL) STRICT""",
)


def create_tables(connection: sqlite3.Connection) -> None:
    """Make the ledger's tables where they are not there yet."""
    for statement in TABLES:
        connection.execute(statement)


def query_of(connection: Sql) -> Query:
    """Reads through the writer's own connection, inside its transaction."""
    return lambda text, parameters: connection.execute(text, parameters).fetchall()


def get_meta(query: Query, key: str, default: str = "") -> str:
    """One value of ledger_meta."""
    rows = query("SELECT value FROM ledger_meta WHERE key = ?", (key,))
    return str(rows[0][0]) if rows else default


def set_meta(connection: Sql, key: str, value: str) -> None:
    """Set one value of ledger_meta."""
    connection.execute(
        "INSERT INTO ledger_meta VALUES (?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value", (key, value)
    )


def last_sequence(query: Query) -> int:
    """The newest sequence that the journal or its snapshot reaches."""
    rows = query(
        "SELECT max((SELECT ifnull(max(sequence), 0) FROM ledger_journal), "
        "(SELECT ifnull(max(sequence), 0) FROM ledger_snapshots))",
        (),
    )
    return int(rows[0][0])


class Journal:
    """Commits records in the order of their submission, as the owner of one epoch."""

    def __init__(self, store: Store, clock_ms: Callable[[], int]) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._epoch = ""
        self._lock = threading.Lock()
        self.broken = True
        """True from a failed write until the next recovery; nothing is committed meanwhile."""
        self.n_records = 0
        """Records since the last snapshot."""

    def open(self, epoch: int) -> None:
        """Accept records of this epoch from now on."""
        rows = self._store.read(
            "SELECT ifnull(sum(length(records)), 0) FROM ledger_journal "
            "WHERE sequence > (SELECT ifnull(max(sequence), 0) FROM ledger_snapshots)"
        )
        self.n_records = int(rows[0][0]) // RECORD.itemsize
        self._epoch = str(epoch)
        self.broken = False

    def submit(
        self,
        take: Callable[[], bytes],
        then: Callable[[int], object] | None = None,
        extra: Extra | None = None,
    ) -> Future[int]:
        """Commit what ``take()`` gives; resolves to its sequence (0: no records) after ``then(sequence)`` has run.

        Taking and queueing happen as one step, so rows stand in the journal in the order of their records.
        """
        epoch = self._epoch
        done: Future[int] = Future()
        with self._lock:
            records = take()

            def job(connection: sqlite3.Connection) -> int:
                try:
                    return self._insert(connection, epoch, records, extra)
                except BaseException:
                    self._break(epoch)
                    raise

            committed = self._store.submit(job)

        def settle(result: Future[int]) -> None:
            error = result.exception()
            if error is not None:
                self._break(epoch)
                done.set_exception(error)
                return
            try:
                if then is not None:
                    then(result.result())
            except BaseException as failure:
                self._break(epoch)
                done.set_exception(failure)
                return
            done.set_result(result.result())

        committed.add_done_callback(settle)
        return done

    def condense(
        self,
        snapshot: Callable[[], tuple[bytes, bytes]],
        leases: Sequence[tuple[int, int, bytes]],
        keep_from_ms: int,
    ) -> Future[int]:
        """Commit a snapshot with the records before it, and the rows of leases that left memory.

        Journal rows stay until a snapshot that covers them is older than ``keep_from_ms``, so that the oldest snapshot
        and the rows after it always make the present state; leases whose notices are refused by now are dropped.
        """
        state: list[bytes] = []

        def take() -> bytes:
            records, condensed = snapshot()
            state.append(condensed)
            return records

        def write(connection: Sql, sequence: int) -> None:
            at = sequence or last_sequence(query_of(connection))
            connection.executemany("INSERT OR REPLACE INTO ledger_leases VALUES (?, ?, ?)", leases)
            connection.execute("INSERT OR REPLACE INTO ledger_snapshots VALUES (?, ?)", (at, state[0]))
            _thin_out(connection, keep_from_ms)
            connection.execute("DELETE FROM ledger_leases WHERE settled_ms < ?", (keep_from_ms - LEASE_LIFE_MS,))
            self.n_records = 0

        return self.submit(take, extra=write)

    def _break(self, epoch: str) -> None:
        if epoch == self._epoch:
            self.broken = True

    def _insert(self, connection: sqlite3.Connection, epoch: str, records: bytes, extra: Extra | None) -> int:
        if self.broken or epoch != self._epoch:
            raise StoreError("the ledger's journal waits for recovery", hint="try again; nothing was written")
        sequence = 0
        if records or extra is not None:
            if get_meta(query_of(connection), "epoch") != epoch:
                raise LedgerNotOwnerError("another process has taken the ledger over", hint="restart this one")
            if records:
                sequence = add_records(connection, records, self._clock_ms())
                self.n_records += len(records) // RECORD.itemsize
            if extra is not None:
                extra(connection, sequence)
        return sequence


def add_records(connection: sqlite3.Connection, records: bytes, now_ms: int) -> int:
    """Append one row to the journal; returns its sequence, which never repeats, condensed rows included."""
    sequence = last_sequence(query_of(connection)) + 1
    connection.execute("INSERT INTO ledger_journal VALUES (?, ?, ?)", (sequence, now_ms, records))
    last = connection.execute("SELECT digest FROM ledger_chain ORDER BY sequence DESC LIMIT 1").fetchone()
    digest = chained(last[0] if last else bytes(DIGEST_BYTES), sequence, now_ms, records)
    connection.execute("INSERT INTO ledger_chain VALUES (?, ?)", (sequence, digest))
    return sequence


def chained(before: bytes, sequence: int, time_ms: int, records: bytes) -> bytes:
    """The journal's digest after one more row: BLAKE2b (RFC 7693) over the digest before it and the row."""
    return hashlib.blake2b(before + _STAMP.pack(sequence, time_ms) + records, digest_size=DIGEST_BYTES).digest()


def _thin_out(connection: Sql, keep_from_ms: int) -> None:
    """Drop snapshots that lie close together, and all before the newest snapshot that is older than a moment."""
    kept = connection.execute(
        "SELECT sequence, ifnull((SELECT time_ms FROM ledger_journal AS rows WHERE rows.sequence <= "
        "ledger_snapshots.sequence ORDER BY rows.sequence DESC LIMIT 1), 0) FROM ledger_snapshots ORDER BY sequence"
    ).fetchall()
    if len(kept) >= 3 and kept[-2][1] - kept[-3][1] < SNAPSHOT_EVERY_MS:
        connection.execute("DELETE FROM ledger_snapshots WHERE sequence = ?", (kept[-2][0],))
    opening = max((sequence for sequence, time_ms in kept if time_ms < keep_from_ms), default=0)
    for table in ("ledger_snapshots", "ledger_journal", "ledger_chain"):
        connection.execute(f"DELETE FROM {table} WHERE sequence < ?", (opening,))


def saved_records(query: Query) -> tuple[list[bytes], list[bytes]]:
    """All records that make the present state: the snapshot and the journal after it; then those of archived leases
    that the journal names again."""
    snapshot = query("SELECT sequence, records FROM ledger_snapshots ORDER BY sequence DESC LIMIT 1", ())
    after = snapshot[0][0] if snapshot else 0
    rows = query("SELECT records FROM ledger_journal WHERE sequence > ? ORDER BY sequence", (after,))
    records = [bytes(row[1]) for row in snapshot] + [bytes(row[0]) for row in rows]
    archived: list[bytes] = []
    if snapshot:
        missing = _unknown_leases(records)
        archived = [found for lease in missing if (found := archived_lease(query, lease)) is not None]
    return records, archived


def archived_lease(query: Query, lease: int) -> bytes | None:
    """The records of a lease that is no longer kept in memory; None when there is none."""
    rows = query("SELECT records FROM ledger_leases WHERE lease_id = ?", (lease,))
    return bytes(rows[0][0]) if rows else None


def last_archived_lease(query: Query) -> int:
    """The highest number of a lease that is no longer kept in memory; 0 when there is none."""
    return int(query("SELECT ifnull(max(lease_id), 0) FROM ledger_leases", ())[0][0])


def _unknown_leases(blobs: Sequence[bytes]) -> list[int]:
    known: set[int] = set()
    named: set[int] = set()
    for blob in blobs:
        table = np.frombuffer(blob, RECORD)
        starts = (table["kind"] == GRANT) | (table["kind"] == LEASE)
        known.update(np.unique(table["lease"][starts]).tolist())
        named.update(np.unique(table["lease"][table["kind"] == SETTLE]).tolist())
    return sorted(named - known)
