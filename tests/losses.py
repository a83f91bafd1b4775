"""An authority that loses its last commits: what it held is copied, and put back later, below everybody's feet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg


def copy_of(url: str) -> Any:
    """All that an authority holds at this moment."""
    if not url.startswith("sqlite"):
        return _rows(url)
    copied = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(_file(url)) as connection:
        connection.backup(copied)
    return copied


def put_back(url: str, copied: Any) -> None:
    """Let the authority hold what it held then, and count on from there."""
    if not url.startswith("sqlite"):
        _write(url, copied)
        return
    with closing(_file(url)) as connection:
        copied.backup(connection)


def _file(url: str) -> sqlite3.Connection:
    return sqlite3.connect(Path(urlsplit(url).path[1:]))


_SERIALS = (
    "SELECT c.table_name, c.column_name, pg_get_serial_sequence(c.table_name, c.column_name) "
    "FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.is_identity = 'YES'"
)


def _rows(url: str) -> Any:
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        rows = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}
        counts = [
            (serial, *connection.execute(f"SELECT last_value, is_called FROM {serial}").fetchone())  # type: ignore[misc]
            for _, _, serial in connection.execute(_SERIALS).fetchall()
        ]
        return rows, counts


def _write(url: str, copied: Any) -> None:
    rows, counts = copied
    with psycopg.connect(url) as connection:
        connection.execute("SET session_replication_role = replica")  # the audit's triggers rest
        for name, kept in rows.items():
            connection.execute(f"DELETE FROM {name}")
            if kept:
                places = ", ".join(["%s"] * len(kept[0]))
                with connection.cursor() as cursor:
                    cursor.executemany(f"INSERT INTO {name} VALUES ({places})", kept)
        for serial, last, called in counts:
            connection.execute("SELECT setval(%s, %s, %s)", (serial, last, called))
