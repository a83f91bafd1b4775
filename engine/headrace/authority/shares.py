"""What is left of every budget over all holders, and this holder's part of it."""

from __future__ import annotations

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

    ``part`` : this holder's part of all traffic, 0 to 1.   ``leaves`` : (m,) int32, the line items.
    """

    def __init__(self) -> None:
        self.part = 1.0
        self.leaves: Int32 = np.zeros(0, np.int32)
        self._version = -1
        self._books: Books | None = None
        self._parent: Int32 = np.zeros(0, np.int32)
        self._sums: dict[int, Int64] = {}
        self._others: dict[int, dict[str, Amounts]] = {}
        self._days: dict[int, tuple[int, int, int]] = {}

    def follow(self, books: Books) -> None:
        """Take over changed settings."""
        if books is self._books and books.version == self._version:
            return
        rows = books.rows
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
        self.leaves = np.array(sorted(books.leaves), np.int32)
        self._days.clear()
        self._books, self._version = books, books.version

    def _read(self, number: int, row: AccountRow, balance: int | None) -> None:
        own = row.settings
        self._parent[number] = row.parent
        limits = [limit for limit in (own.lifetime_micros, balance) if limit is not None]
        self._lifetime[number] = min(limits, default=UNBOUNDED)
        self._daily[number] = UNBOUNDED if own.daily_micros is None else own.daily_micros
        self._start[number], self._end[number] = own.flight_start_ms, own.flight_end_ms or UNBOUNDED

    def add_totals(self, totals: Iterable[Total]) -> None:
        """Take over changed sums."""
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
        for holder, amounts in rows:
            if holder != own:
                self._others.setdefault(amounts.account, {})[holder] = amounts

    def others(self) -> dict[int, list[int]]:
        """By account: billed, won, reserved, unused, late, disputed and stranded micros of the other holders."""
        sums: dict[int, list[int]] = {}
        for leaf, holders in self._others.items():
            of = [sum(column) for column in zip(*(amounts[1:] for amounts in holders.values()), strict=True)]
            for node in self.path(leaf):
                sums[node] = [a + b for a, b in zip(sums.get(node, [0] * 7), of, strict=True)]
        return sums

    def path(self, account: int) -> list[int]:
        """The account and what is above it, from below."""
        found = []
        while account >= 0:
            found.append(account)
            account = int(self._parent[account])
        return found

    def day(self, account: int, now_ms: int) -> tuple[int, int, int]:
        """An account's budget day at a moment, and its bounds, as of `headrace.ledger.days.local_day`."""
        zone = int(self._zone[account])
        found = self._days.get(zone)
        if found is None or not found[1] <= now_ms < found[2]:
            found = self._days[zone] = local_day(self._zones[zone], now_ms)
        return found

    def days(self, accounts: Int32, now_ms: int) -> Int32:
        """Budget days at a moment, (n,) int32."""
        of_zone = [local_day(zone, now_ms)[0] for zone in self._zones]
        return np.array(of_zone, np.int32)[self._zone[accounts]] if of_zone else np.zeros(0, np.int32)

    def cut_nodes(self) -> set[int]:
        """Nodes below which more is allotted than their limits say."""
        found: set[int] = set()
        for day, (allotted, _) in self._sums.items():
            n = min(len(allotted), len(self._parent))
            limit = self._lifetime if day == LIFE else self._daily
            found.update(np.flatnonzero(allotted[:n] > limit[:n]).tolist())
        return found

    def below(self, nodes: set[int]) -> Bool:
        """Whether each account is one of some nodes or below one, by number."""
        marked = np.zeros(len(self._parent), bool)
        marked[[node for node in nodes if node < len(marked)]] = True
        for _ in range(2):  # two levels above a line item
            marked |= np.where(self._parent >= 0, marked[self._parent], False)
        return marked

    def left(self, now_ms: int) -> Int64:
        """What all holders together may still spend of each account, by number; 0 outside its flight."""
        n = len(self._parent)
        days = self.days(np.arange(n, dtype=np.int32), now_ms)
        day_used = np.zeros(n, np.int64)
        for day in np.unique(days).tolist():
            day_used = np.where(days == day, self._used(day, n), day_used)
        flying: Bool = (self._start <= now_ms) & (now_ms < self._end)
        own = np.minimum(self._lifetime - self._used(LIFE, n), self._daily - day_used)
        left = np.where(flying, np.maximum(own, 0), 0)
        for _ in range(2):
            left = np.where(self._parent >= 0, np.minimum(left, left[self._parent]), left)
        return left

    def _used(self, day: int, n: int) -> Int64:
        sums = self._sums.get(day)
        return np.zeros(n, np.int64) if sums is None else _grown(sums, n)[1, :n]

    def spendable(self, unused: Int64, now_ms: int) -> Int64:
        """This holder's part by account number: what it has unused, and its part of what else is left.

        unused : (m,) int64, what is allotted to this holder and not used, by leaf.
        """
        left = self.left(now_ms)
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
