"""An exchange's bill held against the ledger, bid by bid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from headrace.audit.auditor import Audit
from headrace.audit.bills import BillRows
from headrace.audit.layout import State, ceil_micros
from headrace.audit.prices import Billed
from headrace.audit.recount import LeaseBook
from headrace.ledger.exchanges import number_of
from headrace.ledger.notices import NoticeType, read_notices
from headrace.ledger.tokens import SAME_CURRENCY, TokenKeys, bodies_of, exchange_hash

SAMPLES = 20

NAMED, CLAIMED = 1, 2
"""A row has a bid's token; and a price of ours."""

EQUAL = "equal"
LATE = "late"
UNVERIFIABLE = "unverifiable"
OTHER_PROCESS = "other_process"
AGREED = (EQUAL, LATE, UNVERIFIABLE, OTHER_PROCESS)
PRICE_DIFFERS = "price_differs"
UNBILLED = "missing_in_ours"
ABOVE = "above_reservation"
RELEASED = "released_before"
DUPLICATE = "duplicate"
FORGED = "forged"
MALFORMED = "malformed"
OTHER_EXCHANGE = "other_exchange"
OTHER_CURRENCY = "other_currency"
NOT_IN_FILE = "missing_in_theirs"
UNCLAIMED = "unclaimed"

MEANING = {
    EQUAL: "billed by both at the same price",
    LATE: "late in ours at the same price",
    UNVERIFIABLE: "billed in ours; the price is condensed by now",
    OTHER_PROCESS: "a bid of another process over the same authority: its data folder knows",
    PRICE_DIFFERS: "billed by both, prices differ",
    UNBILLED: "theirs only; we still hold the money",
    ABOVE: "theirs only; the price is above the reservation",
    RELEASED: "theirs only; the money had gone back",
    DUPLICATE: "rows of a bid that the file named before",
    FORGED: "the token was not signed here",
    MALFORMED: "no token, or no price",
    OTHER_EXCHANGE: "a bid to another exchange",
    OTHER_CURRENCY: "another currency than the bid's",
    NOT_IN_FILE: "billed in ours only",
    UNCLAIMED: "held in ours, and the complete file does not claim it",
}


class Claim(NamedTuple):
    """A bid to be settled: its token, and at which price; -1: as lost."""

    token: str
    price_cpm: int


@dataclass(slots=True)
class Reconciliation:
    """What a bill file and the ledger say of each other; micros by class, each bid rounded up."""

    rows: Counter[str] = field(default_factory=Counter)
    micros: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[str]] = field(default_factory=dict)
    n_rows: int = 0
    first_ms: int = 0
    last_ms: int = 0

    def count(self, kind: str, price_cpm: int, what: str) -> None:
        self.rows[kind] += 1
        self.micros[kind] += ceil_micros(max(price_cpm, 0))
        if kind not in AGREED and len(kept := self.samples.setdefault(kind, [])) < SAMPLES:
            kept.append(what)

    def differs(self) -> bool:
        return any(n for kind, n in self.rows.items() if kind not in AGREED)


class Reconciler:
    """Holds bill rows against a recount.

    billed : prices of the bids that the journal says were billed.
    exchange : whose bill it is; empty: of any.   numbers : by which the journal names exchanges.
    foreign : ids of the keys with which other processes sign.
    """

    def __init__(
        self,
        found: Audit,
        billed: Billed,
        keys: TokenKeys,
        exchange: str = "",
        foreign: Set[int] = frozenset(),
        numbers: Mapping[str, int] | None = None,
    ) -> None:
        self._leases = found.recount.leases
        self._billed = billed
        self._keys = keys
        self._hash = exchange_hash(exchange) if exchange else 0
        self._number = number_of(numbers or {}, exchange) if exchange else 0
        self._foreign = foreign
        self._seen: dict[int, bytearray] = {}
        self._accounts = {account.number: account for account in found.accounts}
        self.result = Reconciliation()

    def add(self, rows: BillRows) -> Iterator[tuple[str, Claim]]:
        """Class and claim of each row that asks for something to be done: `UNBILLED`, `RELEASED`."""
        kinds = np.full(len(rows.tokens), NoticeType.BILLING, np.int8)
        batch = read_notices(self._keys, kinds, rows.tokens, rows.prices, 0)
        bodies, prices, outcomes = batch.bodies, batch.prices.tolist(), batch.outcomes.tolist()
        ours = self._billed.prices(bodies["lease"].astype(np.int64), bodies["serial"].astype(np.int64)).tolist()
        for at, body in enumerate(bodies.tolist()):
            account, lease, serial, day, cpm, currency, rate, named = body[2:10]
            bid = _Bid(account, lease, serial, day, cpm, currency.decode(), rate, named)
            price = rows.prices[at] if outcomes[at] else prices[at]
            foreign = not outcomes[at] and body[1] in self._foreign
            kind = OTHER_PROCESS if foreign else self._screen(bid, outcomes[at], rows.prices[at], rows.currencies[at])
            kind = kind or self._judge(bid, price, ours[at])
            self._count(rows, at, kind, price)
            if kind in (UNBILLED, RELEASED):
                yield kind, Claim(rows.tokens[at], rows.prices[at])

    def _screen(self, bid: _Bid, outcome: int, price: int, currency: str) -> str:
        """Why a row is no bill of ours; empty when it is one."""
        if outcome == 5:
            return FORGED
        if bid.lease and (not self._hash or bid.exchange == self._hash):
            self._mark(bid.lease, bid.serial, NAMED)
        if outcome or price < 0:
            return MALFORMED
        if self._hash and bid.exchange != self._hash:
            return OTHER_EXCHANGE
        if currency and (currency == bid.currency) != (bid.rate in (0, SAME_CURRENCY)):
            return OTHER_CURRENCY
        if self._mark(bid.lease, bid.serial, CLAIMED):
            return DUPLICATE
        return ""

    def _judge(self, bid: _Bid, price: int, ours: int) -> str:
        lease = self._leases.get(bid.lease)
        state = lease.state(bid.serial) if lease is not None else State.ABSENT
        if state in (State.BILLED, State.LATE):
            agreed = EQUAL if state == State.BILLED else LATE
            return UNVERIFIABLE if ours < 0 else agreed if ours == price else PRICE_DIFFERS
        if not _holds(lease, state, bid.cpm):
            return RELEASED
        return UNBILLED if price <= bid.cpm else ABOVE

    def _mark(self, lease: int, serial: int, how: int) -> bool:
        """Note that the file names or claims a bid; whether it did so before."""
        seen = self._seen.setdefault(lease, bytearray())
        if serial >= len(seen):
            seen.extend(bytes(serial + 1 - len(seen)))
        before = seen[serial]
        seen[serial] = before | how
        return bool(before & how)

    def _count(self, rows: BillRows, at: int, kind: str, price: int) -> None:
        result, moment = self.result, rows.times_ms[at]
        result.n_rows += 1
        if moment:
            result.first_ms = min(result.first_ms or moment, moment)
            result.last_ms = max(result.last_ms, moment)
        said = "without a price" if price < 0 else f"at {price}"
        result.count(kind, price, f"row {rows.first_row + at}: {rows.tokens[at] or 'no token'} {said}")

    def only_ours(self, from_ms: int, until_ms: int) -> None:
        """Count what we billed in [from_ms, until_ms) and the file does not name."""
        for lease, serial, price in self._billed.between(from_ms, until_ms, self._number):
            if not self._was_named(lease, serial):
                self.result.count(NOT_IN_FILE, price, f"lease {lease}, bid {serial} at {price}")

    def unclaimed(self, from_ms: int, until_ms: int, now_ms: int) -> Iterator[Claim]:
        """Held bids of the exchange, issued in [from_ms, until_ms), that a complete file does not name.

        Their tokens are signed anew: who has the keys may, and a settlement reads nothing else of them.
        """
        for number, lease in self._leases.items():
            for serial, token in sorted(lease.held.items()):
                if token.exchange != self._number or not from_ms <= token.issued_ms < until_ms:
                    continue
                if self._was_named(number, serial):
                    continue
                currency = self._accounts[lease.account].currency.encode()
                place = lease.account, number, serial, lease.day
                claim = (*place, token.cpm, currency, SAME_CURRENCY, self._hash, now_ms)
                (text,) = self._keys.issue(bodies_of([claim]))
                self.result.count(UNCLAIMED, token.cpm, f"lease {number}, bid {serial}, reserved at {token.cpm}")
                yield Claim(text, -1)

    def _was_named(self, lease: int, serial: int) -> bool:
        seen = self._seen.get(lease, b"")
        return serial < len(seen) and bool(seen[serial])


@dataclass(frozen=True, slots=True)
class _Bid:
    account: int
    lease: int
    serial: int
    day: int
    cpm: int
    currency: str
    rate: int
    exchange: int


def _holds(lease: LeaseBook | None, state: int, cpm: int) -> bool:
    """Whether the money of a bid is still held for it."""
    if state in (State.RESERVED, State.WON, State.DISPUTED):
        return True
    return state == State.ABSENT and lease is not None and lease.pool >= ceil_micros(cpm)
