"""What promises and goals have won so far, kept in the store: a restart goes on from there."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from headrace.events.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS pacing_progress (
  campaign_id TEXT NOT NULL, line_item_id TEXT NOT NULL, day_end_ms INTEGER NOT NULL, won_today REAL NOT NULL,
  won REAL NOT NULL, worth REAL NOT NULL, spent REAL NOT NULL, lately REAL NOT NULL, own_credit REAL NOT NULL,
  campaign_credit REAL NOT NULL, PRIMARY KEY (campaign_id, line_item_id)) STRICT
"""


class Progress(NamedTuple):
    """Of one line item; money in nanos.

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


def load(store: Store) -> list[Progress]:
    """What was kept."""
    store.write(_create)
    return [Progress(*row) for row in store.read(f"SELECT {', '.join(Progress._fields)} FROM pacing_progress", ())]


def save(store: Store, rows: list[Progress]) -> None:
    """Keep this instead of what was; answers after the commit."""

    def replace(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM pacing_progress")
        marks = ", ".join("?" * len(Progress._fields))
        connection.executemany(f"INSERT INTO pacing_progress ({', '.join(Progress._fields)}) VALUES ({marks})", rows)

    store.write(replace)


def _create(connection: sqlite3.Connection) -> None:
    connection.execute(SCHEMA)
