"""What is allotted to one holder by line item and budget day: what to give back, and what to ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np

from headrace.authority.authority import View
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.shares import Shares
from headrace.authority.tree import Key
from headrace.ledger.books import Books
from headrace.types import Int32, Int64

WISH = 16
"""Reservations of the size that was refused for which money is asked at once, where there is enough."""

AHEAD_MS = 30_000
"""The next day's money is asked for so long before that day begins."""

FIRST_PART = 2
"""First shares, asked for ahead of any bid, take one such part of what is left, over all processes and line items."""

FIRST_AT_ONCE = 500
"""Line items that one renewal asks first shares for."""

BEHIND_MS = 600_000
"""Requests may name a day that ended so long ago; then what is left of it goes back."""


KEEP_S = 0.5
"""What has just come is kept so long though others wait, or nobody would ever spend the last of a budget."""


Wish = tuple[int, int, int]
"""`Change.least`, `Change.wish` and `Change.most` of one line item and day."""


class Purse:
    """One row a line item and day; all but `need`, `expect` and `sums` are called under the holder's lock.

    seconds : a clock that never goes back.   ``asks_on`` : whether there are more first shares to ask for.

    Columns by row: what the authority has allotted, what it was last told is used, how much came last and when.
    """

    def __init__(self, shares: Shares, seconds: Callable[[], float]) -> None:
        self._shares, self._seconds = shares, seconds
        self._place: dict[Key, int] = {}
        self._leaves, self._days = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._allotted, self._used, self._slice = (np.zeros(0, np.int64) for _ in range(3))
        self._came_s = np.zeros(0)
        self._needs: dict[int, tuple[int, int]] = {}
        self._lock = threading.Lock()  # of needs, and of the rows' keys: both are read beside the holder's thread
        self._in_vain: set[int] = set()
        self._expected = np.zeros(0, np.int32)
        self._offered = np.zeros((2, 0), np.int32)
        self._offered_of: tuple[Books | None, int] = None, -1
        self.asks_on = True

    def need(self, accounts: Sequence[int], micros: Sequence[int], now_ms: int) -> bool:
        """See `Holder.need`; any thread may call. Whether it is worth a call at once."""
        with self._lock:
            for account, amount in zip(accounts, micros, strict=True):
                self._needs[account] = max(self._needs.get(account, (0, 0))[0], amount), now_ms
            return not self._in_vain.issuperset(accounts)

    def expect(self, accounts: Int32) -> None:
        """See `Holder.expect`; any thread may call."""
        with self._lock:
            self._expected = np.unique(accounts).astype(np.int32)
            self._offered_of = None, -1
            self.asks_on = True

    def adopt(self, books: Books, allotments: Sequence[tuple[int, int, int]]) -> None:
        """Begin with what the authority has; the ledger may commit that from now on."""
        self._keep(np.zeros(0, np.int64))
        self._add([(account, day) for account, day, _ in allotments])
        self._allotted[:] = [micros for _, _, micros in allotments]
        books.native.set_allotments(self._leaves, self._days, self._allotted.copy())

    def plan(self, books: Books, view: View, beat: bool, now_ms: int) -> tuple[list[Change], bool]:
        """What to tell the authority now, and whether something was lowered whose journal must be committed first.

        beat : tell of everything that changed.
        """
        with self._lock:
            needs, self._needs = self._needs, {}
        table = self._books(books)
        today = self._shares.days(self._leaves, now_ms)
        wishes = self._wishes(table, today, needs, now_ms)
        if not books.fenced:
            for key, wish in self._first_shares(books, max(view.live, 1), beat, now_ms).items():
                wishes.setdefault(key, wish)
        # a ledger that waits for its reconciliation may have spent what it does not know of
        back = np.zeros(0, np.int64) if books.fenced else self._surplus(table, {*view.needs, *view.wants}, now_ms)
        if len(back):
            books.native.give_back(self._leaves[back], self._days[back])
            table = self._books(books)
        has, _, used, billed = table.T
        lowered = has != self._allotted
        tell = lowered | (used != self._used) if beat else lowered.copy()
        tell[[self._place[key] for key in wishes if key in self._place]] = True
        settled = (has == billed) & (used == self._used) & (self._days != today) & ~tell
        changes = []
        for row in np.flatnonzero(tell).tolist():
            key = int(self._leaves[row]), int(self._days[row])
            keep = int(has[row]) if lowered[row] else KEEP_ALL
            changes.append(Change(*key, keep, int(used[row]), *wishes.pop(key, (0, 0, 0))))
        changes += self._asked_anew(books, wishes)
        if settled.any():
            self._keep(np.flatnonzero(~settled))
        return changes, bool(len(back))

    def _asked_anew(self, books: Books, wishes: dict[Key, Wish]) -> list[Change]:
        """Changes of keys without a row; of a day that was forgotten, all that was allotted may be used."""
        keys = np.array(list(wishes), np.int32).reshape(-1, 2)
        table = books.native.allotted_books(keys[:, 0].copy(), keys[:, 1].copy()).reshape(-1, 4)
        return [
            Change(*key, KEEP_ALL, used, *wish)
            for (key, wish), used in zip(wishes.items(), table[:, 2].tolist(), strict=True)
        ]

    def take_over(self, books: Books, changes: Sequence[Change], allotted: Sequence[int]) -> None:
        """The authority's answer: what is allotted now."""
        keys = [(change.account, change.day) for change in changes]
        self._add([key for key in keys if key not in self._place])
        rows = np.array([self._place[key] for key in keys], np.int64)
        now_s = self._seconds()
        for row, change, micros in zip(rows.tolist(), changes, allotted, strict=True):
            came = micros - (int(self._allotted[row]) if change.keep == KEEP_ALL else change.keep)
            if came > 0:
                self._slice[row], self._came_s[row] = came, now_s
                self._in_vain.discard(change.account)
            elif change.least and not change.most:
                self._in_vain.add(change.account)
            self._allotted[row], self._used[row] = micros, change.used
        books.native.set_allotments(self._leaves[rows], self._days[rows], np.array(allotted, np.int64))

    def give_back_all(self, books: Books) -> None:
        """Lower every allotment to what is committed."""
        books.native.give_back(self._leaves, self._days)

    def changes(self, books: Books) -> list[Change]:
        """Every row as it is now, nothing asked for; what a fenced ledger does not know of stays allotted."""
        keep, used = self._books(books).T[1:3].tolist()
        return [Change(*key, KEEP_ALL if books.fenced else keep[row], used[row]) for key, row in self._place.items()]

    def sums(self, books: Books) -> tuple[int, int]:
        """See `Holder.money`."""
        with self._lock:
            leaves, days = self._leaves, self._days
        table = books.native.allotted_books(leaves, days).reshape(-1, 4)
        return int(table[:, 0].sum()), int((table[:, 0] - table[:, 2]).sum())

    def _surplus(self, table: Int64, needed: set[int], now_ms: int) -> Int64:
        """Rows that have something to give back: of days that are over, and below nodes where line items wait."""
        has, committed, used, _ = table.T
        over = (self._days < self._shares.days(self._leaves, now_ms - BEHIND_MS)) & (has > committed)
        wanted = self._shares.cut(self._leaves, self._days)
        if needed:
            kept = self._seconds() - self._came_s < KEEP_S
            wanted |= self._shares.below(needed)[self._leaves] & ~kept
        return np.flatnonzero(over | (wanted & (has > used)))

    def _wishes(self, table: Int64, today: Int32, needs: dict[int, tuple[int, int]], now_ms: int) -> dict[Key, Wish]:
        """What to ask for, by line item and day."""
        wishes: dict[Key, Wish] = {}
        for account, (micros, at_ms) in needs.items():
            wishes[account, self._shares.day(account, at_ms)] = (micros, WISH * micros, 0)
        has, _, used, _ = table.T
        active = (used > self._used) & (self._days == today)  # somebody spends of it
        for row in np.flatnonzero(active & (2 * (has - used) < self._slice)).tolist():
            wishes.setdefault((int(self._leaves[row]), int(self._days[row])), (1, 0, 0))
        tomorrow = self._shares.days(self._leaves, now_ms + AHEAD_MS)
        for row in np.flatnonzero(active & (tomorrow != today)).tolist():
            key = int(self._leaves[row]), int(tomorrow[row])
            if key not in self._place:
                wishes.setdefault(key, (1, 0, 0))
        return wishes

    def _first_shares(self, books: Books, n_live: int, beat: bool, now_ms: int) -> dict[Key, Wish]:
        """What to ask for before anybody bids: for line items that have nothing, today, and tomorrow just before."""
        with self._lock:
            if self._offered_of != (books, books.version):  # what had nothing left may have by now
                self._offered_of = books, books.version
                self._offered = np.full((2, len(self._expected)), np.iinfo(np.int32).min, np.int32)
                beat = True
            expected, offered = self._expected, self._offered
        found: dict[Key, Wish] = {}
        if not (beat or self.asks_on):
            return found
        known = np.isin(expected, self._shares.leaves)  # a new one may not have been copied yet
        for moment, last in zip((now_ms, now_ms + AHEAD_MS), offered, strict=True):
            rows = np.flatnonzero(known)
            rows = rows[self._shares.days(expected[rows], moment) != last[rows]]
            if len(rows):
                found |= self._share_out(books, expected, rows, last, (n_live, moment))
        self.asks_on = len(found) >= FIRST_AT_ONCE
        return found

    def _share_out(
        self, books: Books, expected: Int32, rows: Int64, last: Int32, on: tuple[int, int]
    ) -> dict[Key, Wish]:
        """First shares of some rows of the line items that are expected; notes the day of those that need no other."""
        n_live, moment = on
        known = expected[np.isin(expected, self._shares.leaves)]
        parts = np.zeros(len(expected), np.int64)
        parts[np.isin(expected, known)] = self._shares.equal_parts(books, known, moment) // (FIRST_PART * n_live)
        days = self._shares.days(expected[rows], moment)
        table = books.native.allotted_books(expected[rows], days).reshape(-1, 4)
        unused = table[:, 0] - table[:, 2]
        lacks = 2 * unused < parts[rows]
        asks = np.flatnonzero(lacks)[:FIRST_AT_ONCE]
        done = np.concatenate([np.flatnonzero(~lacks & (unused > 0)), asks])
        last[rows[done]] = days[done]
        leaves, most = expected[rows[asks]].tolist(), (parts[rows] - unused)[asks].tolist()
        return {
            (leaf, day): (1, 0, micros) for leaf, day, micros in zip(leaves, days[asks].tolist(), most, strict=True)
        }

    def _books(self, books: Books) -> Int64:
        """Allotted, committed, used and billed of the rows, (n, 4) int64."""
        return books.native.allotted_books(self._leaves, self._days).reshape(-1, 4)

    def _add(self, keys: Sequence[Key]) -> None:
        """New rows, of which nothing is allotted."""
        for key in keys:
            self._place.setdefault(key, len(self._place))
        n = len(self._place) - len(self._leaves)
        added = np.array(list(self._place)[len(self._leaves) :], np.int32).reshape(-1, 2)
        with self._lock:
            self._leaves = np.concatenate([self._leaves, added[:, 0]])
            self._days = np.concatenate([self._days, added[:, 1]])
        self._allotted, self._used, self._slice = (
            np.concatenate([column, np.zeros(n, np.int64)]) for column in (self._allotted, self._used, self._slice)
        )
        self._came_s = np.concatenate([self._came_s, np.full(n, -KEEP_S)])

    def _keep(self, rows: Int64) -> None:
        """Forget all other rows."""
        with self._lock:
            self._leaves, self._days = self._leaves[rows], self._days[rows]
        self._allotted, self._used, self._slice = self._allotted[rows], self._used[rows], self._slice[rows]
        self._came_s = self._came_s[rows]
        pairs = zip(self._leaves.tolist(), self._days.tolist(), strict=True)
        self._place = {key: row for row, key in enumerate(pairs)}
