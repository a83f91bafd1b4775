"""BidderService: bid requests to columns, decisions to messages, notices to the ledger."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.bidding.engine import BiddingEngine
from headrace.bidding.ledger import Ledger
from headrace.bidding.requests import BidRequests, Decisions, PlainWords
from headrace.bidding.settings import BiddingConfig
from headrace.bidding.validation import DEFAULT_CURRENCY, MAX_TIME_MS, check_micros, check_text, checked_currency
from headrace.clock import Clock
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.events.identity import subject_name
from headrace.front import Call
from headrace.service.method import Method
from headrace.v1 import bidder_pb2 as pb

MAX_IMPRESSIONS = 64
MAX_REQUESTS = 256
MAX_NOTICES = 1000
MAX_CATEGORIES = 16
MAX_SEGMENTS = 64
MAX_WORD_BYTES = 64
MAX_TOKEN_BYTES = 256
LATEST_MS = MAX_TIME_MS - 2 * 86_400_000
"""The last time of a request whose budget day has a morrow."""

_COUNTRY = re.compile(r"[A-Z]{2}")
_AUCTION_TYPES = frozenset(pb.AuctionType.values())
_NOTICE_TYPES = frozenset(pb.NoticeType.values()) - {pb.NOTICE_TYPE_UNSPECIFIED}


class BidderService:
    """Bid, BidBatch and Notify.

    clock : now; the time of requests that carry none, and what the time of others may not stray from.
    """

    def __init__(self, engine: BiddingEngine, ledger: Ledger, config: BiddingConfig, clock: Clock) -> None:
        self._engine = engine
        self._ledger = ledger
        self._config = config
        self._clock = clock

    def configure(self, config: BiddingConfig) -> None:
        """Take over what may change while the server runs."""
        self._config = config

    def methods(self) -> list[Method]:
        """The RPCs of the service."""
        prefix = "/headrace.v1.BidderService/"
        return [
            Method(prefix + "Bid", pb.BidRequest, self.bid),
            Method(prefix + "BidBatch", pb.BidBatchRequest, self.bid_batch),
            Method(prefix + "Notify", pb.NotifyRequest, self.notify),
        ]

    def bid(self, requests: Sequence[pb.BidRequest], calls: Sequence[Call]) -> list[pb.BidResponse | HeadraceError]:
        """Answer n bid requests."""
        now_ms = self._see(requests)
        errors = [self._error_of(request, now_ms) for request in requests]
        good = [i for i, error in enumerate(errors) if error is None]
        deadlines = [calls[i].deadline for i in good]
        answers = iter(self._answer([requests[i] for i in good], deadlines, now_ms) if good else [])
        return [next(answers) if error is None else error for error in errors]

    def bid_batch(
        self, requests: Sequence[pb.BidBatchRequest], calls: Sequence[Call]
    ) -> list[pb.BidBatchResponse | HeadraceError]:
        """Answer n batches; one bad request fails its whole batch, before anything of it is reserved."""
        answers: list[pb.BidBatchResponse | HeadraceError] = []
        try:
            for batch, call in zip(requests, calls, strict=True):
                answers.append(self._answer_batch(batch.requests, call.deadline, self._see(batch.requests)))
        except BaseException:
            self._engine.take_back([token for answer in answers for token in _tokens(answer)])
            raise
        return answers

    def notify(
        self, requests: Sequence[pb.NotifyRequest], calls: Sequence[Call]
    ) -> list[pb.NotifyResponse | HeadraceError]:
        """Settle the notices of n calls in one commit."""
        errors = [_notices_error(request) for request in requests]
        notices = [
            notice
            for request, error in zip(requests, errors, strict=True)
            if error is None
            for notice in request.notices
        ]
        outcomes = iter(self._settle(notices) if notices else [])
        return [
            pb.NotifyResponse(outcomes=[next(outcomes) for _ in request.notices]) if error is None else error
            for request, error in zip(requests, errors, strict=True)
        ]

    def _settle(self, notices: Sequence[pb.Notice]) -> list[Any]:
        types = [notice.type for notice in notices]
        tokens = [notice.token for notice in notices]
        prices = [notice.price_cpm_micros if notice.HasField("price_cpm_micros") else None for notice in notices]
        outcomes = self._ledger.notify(types, tokens, prices, self._clock()).tolist()
        good = [i for i, outcome in enumerate(outcomes) if outcome == pb.NOTICE_OUTCOME_ACCEPTED]
        self._engine.learn([types[i] for i in good], [tokens[i] for i in good], [prices[i] for i in good])
        return list(outcomes)

    def _see(self, requests: Sequence[pb.BidRequest]) -> int:
        self._clock.see(max((request.time_ms for request in requests if request.time_ms <= LATEST_MS), default=0))
        return self._clock()

    def _answer_batch(
        self, requests: Sequence[pb.BidRequest], deadline: float, now_ms: int
    ) -> pb.BidBatchResponse | HeadraceError:
        if not 1 <= len(requests) <= MAX_REQUESTS:
            return InvalidRequestError(
                "requests", f"{len(requests)} entries", f"1 to {MAX_REQUESTS}", "split the batch"
            )
        for position, request in enumerate(requests):
            error = self._error_of(request, now_ms)
            if error is not None:
                return InvalidRequestError(f"requests[{position}]: {error}")
        return pb.BidBatchResponse(responses=self._answer(requests, [deadline] * len(requests), now_ms))

    def _answer(
        self, requests: Sequence[pb.BidRequest], deadlines: Sequence[float], now_ms: int
    ) -> list[pb.BidResponse]:
        decisions = self._engine.bid(_columns(requests, deadlines, now_ms))
        try:
            return _responses(requests, decisions)
        except BaseException:
            self._engine.take_back(decisions.tokens)
            raise

    def _error_of(self, request: pb.BidRequest, now_ms: int) -> InvalidRequestError | None:
        try:
            _check_request(request)
            self._check_time(request.time_ms, now_ms)
        except InvalidRequestError as error:
            return error
        return None

    def _check_time(self, time_ms: int, now_ms: int) -> None:
        """A budget day is the request's: a sender must not be able to choose one."""
        earliest, latest = now_ms - self._config.max_behind_ms, now_ms + self._config.max_ahead_ms
        if time_ms and not earliest <= time_ms <= min(latest, LATEST_MS):
            hint = "zero is now; check the sender's clock, or replay a past day with server.clock = requests"
            raise InvalidRequestError("time_ms", time_ms, f"{earliest} to {latest}, ms since 1970 UTC", hint)


def _columns(requests: Sequence[pb.BidRequest], deadlines: Sequence[float], now_ms: int) -> BidRequests:
    impressions = [(row, impression.floor_cpm_micros) for row, r in enumerate(requests) for impression in r.impressions]
    rows, floors = zip(*impressions, strict=True)
    return BidRequests(
        names=[subject_name(request.user_id, request.anonymous_id) for request in requests],
        words=PlainWords(
            [request.country for request in requests],
            [request.categories for request in requests],
            [request.user_segments for request in requests],
            [request.currency or DEFAULT_CURRENCY for request in requests],
        ),
        exchanges=[request.exchange for request in requests],
        deadlines=np.array(deadlines),
        time_ms=np.array([request.time_ms or now_ms for request in requests], np.int64),
        first_price=np.array([request.auction_type == pb.AUCTION_TYPE_FIRST_PRICE for request in requests], bool),
        request=np.array(rows, np.int32),
        floor_cpm=np.array(floors, np.int64),
    )


def _responses(requests: Sequence[pb.BidRequest], decisions: Decisions) -> list[pb.BidResponse]:
    board, lines = decisions.board, decisions.lines.tolist()
    reasons, bids, values = decisions.reasons.tolist(), decisions.bid_cpm.tolist(), decisions.value_cpm.tolist()
    positions, chances = decisions.positions.tolist(), decisions.probability.tolist()
    responses = []
    at = 0
    for request in requests:
        response = pb.BidResponse(bid_request_id=request.bid_request_id, artifact_version=decisions.artifact_version)
        for impression in request.impressions:
            line = lines[at]
            if line < 0:
                response.impressions.add(impression_id=impression.impression_id, no_bid_reason=reasons[at])
            else:
                campaign_id, line_item_id, advertiser_id = board.names[line]
                response.impressions.add(
                    impression_id=impression.impression_id,
                    bid_cpm_micros=bids[at],
                    campaign_id=campaign_id,
                    line_item_id=line_item_id,
                    advertiser_id=advertiser_id,
                    item_id=board.item_id(line, positions[at]),
                    token=decisions.tokens[at],
                    value_cpm_micros=values[at],
                    probability=chances[at],
                )
            at += 1
        responses.append(response)
    return responses


def _tokens(answer: pb.BidBatchResponse | HeadraceError) -> list[str]:
    if isinstance(answer, HeadraceError):
        return []
    return [bid.token for response in answer.responses for bid in response.impressions if bid.token]


def _check_request(request: pb.BidRequest) -> None:
    check_text("bid_request_id", request.bid_request_id, 128)
    check_text("user_id", request.user_id, 256, empty=True)
    check_text("anonymous_id", request.anonymous_id, 256, empty=True)
    check_text("exchange", request.exchange, 64, empty=True)
    if request.user_id and request.anonymous_id:
        raise InvalidRequestError("anonymous_id", request.anonymous_id, "nothing beside user_id", "send one of the two")
    if "\0" in request.user_id or "\0" in request.anonymous_id:
        raise InvalidRequestError("user_id and anonymous_id", "a NUL character", "text without it")
    if request.country and not _COUNTRY.fullmatch(request.country):
        raise InvalidRequestError("country", request.country, "ISO 3166-1 alpha-2 in upper case, or nothing")
    if request.currency:
        checked_currency(request.currency)
    if request.auction_type not in _AUCTION_TYPES:
        raise InvalidRequestError("auction_type", request.auction_type, "a value of the contract's list")
    _check_words("categories", request.categories, MAX_CATEGORIES)
    _check_words("user_segments", request.user_segments, MAX_SEGMENTS)
    _check_impressions(request.impressions)


def _check_words(what: str, words: Sequence[str], most: int) -> None:
    if len(words) > most:
        raise InvalidRequestError(what, f"{len(words)} entries", f"at most {most}")
    for word in words:
        check_text(what, word, MAX_WORD_BYTES, empty=True)


def _check_impressions(impressions: Sequence[pb.Impression]) -> None:
    if not 1 <= len(impressions) <= MAX_IMPRESSIONS:
        raise InvalidRequestError("impressions", f"{len(impressions)} entries", f"1 to {MAX_IMPRESSIONS}")
    for impression in impressions:
        check_text("impression_id", impression.impression_id, MAX_WORD_BYTES)
        check_text("placement", impression.placement, MAX_WORD_BYTES, empty=True)
        check_micros("floor_cpm_micros", impression.floor_cpm_micros)
    if len(impressions) > 1 and len({impression.impression_id for impression in impressions}) < len(impressions):
        raise InvalidRequestError("impression_id", "one twice", "each once in a request")


def _notices_error(request: pb.NotifyRequest) -> InvalidRequestError | None:
    try:
        if not 1 <= len(request.notices) <= MAX_NOTICES:
            raise InvalidRequestError("notices", f"{len(request.notices)} entries", f"1 to {MAX_NOTICES}")
        for notice in request.notices:
            if notice.type not in _NOTICE_TYPES:
                raise InvalidRequestError("type", notice.type, "WIN, BILLING or LOSS")
            check_text("token", notice.token, MAX_TOKEN_BYTES)
            if notice.HasField("price_cpm_micros"):
                check_micros("price_cpm_micros", notice.price_cpm_micros)
    except InvalidRequestError as error:
        return error
    return None
