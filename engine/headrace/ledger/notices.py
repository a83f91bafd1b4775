"""Notices: what exchanges say of bids, from tokens to columns, and what is kept apart for reconciliation."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import index
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from headrace.errors import InvalidRequestError
from headrace.ledger.sql import Sql
from headrace.ledger.tokens import SAME_CURRENCY, Bodies, TokenKeys
from headrace.types import Bool, Int8, Int64

MAX_CPM_MICROS = 10**15
"""Highest price that is read as a price: a thousand million currency units per thousand impressions."""

MAX_RATE_MICROS = 10**12
"""Highest rate of exchange: a million units of the account's currency for one of the exchange's."""

PENDING_AT_ONCE = 1000


class NoticeType(IntEnum):
    """As in bidder.proto; the last two are an operator's audited closes."""

    WIN = 1
    BILLING = 2
    LOSS = 3
    CLOSE_LOST = 4
    CLOSE_BILLED = 5


class NoticeOutcome(IntEnum):
    """As in bidder.proto."""

    ACCEPTED = 1
    DUPLICATE = 2
    LATE = 3
    DISPUTED = 4
    FORGED = 5
    CONFLICT = 6
    REFUSED = 7


_APART = (NoticeOutcome.LATE, NoticeOutcome.DISPUTED, NoticeOutcome.CONFLICT, NoticeOutcome.REFUSED)


@dataclass(frozen=True, slots=True)
class NoticeBatch:
    """Notices read and judged as far as that needs no ledger.

    outcomes : (n,) int8; 0 where the ledger must decide (`rows`).
    bodies : (n,) what the tokens say; all zero where a token is malformed or forged.
    prices : (n,) int64, CPM micros of the account's currency; -1 not known.   told, minimums : as they came.
    """

    types: Int8
    tokens: Sequence[str]
    bodies: Bodies
    prices: Int64
    outcomes: Int8
    told: Sequence[int | None] | Int64
    minimums: Sequence[int | None] | Int64

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self.outcomes == 0)


def read_notices(
    keys: TokenKeys,
    types: Sequence[int] | Int8,
    tokens: Sequence[str],
    prices_cpm: Sequence[int | None] | Int64,
    oldest_ms: int | Int64,
    highest: NoticeType = NoticeType.LOSS,
    minimums_cpm: Sequence[int | None] | Int64 | None = None,
) -> NoticeBatch:
    """Verify tokens and prices; notices issued before ``oldest_ms``, one moment for all or each one's, are refused.

    Raises InvalidRequestError when the columns differ in length or a type lies beyond ``highest``.
    """
    kinds = np.asarray(types, np.int8)
    if not len(kinds) == len(tokens) == len(prices_cpm):
        raise InvalidRequestError(
            "notices", (len(kinds), len(tokens), len(prices_cpm)), "as many types as tokens and prices"
        )
    if len(kinds) and (kinds.min() < NoticeType.WIN or kinds.max() > highest):
        raise InvalidRequestError("type", kinds.tolist(), "WIN, BILLING or LOSS")
    bodies, malformed, forged = keys.verify(tokens)
    bodies[malformed | forged] = 0
    prices, absurd = _account_prices(prices_cpm, bodies)
    outcomes = np.zeros(len(tokens), np.int8)
    outcomes[(bodies["issued_ms"] < oldest_ms) | absurd | malformed] = NoticeOutcome.REFUSED
    outcomes[forged] = NoticeOutcome.FORGED
    minimums = [None] * len(tokens) if minimums_cpm is None else minimums_cpm
    return NoticeBatch(kinds, tokens, bodies, prices, outcomes, prices_cpm, minimums)


def _account_prices(prices: Sequence[int | None] | Int64, bodies: Bodies) -> tuple[Int64, Bool]:
    """Prices in the account's currency, rounded up, and which of them are no price at all."""
    listed = prices.tolist() if isinstance(prices, np.ndarray) else prices
    try:
        micros = [-1 if price is None or price < 0 else index(price) for price in listed]
    except TypeError:
        wrong = [price for price in listed if price is not None and not isinstance(price, SupportsIndex)]
        raise InvalidRequestError("price", wrong[:3], "whole micros per thousand impressions, or None") from None
    for row in np.flatnonzero((bodies["rate"] != SAME_CURRENCY) & (bodies["rate"] != 0)).tolist():
        if micros[row] >= 0:
            micros[row] = -(-micros[row] * int(bodies["rate"][row]) // SAME_CURRENCY)
    absurd = np.array([price > MAX_CPM_MICROS for price in micros], np.bool_)
    return np.array([min(price, MAX_CPM_MICROS) for price in micros], np.int64), absurd


def whole(what: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """The values as an array of whole numbers; raises InvalidRequestError for NaN and fractions."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise InvalidRequestError(what, array[:3].tolist(), "whole numbers")
    return array


def checked_rates(rates_micros: npt.ArrayLike) -> Int64:
    """Rates of exchange, contiguous; raises InvalidRequestError for one that is none."""
    rates = np.ascontiguousarray(whole("rates_micros", rates_micros), np.int64)
    if rates.size and not (rates.min() >= 1 and rates.max() <= MAX_RATE_MICROS):
        raise InvalidRequestError("rates_micros", (int(rates.min()), int(rates.max())), f"1 to {MAX_RATE_MICROS}")
    return rates


def keep_apart(connection: Sql, batch: NoticeBatch, now_ms: int) -> None:
    """Write the notices that were not simply accepted to the reconciliation table; one row however often repeated."""
    rows = np.flatnonzero(np.isin(batch.outcomes, _APART)).tolist()
    connection.executemany(
        "INSERT OR IGNORE INTO ledger_reconciliation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                int(batch.bodies["lease"][row]),
                int(batch.bodies["serial"][row]),
                int(batch.types[row]),
                int(batch.outcomes[row]),
                int(batch.bodies["account"][row]),
                int(batch.bodies["cpm"][row]),
                int(batch.prices[row]) if batch.prices[row] >= 0 else None,
                now_ms,
                batch.tokens[row],
            )
            for row in rows
            if batch.bodies["lease"][row] != 0
        ],
    )


def needs_apart(batch: NoticeBatch) -> bool:
    """Whether keep_apart would write anything."""
    return bool(np.isin(batch.outcomes, _APART).any())


def queue_notices(
    connection: sqlite3.Connection, batch: NoticeBatch, prices_cpm: Sequence[int | None] | Int64, now_ms: int
) -> None:
    """Keep verified notices, their prices as they came, for the process that owns the ledger."""
    connection.executemany(
        "INSERT INTO ledger_notices_pending(notice_type, token, price_cpm_micros, time_ms) VALUES (?, ?, ?, ?)",
        [
            (int(batch.types[row]), batch.tokens[row], -1 if price is None else int(price), now_ms)
            for row in batch.rows.tolist()
            for price in (prices_cpm[row],)
        ],
    )
