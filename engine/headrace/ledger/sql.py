"""What the ledger's tables need of a database: the SQL that SQLite and PostgreSQL share, with ``?`` for values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Rows(Protocol):
    """The answer to a statement."""

    def fetchone(self) -> Any:
        """The next row, None after the last one."""

    def fetchall(self) -> list[Any]:
        """All rows left."""


class Sql(Protocol):
    """One open transaction; `sqlite3.Connection` is one."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Rows:
        """Run one statement."""

    def executemany(self, sql: str, parameters: Sequence[Any], /) -> object:
        """Run one statement for each row of parameters."""
