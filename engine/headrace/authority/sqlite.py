"""SQLite as the authority: one file, for processes of one host."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from headrace.authority.registration import note_place
from headrace.authority.schema import ADDED, IMMUTABLE, SERIAL_OF, TABLES
from headrace.errors import AuthorityUnreachableError
from headrace.ledger.sql import Sql

T = TypeVar("T")

_log = logging.getLogger("headrace.authority")


class SqliteDatabase:
    """One file in WAL mode; a commit is on disk before it is answered.

    timeout_ms : how long a call waits for other processes.
    """

    clock = ""

    def __init__(self, path: Path, timeout_ms: int) -> None:
        self.path = path
        self._timeout_s = timeout_ms / 1000
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def write(self, job: Callable[[Sql], T]) -> T:
        """See `Database`."""
        return self._run("BEGIN IMMEDIATE", job)

    def read(self, job: Callable[[Sql], T]) -> T:
        """See `Database`."""
        return self._run("BEGIN", job)

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            self._drop()

    def _run(self, begin: str, job: Callable[[Sql], T]) -> T:
        with self._lock:
            try:
                connection = self._connected()
                connection.execute(begin)
                try:
                    result = job(connection)
                    connection.execute("COMMIT")
                    return result
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.OperationalError, sqlite3.InterfaceError, OSError) as error:
                self._drop()
                raise AuthorityUnreachableError(f"the authority {self.path} does not answer: {error}") from error
            except sqlite3.DatabaseError as error:
                self._drop()
                if isinstance(error, sqlite3.IntegrityError):
                    raise
                raise AuthorityUnreachableError(f"the authority {self.path} cannot be used: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None:
            return self._connection
        if not self.path.parent.is_dir():  # a folder by a typo would be an authority without money
            raise FileNotFoundError(f"its folder {self.path.parent} is not there")
        new = not self.path.exists()
        connection = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, timeout=self._timeout_s, cached_statements=512
        )
        try:
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                connection.execute(f"PRAGMA {setting}")
            connection.execute("BEGIN IMMEDIATE")
            for statement in _schema():
                connection.execute(statement)
            for table, column, kind in ADDED:
                named = f"SELECT 1 FROM pragma_table_info('{table}') WHERE name = '{column}'"
                if connection.execute(named).fetchone() is None:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
            found = self.path.stat()
            note_place(connection, f"{found.st_dev}/{found.st_ino}")  # a backup is another file, as a rule
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        if new:
            _log.warning("%s was not there: a new authority without any account was made", self.path)
        self._connection = connection
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None


def _schema() -> list[str]:
    serial = "INTEGER PRIMARY KEY AUTOINCREMENT"
    statements = [
        statement.replace("SERIAL_KEY", serial) + (" STRICT" if statement.startswith("CREATE TABLE") else "")
        for statement in TABLES
    ]
    for table in IMMUTABLE:
        abort = f"BEGIN SELECT RAISE(ABORT, '{table} is immutable'); END"
        key = SERIAL_OF[table]
        # REPLACE deletes without firing the trigger of deletes
        again = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})"
        statements += [
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_update BEFORE UPDATE ON {table} {abort}",
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_delete BEFORE DELETE ON {table} {abort}",
            f"CREATE TRIGGER IF NOT EXISTS {table}_no_replace BEFORE INSERT ON {table} {again} {abort}",
        ]
    return statements
