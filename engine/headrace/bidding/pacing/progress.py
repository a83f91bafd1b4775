"""What promises, goals and reported purchases have come to so far, kept in the store: a restart goes on from there."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.bidding.pacing.goals import Goals
from headrace.events.store import Store
from headrace.types import Int64

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS pacing_progress (
  campaign_id TEXT NOT NULL, line_item_id TEXT NOT NULL, day_end_ms INTEGER NOT NULL, won_today REAL NOT NULL,
  won REAL NOT NULL, worth REAL NOT NULL, spent REAL NOT NULL, lately REAL NOT NULL, own_credit REAL NOT NULL,
  campaign_credit REAL NOT NULL, PRIMARY KEY (campaign_id, line_item_id)) STRICT""",
    """CREATE TABLE IF NOT EXISTS pacing_purchases (
  campaign_id TEXT NOT NULL, line_item_id TEXT NOT NULL, due REAL NOT NULL, pending REAL NOT NULL,
  actions REAL NOT NULL, earned REAL NOT NULL, PRIMARY KEY (campaign_id, line_item_id)) STRICT""",
    "CREATE TABLE IF NOT EXISTS pacing_reports (since_ms INTEGER NOT NULL, heard INTEGER NOT NULL) STRICT",
)


class Progress(NamedTuple):
    """Of one line item with a promise or a goal; money in nanos.

    day_end_ms : end of the local day that ``won_today`` counts.   won_today, won : impressions.
    worth, spent, lately, own_credit, campaign_credit : see `headrace.bidding.pacing.goals.Goals`.
    """

    campaign_id: str
    line_item_id: str
    day_end_ms: int
    won_today: float
    won: float
    worth: float
    spent: float
    lately: float
    own_credit: float
    campaign_credit: float


class Purchases(NamedTuple):
    """Of one line item whose purchases are reported; see `headrace.bidding.pacing.goals.Goals`."""

    campaign_id: str
    line_item_id: str
    due: float
    pending: float
    actions: float
    earned: float


class Kept(NamedTuple):
    """All that is kept.

    since_ms, heard : see `headrace.bidding.pacing.goals.Goals`; both 0 where purchases are not reported.
    """

    lines: Sequence[Progress] = ()
    purchases: Sequence[Purchases] = ()
    since_ms: int = 0
    heard: int = 0


Key = tuple[str, str]
"""campaign_id and line_item_id."""


def kept_of(goals: Goals, keys: Sequence[Key], day_ends_ms: Int64) -> Kept:
    """What is to be kept of m line items with these keys."""
    held = goals.lines.copy()
    held[goals.promised] = True
    lines = [
        Progress(
            *keys[line],
            int(day_ends_ms[line]),
            *goals.won[:, line].tolist(),
            *(float(kept[line]) for kept in (goals.worth, goals.spent, goals.lately)),
            *goals.credit[:, line].tolist(),
        )
        for line in np.flatnonzero(held).tolist()
    ]
    if not goals.reported:
        return Kept(lines)
    columns = (getattr(goals, name).tolist() for name in Purchases._fields[2:])
    purchases = [Purchases(*key, *row) for key, *row in zip(keys[: len(held)], *columns, strict=True)]
    return Kept(lines, purchases, goals.since_ms, goals.heard)


def put_back(kept: Kept, goals: Goals, keys: Sequence[Key], day_ends_ms: Int64) -> None:
    """Go on from what was kept; balances of goals that are others now begin anew."""
    position = {key: line for line, key in enumerate(keys[: len(goals.lines)])}
    for row in kept.lines:
        line = position.get((row.campaign_id, row.line_item_id))
        if line is None:
            continue
        day_ends_ms[line] = row.day_end_ms
        goals.won[:, line] = row.won_today, row.won
        if (goals.credit[:, line] == (row.own_credit, row.campaign_credit)).all():
            goals.worth[line], goals.spent[line], goals.lately[line] = row.worth, row.spent, row.lately
    if not goals.reported:
        return
    goals.since_ms, goals.heard = kept.since_ms, kept.heard
    for each in kept.purchases:
        line = position.get((each.campaign_id, each.line_item_id))
        if line is not None:
            for name in Purchases._fields[2:]:
                getattr(goals, name)[line] = getattr(each, name)


def load(store: Store) -> Kept:
    """What was kept."""
    store.write(_create)
    lines, purchases = (
        store.read(f"SELECT {', '.join(fields)} FROM {table}")
        for table, fields in (("pacing_progress", Progress._fields), ("pacing_purchases", Purchases._fields))
    )
    reports = store.read("SELECT since_ms, heard FROM pacing_reports")
    since_ms, heard = reports[0] if reports else (0, 0)
    return Kept([Progress(*row) for row in lines], [Purchases(*row) for row in purchases], since_ms, heard)


def save(store: Store, kept: Kept) -> None:
    """Keep this instead of what was; answers after the commit."""

    def replace(connection: sqlite3.Connection) -> None:
        _fill(connection, "pacing_progress", kept.lines)
        _fill(connection, "pacing_purchases", kept.purchases)
        _fill(connection, "pacing_reports", [(kept.since_ms, kept.heard)])

    store.write(replace)


def _fill(connection: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    connection.execute(f"DELETE FROM {table}")
    if rows:
        connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
