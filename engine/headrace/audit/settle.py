"""Carrying a reconciliation out: through a running server, or on the store when none runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from headrace.audit.reconcile import RELEASED, Claim
from headrace.client import Client
from headrace.errors import LedgerNotOwnerError
from headrace.events.store import DATABASE, Store
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, NoticeType
from headrace.v1 import bidder_pb2

AT_ONCE = 500
"""Bids in one commit."""

CALLS = 16
"""Calls of a server at once."""


class Settler(Protocol):
    """Who ends reservations."""

    def close(self, claims: list[Claim]) -> list[NoticeOutcome]:
        """End held reservations by hand, audited, of at most `AT_ONCE` bids."""

    def bill(self, claims: list[Claim]) -> list[NoticeOutcome]:
        """Tell bills, of at most `AT_ONCE` bids, as the exchange should have."""


class StoreSettler:
    """On the store itself, as its owner."""

    def __init__(self, ledger: Ledger, who: str, why: str) -> None:
        self._ledger, self._who, self._why = ledger, who, why

    def close(self, claims: list[Claim]) -> list[NoticeOutcome]:
        prices = [_price_of(claim) for claim in claims]
        return self._ledger.close_reservations([claim.token for claim in claims], self._who, self._why, prices)

    def bill(self, claims: list[Claim]) -> list[NoticeOutcome]:
        types = np.full(len(claims), NoticeType.BILLING, np.int8)
        tokens, prices = [claim.token for claim in claims], np.array([claim.price_cpm for claim in claims], np.int64)
        return [NoticeOutcome(outcome) for outcome in self._ledger.notify(types, tokens, prices, _now_ms()).tolist()]


class ServerSettler:
    """Through the server that owns the ledger; the audit names the caller and, in the reason, who."""

    def __init__(self, client: Client, who: str, why: str) -> None:
        self._client, self._reason = client, f"{why} ({who})"

    def close(self, claims: list[Claim]) -> list[NoticeOutcome]:
        with ThreadPoolExecutor(CALLS) as calls:  # calls that wait together share a commit
            return list(calls.map(self._close, claims))

    def _close(self, claim: Claim) -> NoticeOutcome:
        price = _price_of(claim)
        answer = self._client.close_reservation(claim.token, reason=self._reason, price_cpm_micros=price)
        return NoticeOutcome(int(answer.outcome))

    def bill(self, claims: list[Claim]) -> list[NoticeOutcome]:
        kind = bidder_pb2.NOTICE_TYPE_BILLING
        notices = [
            bidder_pb2.Notice(type=kind, token=claim.token, price_cpm_micros=claim.price_cpm) for claim in claims
        ]
        return [NoticeOutcome(int(outcome)) for outcome in self._client.notify(notices).outcomes]


@contextmanager
def store_settler(data: Path, config: LedgerConfig, who: str, why: str) -> Iterator[StoreSettler]:
    """Own the ledger of a folder for as long as it takes.

    config : as the server has it, since time passes for reservations here, too.

    Raises LedgerNotOwnerError where a server owns it.
    """
    store = Store(data / DATABASE)
    try:
        ledger = Ledger(data, store, clock_ms=_now_ms, config=config)
        if not ledger.try_acquire():
            hint = "name it with --at, so that it settles the file"
            raise LedgerNotOwnerError("a server owns this ledger", hint=hint)
        try:
            yield StoreSettler(ledger, who, why)
        finally:
            ledger.close()
    finally:
        store.close()


def carry_out(settler: Settler, claims: list[tuple[str, Claim]]) -> dict[str, int]:
    """Settle what a reconciliation asks for; how many notices or closes were answered with which outcome.

    Bids whose money is held are closed at their price, or as lost; bills of what had gone back are told as late. What
    ends it in between leaves whole commits: the same file asks for the rest of it then.
    """
    outcomes: Counter[str] = Counter()
    late = [claim for kind, claim in claims if kind == RELEASED]
    held = [claim for kind, claim in claims if kind != RELEASED]
    for way, chosen in ((settler.close, held), (settler.bill, late)):
        for first in range(0, len(chosen), AT_ONCE):
            outcomes.update(outcome.name for outcome in way(chosen[first : first + AT_ONCE]))
    return dict(sorted(outcomes.items()))


def _price_of(claim: Claim) -> int | None:
    return None if claim.price_cpm < 0 else claim.price_cpm


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
