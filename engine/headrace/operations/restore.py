"""From a backup back to a data folder, whose ledger bids only after an operator has looked."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace import durable
from headrace.durable import PRIVATE
from headrace.errors import AlreadyExistsError
from headrace.events.migrations import bring_up_to_date
from headrace.events.store import DATABASE, translate
from headrace.ledger.budgets import put_fence
from headrace.ledger.journal import create_tables, set_meta
from headrace.operations.backup import BackupManifest, verify
from headrace.operations.folders import new_folder, stopped

SEQUENCE_GAP = 10**12
"""Event sequences left out at a restore: those given out since the backup must never be given to other events, since
artifacts and callers hold them."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, and where the folder went that was in its place (None: there was none)."""

    manifest: BackupManifest
    moved_to: Path | None


def restore(backup: Path, data: Path, *, move_old: bool = False) -> Restored:
    """Verify a backup and make a data folder of it; the ledger in it is fenced before the folder has its name.

    data : where nothing is, or, with ``move_old``, a folder that is moved aside and kept.

    Raises NotFoundError, DataError, StoreError for a backup of a later version, AlreadyExistsError for a folder that is
    not empty, PreconditionError while a server runs on it.
    """
    manifest = verify(backup)
    occupied = data.exists() and (not data.is_dir() or any(data.iterdir()))
    if occupied and not move_old:
        hint = "name another folder, or say --move-old to keep it under another name"
        raise AlreadyExistsError(f"{data} is not empty", hint=hint)
    moved_to = None
    with new_folder(data) as draft:
        for name in manifest.files:
            shutil.copyfile(backup / name, draft / name)
            (draft / name).chmod(PRIVATE)
        _begin_anew(draft / DATABASE, manifest)
        for name in manifest.files:
            durable.sync(draft / name)
        if occupied:
            moved_to = _move_aside(data)
    return Restored(manifest, moved_to)


def _move_aside(data: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    moved_to = data.with_name(f"{data.name}.before-{stamp}")
    with stopped(data):
        data.rename(moved_to)
    return moved_to


def _begin_anew(database: Path, manifest: BackupManifest) -> None:
    """Fence the ledger, give it an identity that no file of reservations knows, and leave out what was numbered since.

    Journal, leases and tokens stay: a bill of a reservation from before the backup settles against it, one
    from after it is kept for reconciliation.
    """
    now_ms = time.time_ns() // 1_000_000
    taken = datetime.fromtimestamp(manifest.created_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = FULL")
            bring_up_to_date(connection, database)
            connection.execute("BEGIN IMMEDIATE")
            create_tables(connection)
            put_fence(connection, f"restored from the backup of {taken}", (now_ms, "restore", "headrace restore"))
            set_meta(connection, "ledger_id", str(secrets.randbits(63)))
            _skip_sequences(connection)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise translate(error, database) from error


def _skip_sequences(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
        return
    last = connection.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'events'").fetchone()[0]
    connection.execute("DELETE FROM sqlite_sequence WHERE name = 'events'")
    connection.execute("INSERT INTO sqlite_sequence(name, seq) VALUES ('events', ?)", ((last or 0) + SEQUENCE_GAP,))
