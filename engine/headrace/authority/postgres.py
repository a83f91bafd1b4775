"""PostgreSQL as the authority, for processes of several hosts."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.authority.registration import note_place
from headrace.authority.schema import ADDED, IMMUTABLE, TABLES
from headrace.errors import AuthorityUnreachableError, ConfigError
from headrace.ledger.sql import Rows, Sql

if TYPE_CHECKING:
    import psycopg

T = TypeVar("T")

LOCK = 0x68656164
"""The advisory lock that every writing transaction holds: one writer at a time, as in SQLite."""

ATTEMPTS = 5

ROWS_AT_ONCE = 500
"""Rows of one statement."""

_VALUES = re.compile(r"VALUES (\([?, ]+\))")

PLACE = (
    "SELECT concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), current_database(), "
    "'ledger_meta'::regclass::oid)"
)
"""Another one for every run of a server, and for tables that were restored: either may lack commits."""


class PostgresDatabase:
    """One connection to a PostgreSQL database; opened when first used and again after it was lost.

    url : as libpq reads it, without a password.
    timeout_ms : how long connecting, a statement or a lock may take.
    password_file : a file whose text is the password; empty: what libpq finds by itself.

    Raises ConfigError where psycopg is not installed or the file cannot be read.
    """

    clock = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"

    def __init__(self, url: str, timeout_ms: int, password_file: str = "") -> None:
        try:
            import psycopg
        except ImportError as error:
            hint = "pip install headrace[postgres]"
            raise ConfigError("authority.url names PostgreSQL, but psycopg is not installed", hint=hint) from error
        self._psycopg = psycopg
        self._url = url
        self._timeout_ms = timeout_ms
        self._password = _secret(password_file)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def write(self, job: Callable[[Sql], T]) -> T:
        """See `Database`."""
        return self._run(("BEGIN ISOLATION LEVEL READ COMMITTED", f"SELECT pg_advisory_xact_lock({LOCK})"), job)

    def read(self, job: Callable[[Sql], T]) -> T:
        """See `Database`."""
        return self._run(("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",), job)

    def close(self) -> None:
        """See `Database`."""
        with self._lock:
            self._drop()

    def _run(self, begin: Sequence[str], job: Callable[[Sql], T]) -> T:
        errors = self._psycopg
        with self._lock:
            for attempt in range(ATTEMPTS):
                try:
                    return self._once(begin, job)
                except (errors.errors.SerializationFailure, errors.errors.DeadlockDetected) as error:
                    if attempt == ATTEMPTS - 1:  # the server says that nothing was done
                        raise AuthorityUnreachableError(f"the authority is too busy: {error}") from error
                except (errors.OperationalError, errors.InterfaceError, errors.errors.ReadOnlySqlTransaction) as error:
                    self._drop()
                    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                    raise AuthorityUnreachableError(f"the authority does not answer: {text}") from error
        raise AssertionError("the last attempt returns or raises")

    def _once(self, begin: Sequence[str], job: Callable[[Sql], T]) -> T:
        """One transaction; what needs no answer is sent along with what does, and with the commit."""
        connection = self._connected()
        try:
            with connection.pipeline():
                for statement in begin:
                    connection.execute(statement)
                result = job(_Portable(connection))
                connection.execute("COMMIT")
            return result
        except BaseException:
            try:
                connection.execute("ROLLBACK")
            except self._psycopg.Error:
                self._drop()
            raise

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is not None:
            return self._connection
        limit = self._timeout_ms
        options = (
            f"-c statement_timeout={limit} -c lock_timeout={limit} -c idle_in_transaction_session_timeout={limit} "
            "-c synchronous_commit=on"
        )
        connection = self._psycopg.connect(
            self._url,
            autocommit=True,  # transactions are begun and ended here
            connect_timeout=max(2, -(-limit // 1000)),
            tcp_user_timeout=limit,
            target_session_attrs="read-write",  # after a failover: not the standby that it was before
            application_name="headrace",
            options=options,
            password=self._password or None,
        )
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                for statement in _schema():
                    connection.execute(statement)
                portable = _Portable(connection)
                note_place(portable, portable.execute(PLACE).fetchone()[0])
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(self._psycopg.Error):
                self._connection.close()
            self._connection = None


class _Portable:
    """Statements written with ``?``, over psycopg."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Rows:
        return self._connection.execute(sql.replace("?", "%s"), _plain(parameters))

    def executemany(self, sql: str, parameters: Sequence[Any], /) -> None:
        """See `Sql`; rows to insert go into one statement, so none may name what another of them names."""
        values = _VALUES.search(sql)
        if values is None:
            for row in parameters:
                self.execute(sql, row)
            return
        for first in range(0, len(parameters), ROWS_AT_ONCE):
            rows = parameters[first : first + ROWS_AT_ONCE]
            many = f"{sql[: values.start(1)]}{', '.join([values[1]] * len(rows))}{sql[values.end(1) :]}"
            self.execute(many, [value for row in rows for value in row])


def _plain(parameters: Sequence[Any]) -> list[Any]:
    return [int(value) if isinstance(value, IntEnum) else value for value in parameters]


def _secret(file: str) -> str:
    if not file:
        return ""
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("authority.password_file", file, "a file that can be read", str(error)) from error


def _schema() -> list[str]:
    serial = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
    statements = [
        statement.replace("SERIAL_KEY", serial).replace(" INTEGER", " BIGINT").replace(" BLOB", " BYTEA")
        for statement in TABLES
    ]
    statements += [
        f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {column} {kind.replace('INTEGER', 'BIGINT')}"
        for table, column, kind in ADDED
    ]
    statements.append(
        "CREATE OR REPLACE FUNCTION headrace_immutable() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is immutable', TG_TABLE_NAME; END $$"
    )
    statements += [
        f"CREATE OR REPLACE TRIGGER {table}_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION headrace_immutable()"
        for table in IMMUTABLE
    ]
    return statements
