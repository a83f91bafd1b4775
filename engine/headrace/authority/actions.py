"""Reported purchases on their way from the process that got them to the holder of their bid's token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from headrace.authority.authority import Authority
from headrace.decisions.batch import Action
from headrace.ledger.journal import Query
from headrace.ledger.sql import Sql

_COLUMNS = ", ".join(("holder", "came_ms", *Action._fields))
_MARKS = ", ".join("?" * len(_COLUMNS.split()))


class Letter(NamedTuple):
    """An action, the holder that it is for, and when it came to another process, ms."""

    holder: str
    came_ms: int
    action: Action

    @property
    def row(self) -> tuple[object, ...]:
        """As the tables have it."""
        return self.holder, self.came_ms, *self.action


def put_in_outbox(sql: Sql, actions: Sequence[tuple[str, Action]], came_ms: int) -> None:
    """Keep actions of other holders' tokens in a holder's own store, to be sent."""
    sql.executemany(
        f"INSERT INTO authority_action_outbox ({_COLUMNS}) VALUES ({_MARKS})",
        [Letter(holder, came_ms, action).row for holder, action in actions],
    )


def read_outbox(query: Query, most: int) -> list[tuple[int, Letter]]:
    """The oldest of those with their numbers, at most so many."""
    rows = query(f"SELECT number, {_COLUMNS} FROM authority_action_outbox ORDER BY number LIMIT ?", (most,))
    return [_letter(row) for row in rows]


def send_actions(authority: Authority, letters: Sequence[Letter]) -> None:
    """Keep actions until their holders have taken them in; one that waits already is not kept twice."""
    query = f"INSERT INTO authority_actions ({_COLUMNS}) VALUES ({_MARKS}) ON CONFLICT DO NOTHING"
    authority.database.write(lambda sql: sql.executemany(query, [letter.row for letter in letters]))


def waiting_actions(authority: Authority, holder: str, most: int) -> list[tuple[int, Letter]]:
    """The holder's oldest actions with their numbers, at most so many."""
    query = f"SELECT number, {_COLUMNS} FROM authority_actions WHERE holder = ? ORDER BY number LIMIT ?"
    return authority.database.read(lambda sql: [_letter(row) for row in sql.execute(query, (holder, most)).fetchall()])


def drop_actions(authority: Authority, holder: str, numbers: Sequence[int]) -> None:
    """Forget actions that the holder has taken in durably."""
    rows = [(number, holder) for number in numbers]
    query = "DELETE FROM authority_actions WHERE number = ? AND holder = ?"
    authority.database.write(lambda sql: sql.executemany(query, rows))


def _letter(row: tuple[Any, ...]) -> tuple[int, Letter]:
    number, holder, came_ms, *action = row
    return number, Letter(holder, came_ms, Action(*action))
