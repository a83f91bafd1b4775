"""BidderService: bid requests to columns, decisions to answers, notices to the ledger; bytes in and bytes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import numpy as np
from google.protobuf.message import Message

from headrace._native import BidCalls, NoticeCalls, bid_tokens
from headrace.bidding.board import Board
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.requests import INSUFFICIENT_TIME, BidRequests, Decisions
from headrace.bidding.settings import BiddingConfig
from headrace.clock import Clock
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call
from headrace.ledger.ledger import Ledger, NoticeOutcome
from headrace.service.method import Method
from headrace.service.status import code_of
from headrace.types import Float64, Int8, Int32, Int64
from headrace.v1 import bidder_pb2 as pb

_PREFIX = "/headrace.v1.BidderService/"
_EARLIEST_MS, _LATEST_MS = -(1 << 63), (1 << 63) - 1

Answers = list[bytes | HeadraceError]


class Kind(IntEnum):
    """Which message a body is; the numbers of the codec's BidKind."""

    REQUEST = 0
    BATCH = 1
    STREAM = 2


_MESSAGES: dict[Kind, type[Message]] = {
    Kind.REQUEST: pb.BidRequest,
    Kind.BATCH: pb.BidBatchRequest,
    Kind.STREAM: pb.BidStreamRequest,
}


@dataclass(frozen=True, slots=True)
class WireWords:
    """`headrace.bidding.requests.Words` that lie in the calls' own bytes."""

    calls: BidCalls

    @property
    def currencies(self) -> list[str]:
        """See `headrace.bidding.requests.Words`."""
        return self.calls.currencies()

    def terms(self, board: Board) -> tuple[Int32, Int32, Int32]:
        """See `headrace.bidding.requests.Words`."""
        return self.calls.terms(board.native)


class BidderService:
    """Bid, BidBatch, BidStream and Notify.

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
        return [
            self._method("Bid", Kind.REQUEST),
            self._method("BidBatch", Kind.BATCH),
            self._method("BidStream", Kind.STREAM),
            Method(_PREFIX + "Notify", pb.NotifyRequest, answer=self.notify),
        ]

    def _method(self, name: str, kind: Kind) -> Method:
        return Method(
            _PREFIX + name,
            _MESSAGES[kind],
            answer=partial(self.bid_batches if kind == Kind.BATCH else self.bid, kind),
            shed=partial(self.shed, kind),
            take_back=partial(self.take_back, kind),
            stream=kind == Kind.STREAM,
        )

    def bid(self, kind: Kind, calls: Sequence[Call]) -> Answers:
        """Answer n calls, decided together; a wrong request of a stream has its error within the answer."""
        inbox = BidCalls(kind, [call.body for call in calls])
        self._clock.see(inbox.latest_ms())
        now_ms = self._clock()
        # a budget day is the request's: a sender must not be able to choose one
        inbox.judge(now_ms, now_ms - self._config.max_behind_ms, now_ms + self._config.max_ahead_ms)
        requests = _requests(inbox, calls)
        errors = _errors(kind, inbox)  # first: once money is reserved nothing else may fail
        return _placed(errors, self._decide(inbox, requests) if requests.names else [b""] * len(calls))

    def bid_batches(self, kind: Kind, calls: Sequence[Call]) -> Answers:
        """Answer n batches in turn; one wrong request fails its whole batch, before anything of it is reserved."""
        answers: Answers = []
        try:
            for call in calls:
                answers += self.bid(kind, [call])
        except BaseException:
            self.take_back(kind, calls, [answer for answer in answers if isinstance(answer, bytes)])
            raise
        return answers

    def shed(self, kind: Kind, calls: Sequence[Call]) -> Answers:
        """No bid, for lack of time, for each impression of n calls; nothing is reserved or learned."""
        inbox = BidCalls(kind, [call.body for call in calls])
        inbox.judge(0, _EARLIEST_MS, _LATEST_MS)
        return _placed(_errors(kind, inbox), inbox.refusals(INSUFFICIENT_TIME, self._engine.artifact_version))

    def take_back(self, kind: Kind, _calls: Sequence[Call], answers: Sequence[bytes]) -> None:
        """Return the money of the bids in answers that were never sent; another tenant's are left alone."""
        self._engine.take_back(self._ledger.own_tokens(bid_tokens(kind, list(answers))))

    def notify(self, calls: Sequence[Call]) -> Answers:
        """Settle the notices of n calls in one commit."""
        inbox = NoticeCalls([call.body for call in calls])
        types, tokens, prices, minimums = inbox.columns()
        answers = inbox.answers(self.settle(types, tokens, prices, minimums) if tokens else np.zeros(0, np.int8))
        return _placed(_errors(Kind.REQUEST, inbox), answers)

    def settle(self, types: Int8, tokens: list[str], prices_cpm: Int64, minimums_cpm: Int64) -> Int8:
        """Settle n notices in one commit; prices and minimums to win in CPM micros, -1 where not known.

        Returns n outcomes.
        """
        outcomes = self._ledger.notify(types, tokens, prices_cpm, self._clock(), minimums_cpm)
        good = np.flatnonzero(outcomes == NoticeOutcome.ACCEPTED)
        told = [tokens[row] for row in good.tolist()]
        self._engine.learn(types[good].tolist(), told, _known(prices_cpm[good]), _known(minimums_cpm[good]))
        return outcomes

    def _decide(self, inbox: BidCalls, requests: BidRequests) -> list[bytes]:
        decisions = self._engine.bid(requests)
        try:
            return _encode(inbox, decisions)
        except BaseException:
            self._engine.take_back(decisions.tokens)
            raise


def _known(amounts: Int64) -> list[int | None]:
    return [None if amount < 0 else amount for amount in amounts.tolist()]


def _requests(inbox: BidCalls, calls: Sequence[Call]) -> BidRequests:
    names, exchanges, time_ms, first_price, tmax_ms, of_call, seeds, request, floor_cpm, placements = inbox.columns()
    deadlines = np.array([call.deadline for call in calls], np.float64)[of_call]
    if tmax_ms.any():
        deadlines = np.minimum(deadlines, _until(calls, of_call, tmax_ms.astype(np.float64)))
    return BidRequests(
        names=names,
        words=WireWords(inbox),
        exchanges=exchanges,
        deadlines=deadlines,
        time_ms=time_ms,
        first_price=first_price,
        seeds=seeds,
        request=request,
        floor_cpm=floor_cpm,
        placements=placements,
    )


def _until(calls: Sequence[Call], of_call: Int32, tmax_ms: Float64) -> Float64:
    """When the time that requests give ends, seconds on the clock of deadlines; infinite where they give none."""
    arrived = np.array([call.arrived for call in calls], np.float64)[of_call]
    return np.where(tmax_ms > 0, arrived + tmax_ms / 1000, np.inf)


def _encode(inbox: BidCalls, decisions: Decisions) -> list[bytes]:
    return inbox.answers(
        decisions.board.native,
        decisions.artifact_version,
        decisions.reasons,
        decisions.tokens,
        decisions.bid_cpm,
        decisions.lines,
        decisions.positions,
        decisions.value_cpm,
        decisions.probability,
    )


def _errors(kind: Kind, inbox: BidCalls | NoticeCalls) -> dict[int, bytes | HeadraceError]:
    """The errors of refused calls, by their places; on a stream they are answers, too."""
    errors: dict[int, bytes | HeadraceError] = {}
    for body, position, bid_request_id, what, got, expected, hint in inbox.errors():
        name = "NotifyRequest" if isinstance(inbox, NoticeCalls) else _MESSAGES[kind].DESCRIPTOR.name
        error = InvalidRequestError(what, got, expected, hint)
        if not what:
            error = InvalidRequestError(f"the request is no headrace.v1.{name} message")
        if position >= 0:
            error = InvalidRequestError(f"requests[{position}]: {error}")
        errors[body] = _in_band(bid_request_id, error) if kind == Kind.STREAM else error
    return errors


def _placed(errors: dict[int, bytes | HeadraceError], encoded: Sequence[bytes]) -> Answers:
    answers: Answers = list(encoded)
    for place, error in errors.items():
        answers[place] = error
    return answers


def _in_band(bid_request_id: str, error: HeadraceError) -> bytes:
    """One wrong request of a stream, which goes on."""
    said = pb.BidStreamError(code=code_of(error).value[0], message=f"{type(error).__name__}: {error}")
    answer: bytes = pb.BidStreamResponse(bid_request_id=bid_request_id, error=said).SerializeToString()
    return answer
