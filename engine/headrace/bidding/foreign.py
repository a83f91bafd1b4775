"""Requests in a currency that no campaign has: decided in one that a campaign has, answered in their own.

Floors are rounded up and bids down on the way, so that no price up to the bid costs more than was reserved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.requests import CURRENCY, BidRequests, Decisions, Words
from headrace.ledger.notices import MAX_CPM_MICROS
from headrace.ledger.rates import Rates
from headrace.ledger.tokens import SAME_CURRENCY, rates_of
from headrace.types import Int32, Int64


@runtime_checkable
class NamedWords(Words, Protocol):
    """`Words` that say in which currencies n requests are."""

    @property
    def currencies(self) -> Sequence[str]:
        """Their names."""


@dataclass(frozen=True, slots=True)
class ForeignWords:
    """`Words` of requests, some of whose currencies are taken for others. into : by name."""

    words: NamedWords
    into: Mapping[str, str]

    @property
    def currencies(self) -> Sequence[str]:
        return [self.into.get(name, name) for name in self.words.currencies]

    def terms(self, board: Board) -> tuple[Int32, Int32, Int32]:
        """See `Words`."""
        indptr, terms, rows = self.words.terms(board)
        rows = rows.copy()
        for row, name in enumerate(self.words.currencies):
            if name in self.into:
                rows[row] = board.currencies.get(self.into[name], len(board.currencies))
        return indptr, terms, rows


def bid_abroad(
    requests: BidRequests,
    words: NamedWords,
    board: Board,
    rates: Rates,
    bid: Callable[[BidRequests], Decisions],
    take_back: Callable[[Sequence[str | None]], None],
) -> Decisions:
    """Decide a batch by ``bid``, in the first of the board's currencies for which there is a rate that is not stale."""
    now_ms = int(requests.time_ms.max())
    names = words.currencies
    chosen = {name: _best(name, board, rates, now_ms) for name in set(names) - board.currencies.keys()}
    known = {name: best for name, best in chosen.items() if best[1]}
    if not known:
        return bid(requests)
    of = np.array([known[name][1] if name in known else SAME_CURRENCY for name in names], np.int64)
    each = of[requests.request]
    floors = [-(-floor * rate // SAME_CURRENCY) for floor, rate in _pairs(requests.floor_cpm, each)]
    inside = replace(
        requests,
        words=ForeignWords(words, {name: best[0] for name, best in known.items()}),
        floor_cpm=np.array([min(floor, MAX_CPM_MICROS) for floor in floors], np.int64),
        rates=of,
    )
    return _answered(bid(inside), each, take_back)


def _best(name: str, board: Board, rates: Rates, now_ms: int) -> tuple[str, int]:
    for own in sorted(board.currencies):
        rate = rates.rate(name, own, now_ms)
        if rate:
            return own, rate
    return "", 0


def _pairs(amounts: Int64, rates: Int64) -> list[tuple[int, int]]:
    return list(zip(amounts.tolist(), rates.tolist(), strict=True))


def _answered(decisions: Decisions, rates: Int64, take_back: Callable[[Sequence[str | None]], None]) -> Decisions:
    """The decisions in the requests' currencies; a bid that is nothing there is none."""
    bids, values = (
        [min(amount * SAME_CURRENCY // rate, MAX_CPM_MICROS) for amount, rate in _pairs(amounts, rates)]
        for amounts in (decisions.bid_cpm, decisions.value_cpm)
    )
    reasons, tokens, lines = decisions.reasons.copy(), list(decisions.tokens), decisions.lines.copy()
    for row in [row for row, token in enumerate(tokens) if token is not None and bids[row] == 0]:
        take_back([tokens[row]])
        reasons[row], tokens[row], lines[row] = CURRENCY, None, -1
    return replace(
        decisions,
        reasons=reasons,
        tokens=tokens,
        lines=lines,
        bid_cpm=np.array(bids, np.int64),
        value_cpm=np.array(values, np.int64),
    )


class ForeignEngine(BiddingEngine):
    """A bidding engine that also bids where no campaign has the request's currency, at the rates in force.

    Attribute ``rates``: where they come from; set it before the first bid.
    """

    rates = Rates(None, 0)

    def bid(self, requests: BidRequests) -> Decisions:
        """See `BiddingEngine.bid`; CURRENCY where there is no rate, or a stale one."""
        words = requests.words
        if not self.rates.any or not len(requests.names) or not isinstance(words, NamedWords):
            return super().bid(requests)
        return bid_abroad(requests, words, self._view.board, self.rates, super().bid, self.take_back)

    def learn(
        self,
        types: Sequence[int],
        tokens: Sequence[str],
        prices_cpm: Sequence[int | None],
        minimums_cpm: Sequence[int | None] | None = None,
    ) -> None:
        """See `BiddingEngine.learn`; prices are those that the notices said."""
        if self.rates.any:
            prices_cpm = account_prices(tokens, prices_cpm)
            minimums_cpm = account_prices(tokens, minimums_cpm) if minimums_cpm is not None else None
        super().learn(types, tokens, prices_cpm, minimums_cpm)


def account_prices(tokens: Sequence[str], prices: Sequence[int | None]) -> list[int | None]:
    """Prices of notices in their accounts' currencies, at the rates that their tokens have frozen; at most 10**15."""
    frozen = rates_of(tokens)
    if (frozen == SAME_CURRENCY).all():
        return list(prices)
    return [
        price if price is None or price < 0 else min(-(-price * rate // SAME_CURRENCY), MAX_CPM_MICROS)
        for price, rate in zip(prices, frozen.tolist(), strict=True)
    ]
