"""Notice URLs: what exchanges say of bids by GET, settled as `BidderService.Notify` settles it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qs

import numpy as np

from headrace.bidding.validation import MAX_MICROS
from headrace.errors import HeadraceError, InvalidRequestError, PermissionDeniedError, PreconditionError
from headrace.front import Call, Reply
from headrace.front.routes import Route
from headrace.ledger.notices import NoticeOutcome, NoticeType
from headrace.service.bidder import BidderService
from headrace.service.method import Method
from headrace.service.prices import price_micros

TYPES = {
    "/openrtb2/win": NoticeType.WIN,
    "/openrtb2/bill": NoticeType.BILLING,
    "/openrtb2/loss": NoticeType.LOSS,
}
"""Method and path of each kind of notice; with tenants ``/openrtb2/<tenant>/win``."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_FAULTS: dict[int, HeadraceError] = {
    NoticeOutcome.FORGED: PermissionDeniedError("the token was not issued here"),
    NoticeOutcome.REFUSED: InvalidRequestError("the token is malformed or too old, or the price is none"),
    NoticeOutcome.CONFLICT: PreconditionError("the notice contradicts what is settled"),
}


def notice_routes() -> list[Route]:
    """Where notices come in, for one tenant and for several."""
    return [
        Route("GET", path.replace("/openrtb2", prefix), path)
        for path in TYPES
        for prefix in ("/openrtb2", "/openrtb2/{tenant}")
    ]


class NoticeUrls:
    """Win, bill and loss; whoever knows a bid's token may tell what became of it."""

    def __init__(self, bidder: BidderService) -> None:
        self._bidder = bidder

    def methods(self) -> list[Method]:
        """The methods of the service."""
        return [Method(path, answer=self.settle) for path in TYPES]

    def settle(self, calls: Sequence[Call]) -> list[Reply | HeadraceError]:
        """Settle n notices in one commit."""
        read = [read_notice(call.method, call.body) for call in calls]
        types, tokens, prices, minimums = zip(*read, strict=True)
        outcomes = self._bidder.settle(
            np.array(types, np.int8), list(tokens), np.array(prices, np.int64), np.array(minimums, np.int64)
        )
        return [_answer(NoticeOutcome(outcome)) for outcome in outcomes.tolist()]


def read_notice(path: str, query: bytes) -> tuple[NoticeType, str, int, int]:
    """Type, token, price and minimum to win in CPM micros of the notice that a URL tells.

    A price that is missing, not substituted or no number, or in another currency than the bid, is -1, so that the
    ledger keeps a win or bill apart as disputed: the money may have been spent. A minimum to win is in the bid's
    currency (OpenRTB 2.6, 4.4) and -1 where it is no price above zero.
    """
    said = {key: values[0] for key, values in parse_qs(query.decode("latin-1")).items()}
    kind, token = TYPES[path], said.get("token", "")
    price = price_micros(said.get("price", "")) if kind != NoticeType.LOSS else None
    currency = said.get("currency", "")
    minimum = min(price_micros(said.get("min_to_win", "")) or -1, MAX_MICROS)
    if price is None or (_CURRENCY.fullmatch(currency) and currency != said.get("bid_currency", currency)):
        return kind, token, -1, minimum
    return kind, token, min(price, MAX_MICROS), minimum


def _answer(outcome: NoticeOutcome) -> Reply | HeadraceError:
    return _FAULTS.get(outcome) or Reply(headers=(("x-headrace-outcome", outcome.name.lower()),))
