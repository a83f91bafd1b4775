"""Schema versions: forward at opening, back by command, and never past what this program knows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headrace.errors import ConfigError, NotFoundError, PreconditionError, StoreError
from headrace.events import migrations
from headrace.events.log import EventLog
from headrace.events.migrations import LATEST, version_of
from headrace.events.store import DATABASE, Store
from headrace.ledger.ledger import Ledger
from headrace.locks import OwnerLock
from headrace.operations.schema import move, plan

GOLDEN = Path(__file__).parents[1] / "golden" / "store_v1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A data folder as version 1 left it."""
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.executescript(GOLDEN.read_text("utf-8"))
    return tmp_path


def content(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.iterdump())


def version(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        return version_of(connection)


def test_an_old_database_is_migrated_when_it_is_opened_and_read_as_before(old: Path) -> None:
    before = content(old / DATABASE)
    store = Store(old / DATABASE)
    log = EventLog(store)
    assert log.sequence() == 14
    assert {change.item_id for change in log.item_changes(0)} == {"i0", "i1", "i2", "i3", "i4", "i9"}
    ledger = Ledger(old, store, clock_ms=lambda: 1_700_000_100_000)
    line = next(state for state in ledger.accounts() if state.account_id == "acme/spring/shoes")
    assert line.billed_micros == 1_900
    store.close()
    assert version(old / DATABASE) == LATEST
    (copy,) = old.glob(f"{DATABASE}.v1-*")
    assert content(copy) == before
    assert copy.stat().st_mode & 0o777 == 0o600


def test_up_and_down_again_is_what_it_was(old: Path) -> None:
    before = content(old / DATABASE)
    assert plan(old).titles == [step.title for step in migrations.MIGRATIONS]
    done, _ = move(old)
    assert (done.version, done.target, version(old / DATABASE)) == (1, LATEST, LATEST)
    assert content(old / DATABASE) != before
    done, copy = move(old, 1)
    assert (done.version, done.n_lost) == (LATEST, 0)
    assert copy is not None
    assert content(old / DATABASE) == before
    assert move(old, 1) == (plan(old, 1), None)


def test_the_way_back_that_loses_rows_needs_force(old: Path) -> None:
    move(old)
    with closing(sqlite3.connect(old / DATABASE)) as connection, connection:
        connection.execute("INSERT INTO schema_changes (version, time_ms, action) VALUES (9, 1, 'by hand')")
    with pytest.raises(PreconditionError, match=r"would lose 1 rows; --force"):
        move(old, 1)
    assert version(old / DATABASE) == LATEST
    move(old, 1, force=True)
    assert version(old / DATABASE) == 1


def test_a_new_database_begins_with_the_latest_version_and_no_copy(tmp_path: Path) -> None:
    Store(tmp_path / DATABASE).close()
    assert version(tmp_path / DATABASE) == LATEST
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute("SELECT version, action FROM schema_changes").fetchall() == [(LATEST, "created")]


def test_bad_input_a_database_of_a_later_version(old: Path) -> None:
    with closing(sqlite3.connect(old / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {LATEST + 1}")
    for refused in (lambda: Store(old / DATABASE), lambda: plan(old), lambda: move(old, 1)):
        with pytest.raises(StoreError, match=r"written by a later version .* headrace migrate --data"):
            refused()
    assert version(old / DATABASE) == LATEST + 1


def test_bad_input_versions_and_folders_that_are_not_there(old: Path, tmp_path: Path) -> None:
    for target in (0, -1, LATEST + 1):
        with pytest.raises(ConfigError, match="schema version"):
            move(old, target)
    with pytest.raises(NotFoundError, match=DATABASE):
        move(tmp_path / "nowhere")


def test_no_migration_beside_a_running_server(old: Path) -> None:
    lock = OwnerLock(old / "ledger.lock")
    assert lock.try_acquire()
    with pytest.raises(PreconditionError, match="stop it first"):
        move(old)
    lock.release()
    assert version(old / DATABASE) == 1


def test_a_step_that_fails_leaves_everything(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = content(old / DATABASE)
    broken = migrations.Migration(version=3, title="broken", up=("CREATE TABLE x (a)", "NONSENSE"), down=(), lost="")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    monkeypatch.setattr(migrations, "LATEST", 3)
    with pytest.raises(StoreError, match="NONSENSE"):
        Store(old / DATABASE)
    assert content(old / DATABASE) == before
    assert version(old / DATABASE) == 1


def test_versions_have_no_gap() -> None:
    assert [step.version for step in migrations.MIGRATIONS] == list(range(2, LATEST + 1))
