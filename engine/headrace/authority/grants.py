"""What one holder keeps and what it is allotted anew, worked out inside one writing transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from headrace.authority.schema import LIFE
from headrace.authority.tree import Key, Tree
from headrace.errors import HolderRefusedError
from headrace.ledger.sql import Rows, Sql

KEEP_ALL = -1
NEED_MS = 2000
"""How long a need stands that is not renewed."""

CHUNK = 400
"""Values in one list of a statement."""

Moment = tuple[str, tuple[int, ...]]
"""The present, ms since 1970 UTC: SQL, and the values that it wants."""


class Change(NamedTuple):
    """What a holder says of one line item on one budget day; all amounts are micros.

    keep : what it keeps of its allotment, the rest is given back; KEEP_ALL: all of it.
    used : what of it is billed, won or reserved.   least : the least that is of use to it, 0: it asks for nothing.
    wish : what it would take where there is enough.
    most : above 0, it asks ahead of any bid: for so much at most, and nobody gives anything back for it.
    """

    account: int
    day: int
    keep: int
    used: int
    least: int = 0
    wish: int = 0
    most: int = 0


class Need(NamedTuple):
    """A row of `authority_needs` that still counts."""

    node: int
    holder: str
    blocks: bool


class Slices(NamedTuple):
    """How much is allotted at once: one n-th of what is left for each of the live holders, at most ``most`` micros."""

    share: int
    live: int
    most: int


class Asked:
    """What is allotted to a holder for some line items and days, and the sums above, on its way from the database.

    keys : those of line items that the tree knows; the others are left out.
    """

    def __init__(self, sql: Sql, tree: Tree, holder: str, keys: Sequence[Key]) -> None:
        accounts = sorted({account for account, _ in keys})
        nodes = sorted({node for account in accounts for node in tree.path(account)})
        days = sorted({day for _, day in keys})
        columns = "account, day, allotted, used"
        own = (("holder", holder),)
        self._own = _select(sql, "authority_allotments", columns, accounts, own, days)
        self._sums = _select(sql, "authority_totals", columns, nodes, days=[LIFE, *days])

    def rows(self) -> tuple[list[Any], list[Any]]:
        """The allotments and the sums: account, day, allotted, used."""
        return [row for part in self._own for row in part.fetchall()], [
            row for part in self._sums for row in part.fetchall()
        ]


class Grants:
    """One holder's allotments, the sums above them and who needs what, loaded for some line items.

    Nothing is written before `save`.
    """

    def __init__(
        self, sql: Sql, tree: Tree, holder: str, keys: Sequence[Key], now_ms: int, needs: Sequence[Need] = ()
    ) -> None:
        self._sql, self._tree, self._holder, self._now_ms = sql, tree, holder, now_ms
        self._keys = keys
        for account in sorted({account for account, _ in keys}):
            if not tree.is_leaf(account):
                raise HolderRefusedError("account", account, "a line item of this authority")
        self._needs = self._waiting(needs)
        self._moved: set[Key] = set()
        self._needed: set[int] = set()
        self._served: set[int] = set()

    def load(self, asked: Asked | None = None) -> Grants:
        """Take over what the database has; asked : where it was asked for already, by the same tree."""
        own, sums = (asked or Asked(self._sql, self._tree, self._holder, self._keys)).rows()
        self.allotted: dict[Key, int] = {(row[0], row[1]): row[2] for row in own}
        self._used: dict[Key, int] = {(row[0], row[1]): row[3] for row in own}
        self._total: dict[Key, int] = {(row[0], row[1]): row[2] for row in sums}
        self._total_used: dict[Key, int] = {(row[0], row[1]): row[3] for row in sums}
        return self

    def _waiting(self, needs: Sequence[Need]) -> dict[int, tuple[int, bool]]:
        """By node: how many others wait there, and whether nothing may be allotted."""
        found: dict[int, tuple[int, bool]] = {}
        for need in needs:
            if need.holder != self._holder:
                n, blocked = found.get(need.node, (0, False))
                found[need.node] = n + 1, blocked or need.blocks
        return found

    def used(self, key: Key) -> int:
        """What the holder said that it uses of an allotment, micros."""
        return self._used.get(key, 0)

    def apply(self, change: Change) -> None:
        """Take back what is not kept, take over what is used. Raises HolderRefusedError when that cannot be."""
        key = change.account, change.day
        allotted = self.allotted.get(key, 0)
        keep = allotted if change.keep == KEEP_ALL else change.keep
        if not 0 <= change.used <= keep <= allotted:
            raise HolderRefusedError(
                "books", (keep, change.used), f"used <= kept <= {allotted}, what is allotted", "register again"
            )
        self.move(key, keep - allotted, change.used - self._used.get(key, 0))

    def grant(self, change: Change, slices: Slices) -> None:
        """Allot a slice of what is left, or note that the holder waits for others to give back."""
        path, day = self._tree.path(change.account), change.day
        rooms = {node: self._tree.room_at(node, day, self._total) for node in path}
        if any(self._needs.get(node, (0, False))[1] for node in path):
            return
        room = min(rooms.values())
        waiting = max(self._needs.get(node, (0, False))[0] for node in path)
        if change.most and (waiting or room < change.least):
            return
        if room < change.least:
            self._needed.update(node for node, left in rooms.items() if left < change.least)
            return
        size = max(room // (slices.share * slices.live), min(room // (waiting + 1), change.wish), change.least)
        most = min(slices.most, change.most or slices.most)
        self.move((change.account, day), min(size, max(most, change.least), room), 0)
        self._served.update(path)

    def move(self, key: Key, allotted: int, used: int) -> None:
        """Add to an allotment and what is used of it, and to all sums above."""
        if not allotted and not used:
            return
        account, day = key
        self.allotted[key] = self.allotted.get(key, 0) + allotted
        self._used[key] = self._used.get(key, 0) + used
        self._moved.add(key)
        for node in self._tree.path(account):
            for each in {(node, day), (node, LIFE)}:
                self._total[each] = self._total.get(each, 0) + allotted
                self._total_used[each] = self._total_used.get(each, 0) + used

    def save(self, version: int) -> None:
        """Write what changed; ``version`` marks the sums that did."""
        sql, holder = self._sql, self._holder
        sql.executemany(
            "INSERT INTO authority_allotments VALUES (?, ?, ?, ?, ?) ON CONFLICT(holder, account, day) "
            "DO UPDATE SET allotted = excluded.allotted, used = excluded.used",
            [(holder, *key, self.allotted[key], self._used[key]) for key in sorted(self._moved)],
        )
        touched = {
            (node, each) for account, day in self._moved for node in self._tree.path(account) for each in (day, LIFE)
        }
        sql.executemany(
            "INSERT INTO authority_totals VALUES (?, ?, ?, ?, ?) ON CONFLICT(account, day) DO UPDATE "
            "SET allotted = excluded.allotted, used = excluded.used, version = excluded.version",
            [(*key, self._total[key], self._total_used[key], version) for key in sorted(touched)],
        )
        put_needs(sql, holder, sorted(self._needed), self._now_ms + NEED_MS)
        served = sorted(self._served - self._needed)
        for first in range(0, len(served), CHUNK):
            some = served[first : first + CHUNK]
            nodes = ", ".join("?" * len(some))
            sql.execute(f"DELETE FROM authority_needs WHERE holder = ? AND node IN ({nodes})", [holder, *some])


def put_needs(sql: Sql, holder: str, nodes: Sequence[int], until_ms: int, blocks: bool = False) -> None:
    """Let others give back what they do not use below nodes; where it blocks, nothing is allotted there meanwhile."""
    sql.executemany(
        "INSERT INTO authority_needs VALUES (?, ?, ?, ?) ON CONFLICT(node, holder) "
        "DO UPDATE SET blocks = excluded.blocks, until_ms = excluded.until_ms",
        [(node, holder, int(blocks), until_ms) for node in nodes],
    )


def ask_needs(sql: Sql, now: Moment) -> Rows:
    """All needs that count at a moment, rows of `Need`; those from a clock that was far ahead do not."""
    text, values = now
    return sql.execute(
        f"SELECT node, holder, blocks FROM authority_needs WHERE until_ms > {text} AND until_ms <= {text} + ?",
        (*values, *values, 2 * NEED_MS),
    )


def _select(
    sql: Sql,
    table: str,
    columns: str,
    accounts: Sequence[int],
    where: Iterable[tuple[str, Any]] = (),
    days: Sequence[int] = (),
) -> list[Rows]:
    """Rows of some accounts, and of some days where any are named; sent, and not waited for where that is possible."""
    fixed = list(where)
    rows: list[Rows] = []
    for first in range(0, len(accounts), CHUNK):
        some = accounts[first : first + CHUNK]
        conditions = [f"account IN ({', '.join('?' * len(some))})", *(f"{column} = ?" for column, _ in fixed)]
        values = [*some, *(value for _, value in fixed), *days]
        if days:
            conditions.append(f"day IN ({', '.join('?' * len(days))})")
        rows.append(sql.execute(f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)}", values))
    return rows
