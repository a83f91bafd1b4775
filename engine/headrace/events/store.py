"""The embedded store: one SQLite database, one writer thread, group commit.

Anything that must survive a crash is a function handed to :meth:`Store.submit`. The writer thread runs all functions
that wait, each inside its own savepoint, commits once (WAL, ``synchronous=FULL``: one fsync) and only then resolves
their futures. A function that raises is rolled back alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from headrace.breaker import Breaker
from headrace.counters import Histogram
from headrace.errors import ConfigError, HeadraceError, OverloadedError, StoreError, StoreFullError
from headrace.events.migrations import bring_up_to_date

T = TypeVar("T")
Job = tuple[Callable[[sqlite3.Connection], Any], "Future[Any]"]

DATABASE = "headrace.db"
"""Name of the database in a data folder."""

MAX_GROUP = 1024
"""Functions in one commit at the most; bounds the wait of the first."""

COMMIT_BOUNDS_S = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper ends of the intervals in which the durations of commits are counted, seconds."""

_log = logging.getLogger("headrace.store")

_FULL_CODES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


class Store:
    """One SQLite database with one writer thread a process; processes take turns by SQLite's own lock.

    path : the database file; created with its folder when absent.
    schema : statements run at opening, each idempotent (``CREATE TABLE IF NOT EXISTS … STRICT``).

    A database of an older schema version is migrated, after a copy (see headrace.events.migrations).

    Attributes for observers: ``commits``, durations of commits in seconds, and ``n_failed``, commits that failed.

    Attribute ``breaker`` hears of every commit too. The store itself takes all that it is given, open or not: who can
    wait asks the breaker first, and money never has to.

    Raises ConfigError when the folder cannot be made, StoreError when the file is no database, cannot be opened, or was
    written by a later version.
    """

    def __init__(self, path: Path, schema: str = "") -> None:
        self.path = Path(path)
        self.breaker = Breaker()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            hint = "name a folder that can be written to"
            raise ConfigError(f"{self.path.parent} cannot be made: {error.strerror}", hint=hint) from error
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self.commits = Histogram(COMMIT_BOUNDS_S)
        self.n_failed = 0
        self._closed = False
        self._submit_lock = threading.Lock()
        # as many as ever read at once; not one a thread, since threads that end would leave theirs open
        self._readers: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []
        try:
            self._writer = self._connect()
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        self._opened = _identity(self.path)
        try:
            self._prepare(schema)
        except BaseException:
            self._writer.close()
            raise
        self._thread = threading.Thread(target=self._run, name="headrace-store", daemon=True)
        self._thread.start()

    def _prepare(self, schema: str) -> None:
        try:
            copy = bring_up_to_date(self._writer, self.path)
            self._writer.executescript(schema)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        if copy is not None:
            _log.warning("%s was migrated to this version; %s is how it was", self.path, copy.name)

    def check_place(self) -> None:
        """Raise StoreError when the file at the path is not the open one any more, as after a restore beside it."""
        if _identity(self.path) != self._opened:
            raise StoreError(f"{self.path} was moved or replaced", hint="restart this process; nothing was written")

    @property
    def n_waiting(self) -> int:
        """Functions that wait for their commit, about."""
        return self._jobs.qsize()

    def submit(self, function: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run ``function(connection)`` in the next commit; the future resolves once that commit is on disk."""
        future: Future[T] = Future()
        with self._submit_lock:
            if self._closed:
                raise StoreError("the store is closed", hint="nothing was written")
            self._jobs.put((function, future))
        return future

    def write(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """:meth:`submit`, then wait for the commit."""
        return self.submit(function).result()

    def read(self, query: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query over what is committed; any thread may call."""
        connection = self._reader()
        try:
            return list(connection.execute(query, parameters))
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            self._idle.append(connection)

    def _reader(self) -> sqlite3.Connection:
        """A connection that nobody uses; whoever takes it gives it back."""
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        connection = self._connect(read_only=True)
        self._readers.append(connection)
        return connection

    def close(self) -> None:
        """Commit what waits, then close. Safe to call twice."""
        with self._submit_lock:
            if self._closed:
                return
            self._closed = True
            self._jobs.put(None)
        self._thread.join()
        for connection in (*self._readers, self._writer):
            connection.close()

    def _connect(self, *, read_only: bool = False) -> sqlite3.Connection:
        # autocommit: transactions are begun and ended by the writer loop alone
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5.0)
        settings = ["journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "foreign_keys = ON"]
        try:
            for setting in [*settings, "query_only = ON"] if read_only else settings:
                connection.execute(f"PRAGMA {setting}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _run(self) -> None:
        running = True
        while running:
            group = [self._jobs.get()]
            while len(group) < MAX_GROUP:
                try:
                    group.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            running = group[-1] is not None
            self._commit([job for job in group if job is not None])

    def _commit(self, group: list[Job]) -> None:
        done: list[tuple[Future[Any], Any]] = []
        began = time.monotonic()
        try:
            if self._writer.in_transaction:  # the last one could not even be taken back
                self._writer.execute("ROLLBACK")
            self._writer.execute("BEGIN IMMEDIATE")
            self.check_place()  # what is written to a folder that was put aside is lost to whoever serves its successor
            for function, future in group:
                if future.set_running_or_notify_cancel():
                    self._run_one(function, future, done)
            self._writer.execute("COMMIT")
        except Exception as error:  # whatever it is, every caller of the group must learn of it
            cause = translate(error, self.path)
            self.n_failed += 1
            with contextlib.suppress(sqlite3.Error):  # a disk that fails may fail here too; the callers must hear of it
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
            self.breaker.failed()
            for _, future in group:
                if not future.done():
                    future.set_exception(cause)
            return
        self.commits.add(time.monotonic() - began)
        self.breaker.succeeded()
        for future, result in done:
            future.set_result(result)

    def _run_one(
        self, function: Callable[[sqlite3.Connection], Any], future: Future[Any], done: list[tuple[Future[Any], Any]]
    ) -> None:
        self._writer.execute("SAVEPOINT job")
        try:
            result = function(self._writer)
        except Exception as error:
            if _is_full(error) or not self._writer.in_transaction:
                raise
            self._writer.execute("ROLLBACK TO job")
            self._writer.execute("RELEASE job")
            future.set_exception(translate(error, self.path))
            return
        self._writer.execute("RELEASE job")
        done.append((future, result))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _is_full(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _FULL_CODES


def translate(error: Exception, path: Path) -> Exception:
    """What an error of SQLite's on a file means to the reader; any other error as it is."""
    if isinstance(error, HeadraceError) or not isinstance(error, sqlite3.Error):
        return error
    if _is_full(error):
        return StoreFullError(f"{path} cannot grow: {error}", hint="free space on its device; nothing was lost")
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return OverloadedError(f"{path} is busy in another process", hint="try again")
    hints = {
        sqlite3.SQLITE_NOTADB: "name another folder, or restore the file",
        sqlite3.SQLITE_CORRUPT: "restore the file from a backup",
        sqlite3.SQLITE_CANTOPEN: "check the folder and its permissions",
        sqlite3.SQLITE_READONLY: "check the file's and the folder's permissions",
    }
    return StoreError(f"{path}: {error}", hint=hints.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, ""))
