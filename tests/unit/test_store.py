"""The embedded store: one commit for many, each job alone in its failure, nothing resolved before it is on disk."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import ConfigError, InvalidRequestError, OverloadedError, StoreError, StoreFullError
from headrace.events.store import Store

SCHEMA = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "deep" / "store.sqlite", SCHEMA)
    yield store
    store.close()


def insert(connection: sqlite3.Connection, text: str) -> int:
    cursor = connection.execute("INSERT INTO t (text) VALUES (?)", (text,))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def test_a_write_is_there_for_readers_once_it_returns(store: Store) -> None:
    assert store.write(lambda connection: insert(connection, "one")) == 1
    assert store.read("SELECT id, text FROM t") == [(1, "one")]


def test_threads_that_read_and_end_leave_no_file_open(store: Store, tmp_path: Path) -> None:
    store.read("SELECT 1")
    before = _open_files(tmp_path)
    for _ in range(20):
        reader = threading.Thread(target=store.read, args=("SELECT 1",))
        reader.start()
        reader.join()
    assert before > 0
    assert _open_files(tmp_path) == before


def _open_files(below: Path) -> int:
    """How many of this process' files lie below the folder; what other tests left open may close at any time."""
    count = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(entry.path).startswith(f"{below}/")
    return count


def test_jobs_that_wait_share_one_commit_and_fail_alone(store: Store) -> None:
    entered, go = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        entered.set()
        assert go.wait(10)

    held = store.submit(hold)
    assert entered.wait(10)
    good = [store.submit(lambda connection, text=f"text {i}": insert(connection, text)) for i in range(20)]
    twice = store.submit(lambda connection: insert(connection, "text 3"))
    go.set()
    held.result(10)
    assert [future.result(10) for future in good] == list(range(1, 21))
    with pytest.raises(StoreError, match="UNIQUE"):
        twice.result(10)
    assert store.read("SELECT count(*) FROM t") == [(20,)]


def test_an_error_of_the_job_itself_comes_back_as_it_is(store: Store) -> None:
    def refuse(connection: sqlite3.Connection) -> None:
        insert(connection, "half")
        raise InvalidRequestError("no")

    with pytest.raises(InvalidRequestError, match="no"):
        store.write(refuse)
    assert store.read("SELECT count(*) FROM t") == [(0,)]


def test_a_full_device_is_said_and_work_goes_on_once_there_is_room(store: Store) -> None:
    store.write(lambda connection: insert(connection, "before"))
    pages = store.read("PRAGMA page_count")[0][0]
    store.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    with pytest.raises(StoreFullError, match="free space"):
        store.write(lambda connection: insert(connection, "x" * 100_000))
    assert store.read("SELECT text FROM t") == [("before",)]
    store.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    store.write(lambda connection: insert(connection, "x" * 100_000))
    assert store.read("SELECT count(*) FROM t") == [(2,)]


def test_a_long_lock_of_another_process_is_an_overload_not_a_loss(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    store.write(lambda connection: connection.execute("PRAGMA busy_timeout = 10").fetchone())
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OverloadedError, match="busy"):
        store.write(lambda connection: insert(connection, "one"))
    other.execute("ROLLBACK")
    other.close()
    store.write(lambda connection: insert(connection, "one"))


def test_closing_commits_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite", SCHEMA)
    futures = [store.submit(lambda connection, text=str(i): insert(connection, text)) for i in range(50)]
    store.close()
    store.close()
    assert all(future.result(0) for future in futures)
    with pytest.raises(StoreError, match="closed"):
        store.submit(lambda connection: None)
    reopened = Store(tmp_path / "store.sqlite", SCHEMA)
    assert reopened.read("SELECT count(*) FROM t") == [(50,)]
    reopened.close()


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite"):
        Store(path, SCHEMA)


def test_two_stores_on_one_file_take_turns(tmp_path: Path) -> None:
    first, second = (Store(tmp_path / "store.sqlite", SCHEMA) for _ in range(2))
    futures = [
        (first if i % 2 else second).submit(lambda connection, text=str(i): insert(connection, text))
        for i in range(200)
    ]
    assert sorted(future.result(30) for future in futures) == list(range(1, 201))
    first.close()
    second.close()


class Failing:
    """A connection that fails at some statements."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.fails: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> object:
        return getattr(self.connection, name)

    def execute(self, statement: str, *parameters: object) -> sqlite3.Cursor:
        if statement in self.fails:
            raise sqlite3.OperationalError("disk I/O error")
        return self.connection.execute(statement, *parameters)


def test_a_commit_that_fails_and_cannot_be_taken_back_keeps_nobody_waiting(store: Store) -> None:
    failing = Failing(store._writer)
    store._writer = failing  # type: ignore[assignment]
    for fails in (("COMMIT",), ("COMMIT", "ROLLBACK"), ("BEGIN IMMEDIATE",), ("RELEASE job",)):
        failing.fails = fails
        with pytest.raises(StoreError):
            store.submit(lambda connection: insert(connection, "lost")).result(5)
        failing.fails = ()
        assert store.submit(lambda connection, text=fails[-1]: insert(connection, text)).result(5)
    assert store.read("SELECT count(*) FROM t WHERE text = 'lost'") == [(0,)]


def test_a_folder_that_cannot_be_made_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file cannot be made.*name a folder"):
        Store(tmp_path / "file" / "store.sqlite")


def test_what_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"\x01" * 9000)
    with pytest.raises(StoreError, match="not a database; name another folder, or restore the file"):
        Store(tmp_path / "store.sqlite")
