"""An authority's database, its clock, and holders without a ledger that speak to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headrace.authority import operators
from headrace.authority.authority import Authority, Claim, Report
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.schema import LIFE
from headrace.authority.settings import AuthorityConfig
from headrace.authority.views import totals_since
from headrace.ledger.budgets import find_account, put_account
from headrace.ledger.journal import query_of

NOW = 1_800_000_000_000
TODAY = 20_833
LEAVES = ("a/c/x", "a/c/y", "a/d/z")


class Rig:
    """A database's URL, a clock, and holders that speak as the ledgers would."""

    def __init__(self, url: str) -> None:
        self.config = AuthorityConfig(url=url, name="test", timeout_ms=60_000)
        self.now_ms = NOW
        self.opened: list[Authority] = []

    def open(self, **settings: Any) -> Authority:
        authority = Authority(replace(self.config, **settings), clock_ms=lambda: self.now_ms)
        self.opened.append(authority)
        return authority

    def funded(self, balance: int = 1_000_000) -> Authority:
        authority = self.open()
        operators.fund(authority, "deposit", "a", balance, "USD", "ann")
        for leaf in LEAVES:
            self.limit(authority, leaf)
        return authority

    def limit(self, authority: Authority, account_id: str, **settings: Any) -> int:
        return authority.database.write(
            lambda sql: put_account(sql, account_id, settings, self.now_ms, "ann", "test").number  # type: ignore[arg-type]
        )

    def holder(self, authority: Authority, name: str, committed: tuple[tuple[str, int, int], ...] = ()) -> Speaker:
        return Speaker(authority, name, committed)

    def number(self, account_id: str) -> int:
        row = self.opened[0].database.read(lambda sql: find_account(query_of(sql), account_id))
        assert row is not None
        return row.number

    def total(self, account_id: str, day: int = LIFE) -> int:
        """What is allotted below a node."""
        wanted = self.number(account_id), day
        return {(row.account, row.day): row.allotted for row in totals_since(self.opened[0], 0)}.get(wanted, 0)

    def close(self) -> None:
        for authority in self.opened:
            authority.close()


class Speaker:
    """A holder without a ledger: registers, renews, and remembers what it was allotted."""

    def __init__(self, authority: Authority, name: str, committed: tuple[tuple[str, int, int], ...] = ()) -> None:
        self.authority, self.name = authority, name
        self.sequence = 1
        registration = authority.register(name, "", self.sequence, committed)
        self.epoch, self.number = registration.epoch, 0
        self.has = {(account, day): micros for account, day, micros in registration.allotments}

    def renew(self, *changes: Change, sent: bool = True) -> list[int]:
        claim = Claim(self.name, self.epoch, self.number + 1)
        renewal = self.authority.renew(claim, changes, Report(self.sequence, 60))
        if sent:
            self.number += 1
            self.has |= {
                (change.account, change.day): micros for change, micros in zip(changes, renewal.allotted, strict=True)
            }
        return renewal.allotted

    def ask(self, account: int, least: int = 1, wish: int = 0, day: int = TODAY) -> int:
        before = self.has.get((account, day), 0)
        return self.renew(Change(account, day, KEEP_ALL, 0, least, wish))[0] - before
