"""The schema version of a data folder's database, forward and back, while no server runs on it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import NotFoundError, PreconditionError
from headrace.events.migrations import (
    LATEST,
    check_target,
    check_version,
    copy_aside,
    lost_rows,
    migrate,
    version_of,
    way,
)
from headrace.events.store import DATABASE, translate
from headrace.operations.folders import stopped


@dataclass(frozen=True, slots=True)
class Plan:
    """A migration: from which version to which, the steps' titles in their order, and the rows that it would lose."""

    version: int
    target: int
    titles: list[str]
    n_lost: int


def plan(data: Path, target: int = LATEST) -> Plan:
    """What :func:`move` would do. Raises NotFoundError, ConfigError, StoreError."""
    check_target(target)
    database = _database(data)
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            return _plan(connection, database, target)
    except sqlite3.Error as error:
        raise translate(error, database) from error


def move(data: Path, target: int = LATEST, *, force: bool = False) -> tuple[Plan, Path | None]:
    """Bring a database to a schema version, after a copy; what was done and the copy's path (None: nothing to do).

    Raises PreconditionError while a server runs on the folder, or where the way back would lose rows and ``force`` is
    not said; NotFoundError, ConfigError, StoreError.
    """
    check_target(target)
    database = _database(data)
    with stopped(data):
        try:
            with closing(sqlite3.connect(database, isolation_level=None, timeout=5.0)) as connection:
                connection.execute("PRAGMA synchronous = FULL")
                todo = _plan(connection, database, target)
                if todo.version == target:
                    return todo, None
                if todo.n_lost and not force:
                    hint = "--force gives them up; a copy of the database is kept in any case"
                    raise PreconditionError(f"going back to version {target} would lose {todo.n_lost} rows", hint=hint)
                copy = copy_aside(connection, database, todo.version)
                migrate(connection, database, target)
                return todo, copy
        except sqlite3.Error as error:
            raise translate(error, database) from error


def _database(data: Path) -> Path:
    if not (data / DATABASE).is_file():
        raise NotFoundError("data", str(data), f"a folder with a {DATABASE}")
    return data / DATABASE


def _plan(connection: sqlite3.Connection, database: Path, target: int) -> Plan:
    version = version_of(connection)
    check_version(version, database)
    steps = way(version, target)
    lost = sum(lost_rows(connection, step) for step in steps) if target < version else 0
    return Plan(version, target, [step.title for step in steps], lost)
