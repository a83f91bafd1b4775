"""What is left of every budget over all holders, and this holder's part of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from zoneinfo import ZoneInfo

import numpy as np

from headrace.authority.authority import Amounts
from headrace.authority.schema import LIFE
from headrace.authority.tree import UNBOUNDED
from headrace.authority.views import Total
from headrace.ledger.books import Books
from headrace.ledger.budgets import AccountRow
from headrace.ledger.days import local_day
from headrace.types import Bool, Int32, Int64

MOST_DAYS = 64
"""Budget days of which sums are kept."""


class Shares:
    """Arrays by account number, from a copy of the authority's settings and sums.

    Thread-safe: its own lock is never held while anybody waits for the authority or a disk, so bids may ask.

    ``part`` : this holder's part of all traffic, 0 to 1.   ``leaves`` : (m,) int32, the line items.
    """

    def __init__(self) -> None:
        self.part = 1.0
        self.leaves: Int32 = np.zeros(0, np.int32)
        self._lock = threading.RLock()
        self._version = -1
        self._books: Books | None = None
        self._parent: Int32 = np.zeros(0, np.int32)
        self._sums: dict[int, Int64] = {}
        self._others: dict[int, dict[str, Amounts]] = {}
        self._days: dict[int, tuple[int, int, int]] = {}

    def follow(self, books: Books) -> None:
        """Take over changed settings."""
        with self._lock:
            if books is not self._books or books.version != self._version:
                self._take_over(books)

    def _take_over(self, books: Books) -> None:
        version, rows = books.version, dict(books.rows)  # another thread may take over settings meanwhile
        n = max(rows, default=-1) + 1
        self._parent = np.full(n, -1, np.int32)
        self._lifetime, self._daily = np.full(n, UNBOUNDED), np.full(n, UNBOUNDED)
        self._start, self._end = np.zeros(n, np.int64), np.full(n, UNBOUNDED)
        self._zone = np.zeros(n, np.int32)
        zones: dict[str, int] = {}
        self._zones: list[ZoneInfo] = []
        for number, row in rows.items():
            self._read(number, row, books.balances.get(number))
            zone = books.zone_of(number)
            if zones.setdefault(zone.key, len(zones)) == len(self._zones):
                self._zones.append(zone)
            self._zone[number] = zones[zone.key]
        self.leaves = np.array(sorted(books.leaves.intersection(rows)), np.int32)
        self._days.clear()
        self._books, self._version = books, version

    def _read(self, number: int, row: AccountRow, balance: int | None) -> None:
        own = row.settings
        self._parent[number] = row.parent
        limits = [limit for limit in (own.lifetime_micros, balance) if limit is not None]
        self._lifetime[number] = min(limits, default=UNBOUNDED)
        self._daily[number] = UNBOUNDED if own.daily_micros is None else own.daily_micros
        self._start[number], self._end[number] = own.flight_start_ms, own.flight_end_ms or UNBOUNDED

    def forget(self) -> None:
        """Know of no sums and no others' books: they are read anew."""
        with self._lock:
            self._sums.clear()
            self._others.clear()

    def add_totals(self, totals: Iterable[Total]) -> None:
        """Take over changed sums."""
        with self._lock:
            for total in totals:
                sums = self._sums.get(total.day)
                if sums is None or sums.shape[1] <= total.account:
                    sums = self._sums[total.day] = _grown(sums, max(total.account + 1, len(self._parent)))
                sums[:, total.account] = total.allotted, total.used
            days = sorted(day for day in self._sums if day != LIFE)
            for day in days[:-MOST_DAYS]:
                del self._sums[day]

    def add_books(self, rows: Iterable[tuple[str, Amounts]], own: str) -> None:
        """Take over other holders' changed amounts."""
        with self._lock:
            for holder, amounts in rows:
                if holder != own:
                    self._others.setdefault(amounts.account, {})[holder] = amounts

    def others(self, books: Books) -> dict[int, list[int]]:
        """By account: billed, won, reserved, unused, late, disputed and stranded micros of the other holders."""
        with self._lock:
            self.follow(books)
            sums: dict[int, list[int]] = {}
            for leaf, holders in self._others.items():
                of = [sum(column) for column in zip(*(amounts[1:] for amounts in holders.values()), strict=True)]
                for node in self._path(leaf):
                    sums[node] = [a + b for a, b in zip(sums.get(node, [0] * 7), of, strict=True)]
            return sums

    def _path(self, account: int) -> list[int]:
        """The account and what is above it, from below."""
        found = []
        while account >= 0:
            found.append(account)
            account = int(self._parent[account])
        return found

    def day(self, account: int, now_ms: int) -> int:
        """An account's budget day at a moment."""
        with self._lock:
            zone = int(self._zone[account])
            found = self._days.get(zone)
            if found is None or not found[1] <= now_ms < found[2]:
                found = self._days[zone] = local_day(self._zones[zone], now_ms)
            return found[0]

    def days(self, accounts: Int32, now_ms: int) -> Int32:
        """Budget days at a moment, (n,) int32."""
        with self._lock:
            of_zone = [local_day(zone, now_ms)[0] for zone in self._zones]
            return np.array(of_zone, np.int32)[self._zone[accounts]] if of_zone else np.zeros(0, np.int32)

    def cut(self, leaves: Int32, days: Int32) -> Bool:
        """Whether more is allotted for a line item's day than a limit says that was cut, (n,) bool."""
        with self._lock:
            found = self.below(self._over(LIFE))[leaves]
            for day in np.unique(days).tolist():
                found |= (days == day) & self.below(self._over(day))[leaves]
            return found

    def _over(self, day: int) -> set[int]:
        """Nodes below which more is allotted on a day, or in all, than their limits say."""
        sums = self._sums.get(day)
        if sums is None:
            return set()
        n = min(sums.shape[1], len(self._parent))
        limit = self._lifetime if day == LIFE else self._daily
        return set(np.flatnonzero(sums[0, :n] > limit[:n]).tolist())

    def below(self, nodes: set[int]) -> Bool:
        """Whether each account is one of some nodes or below one, by number."""
        with self._lock:
            marked = np.zeros(len(self._parent), bool)
            marked[[node for node in nodes if node < len(marked)]] = True
            for _ in range(2 if nodes else 0):  # two levels above a line item
                marked |= np.where(self._parent >= 0, marked[self._parent], False)
            return marked

    def left(self, books: Books, accounts: Int32, now_ms: int) -> Int64:
        """What all holders together may still spend of accounts, (n,) int64 micros; 0 outside a flight."""
        with self._lock:
            self.follow(books)
            found = np.full(len(accounts), UNBOUNDED)
            nodes = accounts
            for _ in range(3):
                known = nodes >= 0
                at = np.maximum(nodes, 0)
                found = np.where(known, np.minimum(found, self._own_left(at, now_ms)), found)
                nodes = np.where(known, self._parent[at], -1)
            return found

    def equal_parts(self, books: Books, leaves: Int32, now_ms: int) -> Int64:
        """What each of some line items would get if what is left above it were dealt equally, (n,) int64 micros.

        leaves : (n,) int32, distinct; those with nothing left get nothing.
        """
        with self._lock:
            left = self.left(books, leaves, now_ms)
            found, nodes = left, np.where(left > 0, leaves, -1)
            for _ in range(3):
                at = np.maximum(nodes, 0)
                heads = np.bincount(at[nodes >= 0], minlength=len(self._parent))
                part = self._own_left(at, now_ms) // np.maximum(heads[at], 1)
                found = np.where(nodes >= 0, np.minimum(found, part), found)
                nodes = np.where(nodes >= 0, self._parent[at], -1)
            return found

    def _own_left(self, nodes: Int32, now_ms: int) -> Int64:
        """The same by the nodes' own limits alone."""
        days = self.days(nodes, now_ms)
        of_day = np.zeros(len(nodes), np.int64)
        for day in np.unique(days).tolist():
            of_day = np.where(days == day, self._used(day)[nodes], of_day)
        own = np.minimum(self._lifetime[nodes] - self._used(LIFE)[nodes], self._daily[nodes] - of_day)
        flying: Bool = (self._start[nodes] <= now_ms) & (now_ms < self._end[nodes])
        return np.where(flying, np.maximum(own, 0), 0)

    def _used(self, day: int) -> Int64:
        used: Int64 = _grown(self._sums.get(day), len(self._parent))[1]
        return used

    def spendable(self, books: Books, now_ms: int) -> Int64:
        """This holder's part by account number: what it has unused, and its part of what else is left."""
        with self._lock:
            self.follow(books)
            rows = books.native.allotted_books(self.leaves, self.days(self.leaves, now_ms)).reshape(-1, 4)
            unused = np.maximum(rows[:, 0] - rows[:, 2], 0)
            left = self._own_left(np.arange(len(self._parent), dtype=np.int32), now_ms)
            for _ in range(2):  # two levels above a line item
                left = np.where(self._parent >= 0, np.minimum(left, left[self._parent]), left)
            own = np.zeros(len(left), np.int64)
            nodes = self.leaves
            for _ in range(3):
                np.add.at(own, nodes[nodes >= 0], unused[nodes >= 0])
                nodes = np.where(nodes >= 0, self._parent[nodes], -1).astype(np.int32)
            own = np.minimum(own, left)
            return own + ((left - own) * self.part).astype(np.int64)


def _grown(sums: Int64 | None, n: int) -> Int64:
    """Sums of at least n accounts, (2, n) int64: allotted and used."""
    if sums is not None and sums.shape[1] >= n:
        return sums
    grown = np.zeros((2, n), np.int64)
    if sums is not None:
        grown[:, : sums.shape[1]] = sums
    return grown
