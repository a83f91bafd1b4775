"""What the authority needs of a database, and which one a URL names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import parse_qs, urlsplit

from headrace.authority.settings import AuthorityConfig
from headrace.errors import ConfigError
from headrace.ledger.sql import Sql

T = TypeVar("T")


class Database(Protocol):
    """A database with the authority's tables. Thread-safe.

    ``clock`` : what its SQL calls the present moment, ms since 1970 UTC; empty where it has no clock but its host's.

    Both methods raise AuthorityUnreachableError: nothing is known then of what the job did. What a job raises itself
    takes everything back.
    """

    clock: str

    def write(self, job: Callable[[Sql], T]) -> T:
        """Run ``job(sql)`` as the only writer there is, and commit durably."""

    def read(self, job: Callable[[Sql], T]) -> T:
        """Run ``job(sql)`` over one committed state."""

    def close(self) -> None:
        """Let go of the connection; safe to call twice."""


def open_database(config: AuthorityConfig) -> Database:
    """The database of a URL, not yet connected to. Raises ConfigError."""
    parts = urlsplit(config.url)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        from headrace.authority.sqlite import SqliteDatabase

        return SqliteDatabase(Path(parts.path[1:]), config.timeout_ms)
    if parts.scheme in ("postgresql", "postgres"):
        if parts.password is not None or "password" in parse_qs(parts.query):
            shown = config.url.replace(parts.password, "…") if parts.password else "a password"
            hint = "write it to authority.password_file, or to libpq's own PGPASSFILE or PGPASSWORD"
            raise ConfigError("authority.url", shown, "no password: a URL is printed and logged", hint)
        from headrace.authority.postgres import PostgresDatabase

        return PostgresDatabase(config.url, config.timeout_ms, config.password_file)
    expected = "sqlite:///PATH (four slashes for an absolute one) or postgresql://USER@HOST/NAME"
    raise ConfigError("authority.url", config.url, expected)
