"""BidderService.ExplainBid: one decision, looked up in the records and told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from headrace._native import hash_texts
from headrace.decisions.explain import Candidate, candidates_of, recomputes, would_have_won
from headrace.decisions.lookup import Decision, find_decision
from headrace.decisions.recorder import DecisionRecorder
from headrace.errors import HeadraceError, InvalidRequestError, NotFoundError
from headrace.front import Call
from headrace.service.checks import check_range, check_text
from headrace.service.method import Method
from headrace.v1 import bidder_pb2 as pb

MAX_TOKEN_BYTES = 256
MAX_REQUEST_ID_BYTES = 128
MAX_IMPRESSION = 63
MAX_CANDIDATES = 1000
MAX_ACTIONS = 1000


class ExplainService:
    """Tells of decisions in a folder of records.

    recorder : what writes them, so that the latest are there, too.
    """

    def __init__(self, folder: Path, recorder: DecisionRecorder) -> None:
        self._folder = folder
        self._recorder = recorder

    def methods(self) -> list[Method]:
        """The RPC; it waits for the disk."""
        return [Method("/headrace.v1.BidderService/ExplainBid", pb.ExplainBidRequest, self.explain)]

    def explain(self, requests: Sequence[Any], _calls: Sequence[Call] = ()) -> list[Message | HeadraceError]:
        """Explain one decision for each request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb.ExplainBidRequest) -> Message | HeadraceError:
        try:
            _check(request)
            self._recorder.flush()
            seed = int(hash_texts([request.bid_request_id])[0]) if request.bid_request_id else 0
            found = find_decision(self._folder, request.token, seed, request.impression)
            if found is None:
                what, named = ("token", request.token) if request.token else ("bid_request_id", request.bid_request_id)
                hint = "no-bids are drawn at decisions.no_bid_rate; files go after decisions.keep_days and keep_mib"
                return NotFoundError(what, named, "a decision that is recorded", hint)
            return response_of(found)
        except HeadraceError as error:
            return error


def response_of(decision: Decision) -> pb.ExplainBidResponse:
    """A decision as the contract tells it."""
    auction, outcome = decision.auction[0], decision.outcome
    price, source = would_have_won(decision)
    candidates = candidates_of(decision)
    notice = pb.NOTICE_TYPE_WIN if outcome.won[0] else pb.NOTICE_TYPE_LOSS if outcome.lost[0] else 0
    first = bool(auction["first_price"])
    return pb.ExplainBidResponse(
        time_ms=int(auction["time_ms"]),
        exchange=decision.exchange,
        placement=decision.placement,
        impression=int(auction["impression"]),
        auction_type=pb.AUCTION_TYPE_FIRST_PRICE if first else pb.AUCTION_TYPE_SECOND_PRICE,
        floor_cpm_micros=int(auction["floor_cpm"]),
        bid_cpm_micros=int(auction["bid_cpm"]),
        no_bid_reason=pb.NoBidReason.Name(int(auction["reason"])),
        artifact_version=decision.model.version,
        event_sequence=int(auction["sequence"]),
        recomputed=recomputes(decision, candidates),
        notice=pb.NoticeType.Name(notice),
        withdrawn=bool(outcome.withdrawn[0]),
        price_cpm_micros=max(int(outcome.price_cpm[0]), 0),
        would_have_won_at_cpm_micros=price,
        price_source=pb.PriceSource.Name(source),
        win_rate=float(auction["win_rate"]),
        weight=float(auction["weight"]),
        fit=int(auction["n_fit"]),
        payable=int(auction["n_payable"]),
        matched=int(auction["n_matched"]),
        candidates=[_candidate(decision, each) for each in candidates[:MAX_CANDIDATES]],
        actions=[
            pb.ReportedAction(
                time_ms=int(each["time_ms"]), count=int(each["count"]), worth_micros=int(each["worth_micros"])
            )
            for each in decision.actions[:MAX_ACTIONS]
        ],
    )


def _candidate(decision: Decision, candidate: Candidate) -> pb.CandidateExplanation:
    campaign, line = decision.board.lines[candidate.line]
    shade = candidate.bid_cpm / candidate.paced_cpm if candidate.paced_cpm and candidate.bid_cpm else 0.0
    return pb.CandidateExplanation(
        campaign_id=campaign.campaign_id,
        line_item_id=line.line_item_id,
        advertiser_id=campaign.advertiser_id,
        reason=pb.CandidateReason.Name(candidate.reason),
        item_id=candidate.item_id,
        probability=candidate.probability,
        value_cpm_micros=candidate.value_cpm,
        premium_cpm_micros=candidate.premium_cpm,
        multiplier=candidate.multiplier,
        paced_cpm_micros=candidate.paced_cpm,
        bid_cpm_micros=candidate.bid_cpm,
        shade=shade,
        affordable_cpm_micros=candidate.affordable_cpm,
        needed=candidate.needed,
    )


def _check(request: pb.ExplainBidRequest) -> None:
    check_text("token", request.token, MAX_TOKEN_BYTES)
    check_text("bid_request_id", request.bid_request_id, MAX_REQUEST_ID_BYTES)
    if bool(request.token) == bool(request.bid_request_id):
        got = "both" if request.token else "neither"
        raise InvalidRequestError("token or bid_request_id", got, "just one of the two")
    check_range("impression", request.impression, 0, MAX_IMPRESSION, "count the request's impressions from 0")
