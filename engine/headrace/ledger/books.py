"""The settings of all accounts as the native ledger sees them, and the names that its numbers go by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np

from headrace import _native
from headrace.ledger.budgets import AccountRow, accounts_since, balance_of, settings_version
from headrace.ledger.days import local_day, time_zone
from headrace.ledger.exchanges import Exchanges
from headrace.ledger.journal import Query, get_meta
from headrace.ledger.tokens import exchange_hash
from headrace.types import Int32, Int64

MAX_HASHES = 4096
"""Exchanges' names whose hashes are remembered, at most."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """One node of the money tree, micros; the columns of `Account` in campaigns.proto."""

    account_id: str
    account_number: int
    budget_in_force_micros: int
    billed_micros: int
    won_micros: int
    reserved_micros: int
    lease_unused_micros: int
    late_micros: int
    disputed_micros: int
    stranded_micros: int

    @property
    def committed_micros(self) -> int:
        return self.billed_micros + self.won_micros + self.reserved_micros + self.lease_unused_micros


class Books:
    """Keeps one native ledger's settings equal to the tables.

    Not thread-safe for writing: callers hold one lock around `refresh` and `ensure_days`.
    """

    def __init__(self, native: _native.Ledger, exchanges: Exchanges) -> None:
        self.native = native
        self.exchanges = exchanges
        self.rows: dict[int, AccountRow] = {}
        self.numbers: dict[str, int] = {}
        self.balances: dict[int, int] = {}
        self.leaves: set[int] = set()
        self.currencies: dict[int, bytes] = {}
        self.every_currency: set[bytes] = set()
        self.fenced = ""
        self._version = 0
        self._zones: dict[str, int] = {"UTC": 0}
        self._zone_infos: list[ZoneInfo] = [time_zone("UTC")]
        self._braked_numbers: dict[str, int] = {}
        self._hashes: dict[str, int] = {}
        self._codes: dict[str, int] = {}
        self._braked: set[tuple[str, str]] = set()
        self._days_from = self._days_until = self._now_ms = 0

    def refresh(self, query: Query) -> list[int]:
        """Take over what changed in the tables since the last time; returns the changed accounts."""
        version = settings_version(query)
        if version == self._version:
            return []
        changed = list(accounts_since(query, self._version))
        for row in changed:
            self._put(row, balance_of(query, row.number) if row.parent < 0 else 0)
        self._set_brakes({(str(row[0]), str(row[1])) for row in query("SELECT * FROM ledger_brakes", ())})
        self.fenced = get_meta(query, "fenced") or get_meta(query, "authority_fenced")
        self._version = version
        return [row.number for row in changed]

    def _put(self, row: AccountRow, balance_micros: int) -> None:
        own = row.settings
        zone = -1
        if own.time_zone is not None:
            zone = self._zones.setdefault(own.time_zone, len(self._zones))
            if zone == len(self._zone_infos):
                self._zone_infos.append(time_zone(own.time_zone))
                # ahead of the account: a bid of another thread may ask for its day at once
                self.native.set_zone_day(zone, *local_day(self._zone_infos[zone], self._now_ms))
                self._days_until = 0
        limits = [-1 if limit is None else limit for limit in (own.lifetime_micros, own.daily_micros)]
        flight = [own.flight_start_ms, own.flight_end_ms]
        self.native.put_account(
            row.number, row.parent, [*limits, balance_micros], flight, zone, int(own.mode), own.expire_after_ms
        )
        self.rows[row.number] = row
        if row.parent < 0:
            self.balances[row.number] = balance_micros
        self.numbers[row.account_id] = row.number
        self.currencies[row.number] = own.currency.encode()
        self.every_currency.add(self.currencies[row.number])
        if row.account_id.count("/") == 2:
            self.leaves.add(row.number)

    def set_balance(self, number: int, balance_micros: int) -> None:
        """Set an advertiser's balance ahead of the tables."""
        self._put(self.rows[number], balance_micros)

    def _set_brakes(self, braked: set[tuple[str, str]]) -> None:
        for exchange, advertiser_id in braked ^ self._braked:
            engaged = (exchange, advertiser_id) in braked
            if advertiser_id:
                self.native.set_brake_advertiser(self.numbers[advertiser_id], engaged)
            elif exchange:
                self.native.set_brake_exchange(self.exchange_code(exchange), engaged)
            else:
                self.native.set_brake_all(engaged)
        self._braked = braked

    def exchange_code(self, name: str) -> int:
        """The dense number of an exchange that is or was braked."""
        number = self._braked_numbers.setdefault(name, len(self._braked_numbers) + 1)
        self._codes = {}  # not emptied: a thread that looked before the brake remembers that in the old one
        return number

    def exchange_codes(self, names: Sequence[str]) -> Int32:
        """What the native ledger is told of exchanges, (n,) int32: the number of records, and below its 16 bits the one
        that a brake knows; 0 where never braked, since senders choose names."""
        codes = self._codes
        return np.array([codes.get(name) or self._code(name) for name in names], np.int32)

    def _code(self, name: str) -> int:
        codes = self._codes  # before what it remembers is looked up
        if len(codes) >= MAX_HASHES:
            codes.clear()
        code = codes[name] = self.exchanges.numbers.get(name, 0) << 16 | self._braked_numbers.get(name, 0)
        return code

    def know_exchanges(self, exchanges: Exchanges) -> None:
        """Take over new numbers of exchanges."""
        self.exchanges = exchanges
        self._codes = {}

    def exchange_hash(self, name: str) -> int:
        """The short hash of an exchange's name that tokens carry."""
        found = self._hashes.get(name)
        if found is None:
            if len(self._hashes) >= MAX_HASHES:
                self._hashes.clear()
            found = self._hashes[name] = exchange_hash(name)
        return found

    def zone_of(self, number: int) -> ZoneInfo:
        """The time zone whose days an account's budget counts."""
        row: AccountRow | None = self.rows[number]
        while row is not None and row.settings.time_zone is None:
            row = self.rows.get(row.parent)
        return self._zone_infos[self._zones[row.settings.time_zone or "UTC"] if row is not None else 0]

    @property
    def version(self) -> int:
        """Grows with every change of settings."""
        return self._version

    def days_hold(self, now_ms: int) -> bool:
        """Whether every zone's budget day, as set, is the one of this moment."""
        return self._days_from <= now_ms < self._days_until

    def ensure_days(self, now_ms: int) -> None:
        """Set every zone's budget day for this moment; leases of other days go back."""
        self._now_ms = now_ms
        if self.days_hold(now_ms):
            return
        bounds = [local_day(zone, now_ms) for zone in self._zone_infos]
        for zone, (day, start_ms, end_ms) in enumerate(bounds):
            self.native.set_zone_day(zone, day, start_ms, end_ms)
        self._days_from = max(start_ms for _, start_ms, _ in bounds)
        self._days_until = min(end_ms for _, _, end_ms in bounds)
        self.native.recall_stale()

    def states(self, stranded_before_ms: int) -> list[AccountState]:
        """Every account's amounts, by account number."""
        rows = sorted(self.rows.items())  # first: the native ledger knows an account before its row is here
        table = self.native.reports(stranded_before_ms).reshape(-1, 8).tolist()
        return [self._state(row, table[number]) for number, row in rows]

    def state(self, number: int, stranded_before_ms: int) -> AccountState:
        """One account's amounts."""
        table = self.native.reports(stranded_before_ms).reshape(-1, 8)
        return self._state(self.rows[number], table[number].tolist())

    @staticmethod
    def _state(row: AccountRow, amounts: list[int]) -> AccountState:
        billed, won, reserved, unused, in_force, late, disputed, stranded = amounts
        return AccountState(
            row.account_id, row.number, in_force, billed, won, reserved, unused, late, disputed, stranded
        )

    def spendable(self, numbers: Int32, now_ms: int) -> Int64:
        out = np.empty(len(numbers), np.int64)
        self.native.spendable(np.ascontiguousarray(numbers, np.int32), now_ms, out)
        return out

    def spent(self, numbers: Int32, today: bool) -> Int64:
        out = np.empty(len(numbers), np.int64)
        self.native.spent(np.ascontiguousarray(numbers, np.int32), today, out)
        return out
