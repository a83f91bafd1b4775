"""Notices on their way from the process that got them to the holder of their token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from headrace.authority.authority import Authority
from headrace.ledger.sql import Sql


class Forwarded(NamedTuple):
    """One notice: whose it is, NoticeType, token, price in CPM micros, the lowest bid that would have won likewise (-1:
    not known), and when it came, ms by the clock of the process that it came to."""

    holder: str
    notice_type: int
    token: str
    price_cpm_micros: int
    minimum_cpm_micros: int
    time_ms: int


COLUMNS = ", ".join(Forwarded._fields)


def send_notices(authority: Authority, notices: Sequence[Forwarded]) -> None:
    """Keep notices until their holders have settled them; one that waits already is not kept twice."""
    authority.database.write(
        lambda sql: sql.executemany(
            f"INSERT INTO authority_notices({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            [tuple(notice) for notice in notices],
        )
    )


def waiting_notices(authority: Authority, holder: str, most: int) -> list[tuple[int, Forwarded]]:
    """The holder's oldest notices with their numbers, at most so many."""
    query = f"SELECT notice_id, {COLUMNS} FROM authority_notices WHERE holder = ? ORDER BY notice_id LIMIT ?"
    return authority.database.read(
        lambda sql: [(row[0], Forwarded(*row[1:])) for row in sql.execute(query, (holder, most)).fetchall()]
    )


def drop_notices(authority: Authority, holder: str, numbers: Sequence[int]) -> None:
    """Forget notices that the holder has settled durably."""

    def job(sql: Sql) -> None:
        sql.executemany(
            "DELETE FROM authority_notices WHERE notice_id = ? AND holder = ?", [(number, holder) for number in numbers]
        )

    authority.database.write(job)
