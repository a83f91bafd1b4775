"""Settings versions by name: an authority that lost commits uses their numbers a second time."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from headrace.ledger.budgets import next_version, settings_version
from headrace.ledger.journal import Query, get_meta, query_of, set_meta
from headrace.ledger.sql import Sql


class Stamp(NamedTuple):
    """One state of an authority's settings: its version, and a random mark that tells it from another of that number.

    The default is that of nothing at all.
    """

    version: int = 0
    mark: str = ""


def stamp_of(query: Query) -> Stamp:
    """The present state of the settings."""
    return Stamp(settings_version(query), get_meta(query, "settings_mark"))


def knows(query: Query, stamp: Stamp) -> bool:
    """Whether the settings were ever in this state; what changed since can be told then."""
    if stamp == Stamp():
        return True
    return bool(query("SELECT 1 FROM authority_marks WHERE version = ? AND mark = ?", tuple(stamp)))


def mark_settings(sql: Sql) -> None:
    """Name the version that a transaction has made, if it made one. A version without a name is known to nobody."""
    query = query_of(sql)
    version = settings_version(query)
    if not query("SELECT 1 FROM authority_marks WHERE version = ?", (version,)):
        mark = secrets.token_hex(8)
        sql.execute("INSERT INTO authority_marks VALUES (?, ?)", (version, mark))
        set_meta(sql, "settings_mark", mark)


def next_stamp(sql: Sql) -> None:
    """Begin a settings version for what is no account's."""
    next_version(sql)
    mark_settings(sql)
