"""Folds what is over: allotments of settled days become one row a line item, so that no table grows for ever.

A day's allotment is settled when all of it is billed: nothing changes it any more. Only its holder knows that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.authority.authority import Authority
from headrace.authority.follower import Follower
from headrace.authority.registration import folded_until
from headrace.authority.schema import LIFE, SCHEMA_VERSION, HolderState
from headrace.authority.tree import Key, Tree
from headrace.ledger.books import Books
from headrace.ledger.journal import get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

FOLD_DAYS = 8
"""Days are folded so long after they are over, so that a clock that is off by a week finds them as they were."""

FOLD_S = 3600.0
"""A holder looks so often for days to fold."""

AT_ONCE = 500
"""Rows that are folded in one transaction."""

DAY_MS = 86_400_000


class Folding:
    """One holder's: looks through its old rows, `AT_ONCE` a call, and begins anew every `FOLD_S`."""

    def __init__(self, authority: Authority, follower: Follower, holder: str) -> None:
        self._authority, self._follower, self._holder = authority, follower, holder
        self._after: Key = LIFE, -1
        self._next_s = -1e18

    def step(self, books: Books, epoch: int, now_ms: int, seconds: float) -> None:
        """Fold what the books say is settled, where it is time. Raises AuthorityUnreachableError.

        now_ms : whose days are bid for.   seconds : a clock that never goes back.
        """
        if seconds < self._next_s:
            return
        rows = old_rows(self._authority, self._holder, self._after, now_ms)
        self._after = (rows[-1][1], rows[-1][0]) if rows else (LIFE, -1)
        if len(rows) < AT_ONCE:
            self._after, self._next_s = (LIFE, -1), seconds + FOLD_S
        rows = [row for row in rows if self._follower.numbers([row[0]])]
        leaves = np.array(self._follower.numbers(row[0] for row in rows), np.int32)
        table = books.native.allotted_books(leaves, np.array([row[1] for row in rows], np.int32)).reshape(-1, 4)
        settled = [
            (account, day)
            for (account, day, allotted), (_, committed, _, billed) in zip(rows, table.tolist(), strict=True)
            if allotted == committed == billed
        ]
        if settled:
            fold(self._authority, self._holder, epoch, settled)


def old_rows(authority: Authority, holder: str, after: Key, now_ms: int) -> list[tuple[int, int, int]]:
    """The next of a holder's allotments that may be folded if they are settled: account, day, micros.

    after : day and account of the last one before.   now_ms : by the holder's clock; the day is over by both clocks.
    """
    query = (
        "SELECT account, day, allotted FROM authority_allotments WHERE holder = ? AND day < ? AND allotted = used "
        f"AND day > {LIFE} AND (day > ? OR (day = ? AND account > ?)) ORDER BY day, account LIMIT {AT_ONCE}"
    )

    def job(sql: Sql) -> list[tuple[int, int, int]]:
        before = min(authority.now_ms(sql), now_ms) // DAY_MS - FOLD_DAYS
        return [tuple(row) for row in sql.execute(query, (holder, before, after[0], *after)).fetchall()]

    return authority.database.read(job)


def fold(authority: Authority, holder: str, epoch: int, keys: Sequence[Key]) -> None:
    """Fold a holder's rows, if it still is of this epoch; those that are gone already change nothing.

    keys : account and day, settled.
    """

    def job(sql: Sql) -> None:
        live = "SELECT 1 FROM authority_holders WHERE holder = ? AND epoch = ? AND state = ?"
        if sql.execute(live, (holder, epoch, HolderState.LIVE)).fetchone() is not None:
            _fold(sql, holder, keys)

    authority.database.write(job)


def _fold(sql: Sql, holder: str, keys: Sequence[Key]) -> None:
    tree = Tree()
    tree.refresh(query_of(sql))
    wanted = set(keys)
    days = sorted({day for _, day in keys})
    found = [
        (account, day, micros)
        for day in days
        for account, micros in sql.execute(
            "SELECT account, allotted FROM authority_allotments WHERE holder = ? AND day = ? AND allotted = used",
            (holder, day),
        ).fetchall()
        if (account, day) in wanted
    ]
    of_leaf: dict[int, int] = {}
    of_node: dict[Key, int] = {}
    for account, day, micros in found:
        of_leaf[account] = of_leaf.get(account, 0) + micros
        for node in tree.path(account):
            of_node[node, day] = of_node.get((node, day), 0) + micros
    sql.executemany(
        "DELETE FROM authority_allotments WHERE holder = ? AND account = ? AND day = ?",
        [(holder, account, day) for account, day, _ in found],
    )
    sql.executemany(
        "INSERT INTO authority_allotments AS old VALUES (?, ?, ?, ?, ?) ON CONFLICT(holder, account, day) "
        "DO UPDATE SET allotted = old.allotted + excluded.allotted, used = old.used + excluded.used",
        [(holder, account, LIFE, micros, micros) for account, micros in sorted(of_leaf.items())],
    )
    version = int(get_meta(query_of(sql), "totals_version", "0")) + 1
    set_meta(sql, "totals_version", str(version))
    lower = "UPDATE authority_totals SET allotted = allotted - ?, used = used - ?, version = ?"
    sql.executemany(
        f"{lower} WHERE account = ? AND day = ?",
        [(micros, micros, version, *key) for key, micros in sorted(of_node.items())],
    )
    sql.executemany(
        "DELETE FROM authority_totals WHERE day = ? AND allotted = 0 AND used = 0", [(day,) for day in days]
    )
    set_meta(sql, "folded_day", str(max(folded_until(sql), *days)))
    set_meta(sql, "schema", str(SCHEMA_VERSION))
