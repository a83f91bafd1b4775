"""The versions of the store's schema, and the way from each to the next and back.

A database says its version in ``PRAGMA user_version``; one without a number was written before there were numbers, and
is version 1. A new database begins with the latest.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from headrace.errors import ConfigError, StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step from the version before to ``version``, and back.

    up, down : statements, run in one transaction. They must leave alone what they do not name, and may not assume a
        table that a part makes for itself at its first use.
    lost : counts the rows that the way back would lose; the way back is refused while there are any, unless forced.
    """

    version: int
    title: str
    up: Sequence[str]
    down: Sequence[str]
    lost: str


_CHANGES = """CREATE TABLE schema_changes (
    change_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    action TEXT NOT NULL
) STRICT"""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(
        version=2,
        title="every change of the schema is recorded",
        up=(_CHANGES,),
        down=("DROP TABLE schema_changes",),
        # the records of this very step and of those that are taken back before it go with it
        lost="SELECT count(*) FROM schema_changes WHERE version NOT IN (2, 3)",
    ),
    Migration(
        version=3,
        title="exchanges have numbers of their own, and the journal says what binds each account",
        up=("CREATE TABLE ledger_exchanges (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT",),
        down=("DROP TABLE ledger_exchanges",),
        lost="SELECT count(*) FROM ledger_exchanges",
    ),
)

LATEST = 1 + len(MIGRATIONS)
"""The version that this program writes and reads."""


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of a database; 0 for an empty one."""
    number = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if number == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        return 1
    return number


def check_version(version: int, path: Path) -> None:
    """Raise StoreError for a database that a later program has written."""
    if version > LATEST:
        raise StoreError(
            f"{path} was written by a later version of headrace: schema version",
            version,
            f"at most {LATEST}",
            f"start that version, or let it go back: headrace migrate --data {path.parent} --to {LATEST}",
        )


def bring_up_to_date(connection: sqlite3.Connection, path: Path) -> Path | None:
    """Migrate an older database to the latest version in one transaction, after a copy; give a new one its version.

    connection : in autocommit mode. Returns the path of the copy that was made, None where nothing was migrated.

    Raises StoreError for a database of a later version.
    """
    version = version_of(connection)
    check_version(version, path)
    if version == LATEST:
        return None
    copy = copy_aside(connection, path, version) if version else None
    migrate(connection, path, LATEST)
    return copy


def migrate(connection: sqlite3.Connection, path: Path, target: int) -> list[Migration]:
    """Bring a database to a version, all of the way or not at all; returns the steps taken, in their order.

    The way back loses what :func:`lost_rows` counts. Raises ConfigError for a version that does not exist.
    """
    check_target(target)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)  # another process may have been faster
        check_version(version, path)
        steps = way(version, target)
        for step in steps:
            _take(connection, step, version, forward=target >= version)
        if version == 0:
            _record(connection, LATEST, "created")
        connection.execute(f"PRAGMA user_version = {target}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return steps


def way(version: int, target: int) -> list[Migration]:
    """The steps from one version to another; an empty database goes straight to what the latest one adds."""
    if target >= version:
        return [step for step in MIGRATIONS if version < step.version <= target]
    return [step for step in reversed(MIGRATIONS) if target < step.version <= version]


def check_target(target: int) -> None:
    """Raise ConfigError for a version that does not exist."""
    if not 1 <= target <= LATEST:
        raise ConfigError("schema version", target, f"1 to {LATEST}")


def lost_rows(connection: sqlite3.Connection, step: Migration) -> int:
    """Rows that going back over a step would lose."""
    return int(connection.execute(step.lost).fetchone()[0])


def copy_aside(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Copy a database beside itself, as ``<name>.v<version>-<time>``; returns the copy's path."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = path.with_name(f"{path.name}.v{version}-{stamp}")
    with closing(sqlite3.connect(copy, isolation_level=None)) as target:
        copy.chmod(0o600)
        target.execute("PRAGMA synchronous = FULL")
        connection.backup(target)
        # one file, without a log beside it
        target.execute("PRAGMA journal_mode = DELETE").fetchall()
    return copy


def _take(connection: sqlite3.Connection, step: Migration, version: int, *, forward: bool) -> None:
    for statement in step.up if forward else step.down:
        connection.execute(statement)
    if forward and version:
        _record(connection, step.version, f"migrated from {step.version - 1}")


def _record(connection: sqlite3.Connection, version: int, action: str) -> None:
    row = (version, time.time_ns() // 1_000_000, action)
    connection.execute("INSERT INTO schema_changes (version, time_ms, action) VALUES (?, ?, ?)", row)
