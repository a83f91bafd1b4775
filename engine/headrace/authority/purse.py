"""What is allotted to one holder by line item and budget day: what to give back, and what to ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.shares import Shares
from headrace.authority.tree import Key
from headrace.bidding.books import Books
from headrace.types import Int64

WISH = 16
"""Reservations of the size that was refused for which money is asked at once, where there is enough."""

AHEAD_MS = 30_000
"""The next day's money is asked for so long before that day begins."""

BEHIND_MS = 600_000
"""Requests may name a day that ended so long ago; then what is left of it goes back."""


KEEP_S = 0.5
"""What has just come is kept so long though others wait, or nobody would ever spend the last of a budget."""


class Row(NamedTuple):
    """One allotment: what the authority has, what it was last told is used, and how much came last and when."""

    allotted: int
    used: int
    slice: int
    came_s: float


NO_ROW = Row(0, 0, 0, 0.0)


class Purse:
    """Rows by line item and day; all but `need` are called under the holder's lock.

    seconds : a clock that never goes back.
    """

    def __init__(self, shares: Shares, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._shares = shares
        self._rows: dict[Key, Row] = {}
        self._needs: dict[int, tuple[int, int]] = {}
        self._needs_lock = threading.Lock()
        self._in_vain: set[int] = set()

    def need(self, accounts: Sequence[int], micros: Sequence[int], now_ms: int) -> bool:
        """See `Holder.need`; any thread may call. Whether it is worth a call at once."""
        with self._needs_lock:
            for account, amount in zip(accounts, micros, strict=True):
                self._needs[account] = max(self._needs.get(account, (0, 0))[0], amount), now_ms
            return not self._in_vain.issuperset(accounts)

    def adopt(self, books: Books, allotments: Sequence[tuple[int, int, int]]) -> None:
        """Begin with what the authority has; the ledger may commit that from now on."""
        self._rows = {(account, day): Row(micros, 0, 0, -KEEP_S) for account, day, micros in allotments}
        self._set(books, list(self._rows), [row.allotted for row in self._rows.values()])

    def plan(self, books: Books, needed: set[int], beat: bool, now_ms: int) -> tuple[list[Change], bool]:
        """What to tell the authority now, and whether something was lowered whose journal must be committed first.

        needed : nodes below which other holders wait for money.   beat : tell of everything that changed.
        """
        with self._needs_lock:
            needs, self._needs = self._needs, {}
        keys = list(self._rows)
        table = self._books(books, keys)
        wishes = self._wishes(keys, table, needs, now_ms)
        # a ledger that waits for its reconciliation may have spent what it does not know of
        back = [] if books.fenced else self._surplus(keys, table, needed, now_ms)
        if back:
            leaves, days = _columns(back)
            books.native.give_back(leaves, days)
            table = self._books(books, keys)
        changes = []
        for key, (allotted, _, used, billed) in zip(keys, table.tolist(), strict=True):
            row = self._rows[key]
            least, wish = wishes.pop(key, (0, 0))
            lowered = allotted != row.allotted
            if not (least or lowered or (beat and used != row.used)):
                if allotted == billed == row.used and key[1] != self._shares.day(key[0], now_ms)[0]:
                    del self._rows[key]  # settled for good
                continue
            changes.append(Change(*key, allotted if lowered else KEEP_ALL, used, least, wish))
        changes += [Change(*key, KEEP_ALL, 0, least, wish) for key, (least, wish) in wishes.items()]
        return changes, bool(back)

    def take_over(self, books: Books, changes: Sequence[Change], allotted: Sequence[int]) -> None:
        """The authority's answer: what is allotted now."""
        keys = [(change.account, change.day) for change in changes]
        for key, change, micros in zip(keys, changes, allotted, strict=True):
            row = self._rows.get(key, NO_ROW)
            came = micros - (row.allotted if change.keep == KEEP_ALL else change.keep)
            if came > 0:
                self._rows[key] = Row(micros, change.used, came, self._seconds())
                self._in_vain.discard(change.account)
                continue
            self._rows[key] = Row(micros, change.used, row.slice, row.came_s)
            if change.least:
                self._in_vain.add(change.account)
        self._set(books, keys, list(allotted))

    def give_back_all(self, books: Books) -> None:
        """Lower every allotment to what is committed."""
        if self._rows:
            books.native.give_back(*_columns(list(self._rows)))

    def changes(self, books: Books) -> list[Change]:
        """Every row as it is committed now, nothing asked for; what a fenced ledger does not know of stays allotted."""
        keys = list(self._rows)
        table = self._books(books, keys).tolist()
        return [
            Change(*key, KEEP_ALL if books.fenced else row[1], row[2]) for key, row in zip(keys, table, strict=True)
        ]

    def sums(self, books: Books) -> tuple[int, int]:
        """See `Holder.money`."""
        table = self._books(books, list(self._rows))
        return int(table[:, 0].sum()), int((table[:, 0] - table[:, 2]).sum())

    def _surplus(self, keys: list[Key], table: Int64, needed: set[int], now_ms: int) -> list[Key]:
        """Rows that have something to give back: of days that are over, and below nodes where others wait."""
        found = []
        cut = self._shares.cut_nodes()
        for row in np.flatnonzero(table[:, 0] > table[:, 2]).tolist():
            account, day = keys[row]
            over = day < self._shares.day(account, now_ms - BEHIND_MS)[0] and table[row, 0] > table[row, 1]
            kept = self._seconds() - self._rows[keys[row]].came_s < KEEP_S
            wanted = cut if kept else cut | needed
            if over or (wanted and not wanted.isdisjoint(self._shares.path(account))):
                found.append(keys[row])
        return found

    def _wishes(
        self, keys: list[Key], table: Int64, needs: dict[int, tuple[int, int]], now_ms: int
    ) -> dict[Key, tuple[int, int]]:
        """What to ask for: the least of use, and what would be welcome."""
        wishes: dict[Key, tuple[int, int]] = {}
        for account, (micros, at_ms) in needs.items():
            wishes[account, self._shares.day(account, at_ms)[0]] = (micros, WISH * micros)
        for key, (allotted, _, used, _) in zip(keys, table.tolist(), strict=True):
            row = self._rows[key]
            if used <= row.used or key in wishes:
                continue  # nobody spends of it
            day, _, end_ms = self._shares.day(key[0], now_ms)
            if key[1] == day and 2 * (allotted - used) < row.slice:
                wishes[key] = (1, 0)
            if key[1] == day and end_ms - now_ms < AHEAD_MS and (key[0], day + 1) not in self._rows:
                wishes[key[0], day + 1] = (1, 0)
        return wishes

    def _books(self, books: Books, keys: Sequence[Key]) -> Int64:
        """Allotted, committed, used and billed of rows, (n, 4) int64."""
        return books.native.allotted_books(*_columns(keys)).reshape(-1, 4)

    @staticmethod
    def _set(books: Books, keys: Sequence[Key], micros: list[int]) -> None:
        books.native.set_allotments(*_columns(keys), np.array(micros, np.int64))


def _columns(keys: Sequence[Key]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(keys, np.int32).reshape(-1, 2)
    return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
