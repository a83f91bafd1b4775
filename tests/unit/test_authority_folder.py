"""A path that is mistyped makes no second authority, and one that is new says so."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from headrace.authority.sqlite import SqliteDatabase
from headrace.errors import AuthorityUnreachableError


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "typo" / "authority.db", 1000)
    with pytest.raises(AuthorityUnreachableError, match=r"its folder .*typo is not there"):
        database.read(lambda sql: sql.execute("SELECT 1").fetchone())
    assert not (tmp_path / "typo").exists()


def test_a_new_authority_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        database = SqliteDatabase(tmp_path / "authority.db", 1000)
        with caplog.at_level(logging.WARNING, "headrace.authority"):
            database.read(lambda sql: sql.execute("SELECT 1").fetchone())
        database.close()
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "a new authority without any account was made"
    ]
