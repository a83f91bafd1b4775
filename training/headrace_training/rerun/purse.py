"""Money in memory: the limits of campaigns, kept while recorded auctions run once more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from headrace.bidding.board import limit_of
from headrace.bidding.pacing.traffic import local_day
from headrace.ledger.ledger import Reason
from headrace.types import Int8, Int32, Int64

NANOS_PER_MICRO = 1000
NO_LIMIT = 1 << 62


@dataclass(slots=True)
class Node:
    """An account; amounts are nanos, of which an impression costs as many as its price has CPM micros.

    lifetime, daily : limits.   spent, today : what is spent or reserved, in all and in the local day that ends at
    ``day_end_ms``.
    """

    parent: int
    zone: ZoneInfo
    lifetime: int = NO_LIMIT
    daily: int = NO_LIMIT
    spent: int = 0
    today: int = 0
    day_end_ms: int = 0

    def room(self) -> int:
        return min(self.lifetime - self.spent, self.daily - self.today)


@dataclass
class Purse:
    """What the bidding engine asks of a ledger, without a disk: a bid's money is spent or back once its fate is known.

    Attribute ``owned``: always.
    """

    owned: bool = True
    _nodes: list[Node] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _open: dict[str, tuple[int, int]] = field(default_factory=dict)
    _serial: Any = field(default_factory=itertools.count)

    def set_limits(self, campaigns: Sequence[Any]) -> None:
        """Take over the limits of campaigns and their line items; what is spent stays."""
        for campaign in campaigns:
            zone = ZoneInfo(campaign.time_zone)
            advertiser = self._node(campaign.advertiser_id, -1, zone)
            account = f"{campaign.advertiser_id}/{campaign.campaign_id}"
            top = self._node(account, advertiser, zone)
            self._limit(top, campaign.limits)
            for line in campaign.line_items:
                self._limit(self._node(f"{account}/{line.line_item_id}", top, zone), line.limits)

    def spend_before(self, account_id: str, micros: int) -> None:
        """Let an account have spent something of its lifetime limit before the first auction."""
        self._nodes[self._numbers[account_id]].spent += micros * NANOS_PER_MICRO

    def account_number(self, account_id: str) -> int:
        """The number of an account that has limits."""
        return self._numbers[account_id]

    def reserve(
        self, accounts: Int32, amounts_cpm: Int64, exchanges: Sequence[str], now_ms: int
    ) -> tuple[list[str | None], Int8]:
        """See `headrace.ledger.ledger.Ledger.reserve`."""
        tokens: list[str | None] = []
        reasons = np.zeros(len(accounts), np.int8)
        for place, (account, cpm) in enumerate(zip(accounts.tolist(), amounts_cpm.tolist(), strict=True)):
            path = self._path(account, now_ms)
            if min(node.room() for node in path) < cpm:
                tokens.append(None)
                reasons[place] = Reason.BUDGET
                continue
            token = f"{next(self._serial):x}"
            self._open[token] = account, cpm
            self._add(account, cpm)
            tokens.append(token)
        return tokens, reasons

    def settle(self, token: str, price_cpm: int) -> None:
        """End a reservation: so much is spent, the rest goes back; 0 for a lost auction."""
        account, cpm = self._open.pop(token)
        self._add(account, price_cpm - cpm)

    def release_reservations(self, tokens: Sequence[str]) -> None:
        """See `headrace.ledger.ledger.Ledger.release_reservations`."""
        for token in tokens:
            self.settle(token, 0)

    def spendable(self, accounts: Int32, now_ms: int | None = None) -> Int64:
        """See `headrace.ledger.ledger.Ledger.spendable`."""
        rooms = [min(node.room() for node in self._path(account, now_ms or 0)) for account in accounts.tolist()]
        return np.array(rooms, np.int64) // NANOS_PER_MICRO

    def spent(self, accounts: Int32) -> Int64:
        """See `headrace.ledger.ledger.Ledger.spent`."""
        return np.array([self._nodes[account].spent for account in accounts.tolist()], np.int64) // NANOS_PER_MICRO

    def spent_today(self, accounts: Int32, now_ms: int) -> Int64:
        """See `headrace.ledger.ledger.Ledger.spent_today`."""
        spent = [self._path(account, now_ms)[0].today for account in accounts.tolist()]
        return np.array(spent, np.int64) // NANOS_PER_MICRO

    def _node(self, account_id: str, parent: int, zone: ZoneInfo) -> int:
        if account_id not in self._numbers:
            self._numbers[account_id] = len(self._nodes)
            self._nodes.append(Node(parent, zone))
        return self._numbers[account_id]

    def _limit(self, account: int, limits: Any) -> None:
        lifetime, daily = (limit_of(limits, name) for name in ("lifetime_micros", "daily_micros"))
        node = self._nodes[account]
        node.lifetime = lifetime * NANOS_PER_MICRO if lifetime >= 0 else NO_LIMIT
        node.daily = daily * NANOS_PER_MICRO if daily >= 0 else NO_LIMIT

    def _path(self, account: int, now_ms: int) -> list[Node]:
        """The account and those above it, their days begun anew where they ended."""
        path = []
        while account >= 0:
            node = self._nodes[account]
            if now_ms >= node.day_end_ms > 0 or (now_ms and not node.day_end_ms):
                node.today, node.day_end_ms = 0, local_day(node.zone, now_ms)[1]
            path.append(node)
            account = node.parent
        return path

    def _add(self, account: int, nanos: int) -> None:
        while account >= 0:
            node = self._nodes[account]
            node.spent += nanos
            node.today += nanos
            account = node.parent
