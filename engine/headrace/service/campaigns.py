"""CampaignsService: campaigns and their money, as people and tools edit them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from headrace.bidding.board import Board, campaign_account, line_account
from headrace.bidding.campaigns import CampaignStore
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.pacing.course import NANOS_PER_MICRO
from headrace.bidding.pacing.solution import Report
from headrace.bidding.validation import check_node_id, check_text
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call
from headrace.kernels.price import Terms
from headrace.ledger.ledger import AccountState, Ledger
from headrace.ledger.notices import MAX_CPM_MICROS
from headrace.service.method import Method
from headrace.v1 import bidder_pb2
from headrace.v1 import campaigns_pb2 as pb

MAX_IDS = 1000


class CampaignsService:
    """Everything of `headrace.v1.CampaignsService`."""

    def __init__(self, campaigns: CampaignStore, engine: BiddingEngine, ledger: Ledger) -> None:
        self._campaigns = campaigns
        self._engine = engine
        self._ledger = ledger

    def methods(self) -> list[Method]:
        """The RPCs of the service; edits wait for the disk."""
        return [
            _method("FundAdvertiser", pb.FundAdvertiserRequest, self.fund),
            _method("CreateCampaign", pb.CreateCampaignRequest, self.create),
            _method("UpdateCampaign", pb.UpdateCampaignRequest, self.update),
            _method("PauseCampaign", pb.PauseCampaignRequest, self.pause),
            _method("ListCampaigns", pb.ListCampaignsRequest, self.list),
            _method("SetBrake", pb.SetBrakeRequest, self.brake),
            _method("SetFence", pb.SetFenceRequest, self.fence),
            _method("CloseReservation", pb.CloseReservationRequest, self.close_reservation),
        ]

    def fund(self, request: pb.FundAdvertiserRequest, call: Call) -> pb.FundAdvertiserResponse:
        self._campaigns.fund(
            request.entry_id, request.advertiser_id, request.amount_micros, request.currency, _who(call)
        )
        return pb.FundAdvertiserResponse(account=self._accounts().get(request.advertiser_id))

    def create(self, request: pb.CreateCampaignRequest, call: Call) -> pb.CreateCampaignResponse:
        campaign = self._campaigns.create(request.campaign, _who(call))
        return pb.CreateCampaignResponse(status=self._status(campaign, self._accounts()))

    def update(self, request: pb.UpdateCampaignRequest, call: Call) -> pb.UpdateCampaignResponse:
        campaign = self._campaigns.update(request.campaign, _who(call))
        return pb.UpdateCampaignResponse(status=self._status(campaign, self._accounts()))

    def pause(self, request: pb.PauseCampaignRequest, call: Call) -> pb.PauseCampaignResponse:
        campaign = self._campaigns.pause(request.campaign_id, resume=request.resume, who=_who(call))
        return pb.PauseCampaignResponse(status=self._status(campaign, self._accounts()))

    def list(self, request: pb.ListCampaignsRequest, call: Call) -> pb.ListCampaignsResponse:
        if len(request.campaign_ids) > MAX_IDS:
            raise InvalidRequestError("campaign_ids", f"{len(request.campaign_ids)} entries", f"at most {MAX_IDS}")
        if request.advertiser_id:
            check_node_id("advertiser_id", request.advertiser_id)
        for campaign_id in request.campaign_ids:
            check_node_id("campaign_ids", campaign_id)
        found = self._campaigns.find(request.advertiser_id, request.campaign_ids)
        accounts = self._accounts()
        names = {request.advertiser_id} if request.advertiser_id else {name for name in accounts if "/" not in name}
        return pb.ListCampaignsResponse(
            campaigns=[self._status(campaign, accounts) for campaign in found],
            advertisers=[accounts[name] for name in sorted(names) if name in accounts],
        )

    def brake(self, request: pb.SetBrakeRequest, call: Call) -> pb.SetBrakeResponse:
        check_text("reason", request.reason, 256)
        check_text("exchange", request.exchange, 64, empty=True)
        if request.advertiser_id:
            check_node_id("advertiser_id", request.advertiser_id)
        if request.exchange and request.advertiser_id:
            raise InvalidRequestError(
                "exchange and advertiser_id", "both", "one of the two, or neither for everything", "set two brakes"
            )
        self._ledger.brake(request.exchange, request.advertiser_id, request.engaged, request.reason, _who(call))
        return pb.SetBrakeResponse()

    def fence(self, request: pb.SetFenceRequest, call: Call) -> pb.SetFenceResponse:
        check_text("reason", request.reason, 256)
        if request.engaged:
            self._ledger.fence(request.reason, _who(call))
        else:
            self._ledger.unfence(_who(call), request.reason)
        return pb.SetFenceResponse()

    def close_reservation(self, request: pb.CloseReservationRequest, call: Call) -> pb.CloseReservationResponse:
        check_text("reason", request.reason, 256)
        price = _checked_close(request)
        if request.lease_id:
            self._ledger.close_lease(request.lease_id, _who(call), request.reason)
            return pb.CloseReservationResponse(outcome=bidder_pb2.NOTICE_OUTCOME_ACCEPTED)
        outcome = self._ledger.close_reservation(request.token, _who(call), request.reason, price)
        return pb.CloseReservationResponse(outcome=bidder_pb2.NoticeOutcome.Name(outcome.value))

    def _status(self, campaign: pb.Campaign, accounts: dict[str, pb.Account]) -> pb.CampaignStatus:
        names = [campaign_account(campaign)]
        names += [line_account(campaign, line.line_item_id) for line in campaign.line_items]
        return pb.CampaignStatus(
            campaign=campaign,
            accounts=[accounts[name] for name in names if name in accounts],
            planned_spend_micros=self._engine.planned_micros(campaign.campaign_id),
            pacing_multiplier=self._engine.multiplier(campaign.campaign_id),
            line_items=self._line_items(campaign.campaign_id),
        )

    def _line_items(self, campaign_id: str) -> Sequence[pb.LineItemStatus]:
        board, terms, report = self._engine.pacing()
        row = board.rows.get(campaign_id, -1)
        return [_line_item(board, line, terms, report) for line in board.lines_of(row)] if row >= 0 else []

    def _accounts(self) -> dict[str, pb.Account]:
        return {state.account_id: _account(state) for state in self._ledger.accounts()}


def _method(name: str, request: type[Message], answer: Callable[[Any, Call], Message]) -> Method:
    return Method(f"/headrace.v1.CampaignsService/{name}", request, _each(answer), audited=True)


def _who(call: Call) -> str:
    """What the audit says of whoever made an edit."""
    return f"{call.caller} at {call.peer}"


def _checked_close(request: pb.CloseReservationRequest) -> int | None:
    """The price, None for a loss; raises InvalidRequestError unless one reservation or one lease is named."""
    if bool(request.token) == bool(request.lease_id):
        raise InvalidRequestError(
            "token and lease_id", "both" if request.token else "neither", "one of the two", "a lease is closed in whole"
        )
    check_text("token", request.token, 256, empty=True)
    if request.lease_id < 0:
        raise InvalidRequestError("lease_id", request.lease_id, "a number above 0")
    if not request.HasField("price_cpm_micros"):
        return None
    if request.lease_id:
        raise InvalidRequestError(
            "price_cpm_micros", request.price_cpm_micros, "no price with lease_id", "a lease only goes back"
        )
    if not 0 <= request.price_cpm_micros <= MAX_CPM_MICROS:
        raise InvalidRequestError("price_cpm_micros", request.price_cpm_micros, f"0 to {MAX_CPM_MICROS}")
    return request.price_cpm_micros


def _line_item(board: Board, line: int, terms: Terms, report: Report) -> pb.LineItemStatus:
    mode = pb.PACING_MODE_DUAL if report.dual[line] else pb.PACING_MODE_RESOLVE
    return pb.LineItemStatus(
        line_item_id=board.line_items[line].line_item_id,
        multiplier=0.0 if terms.exhausted[line] else float(terms.multiplier[line]),
        premium_cpm_micros=int(terms.premium_cpm[line]),
        won_impressions=round(float(report.won[1, line])),
        won_impressions_today=round(float(report.won[0, line])),
        won_worth_micros=round(float(report.worth[line]) / NANOS_PER_MICRO),
        mode=mode if report.solved else pb.PACING_MODE_UNSPECIFIED,
    )


def _account(state: AccountState) -> pb.Account:
    return pb.Account(
        account_id=state.account_id,
        budget_in_force_micros=state.budget_in_force_micros,
        billed_micros=state.billed_micros,
        won_micros=state.won_micros,
        reserved_micros=state.reserved_micros,
        lease_unused_micros=state.lease_unused_micros,
        late_micros=state.late_micros,
        disputed_micros=state.disputed_micros,
        stranded_micros=state.stranded_micros,
    )


def _each(
    answer: Callable[[Any, Call], Message],
) -> Callable[[Sequence[Any], Sequence[Call]], list[Message | HeadraceError]]:
    """A handler of batches that answers one request after another; one's error is its own."""

    def handle(requests: Sequence[Any], calls: Sequence[Call]) -> list[Message | HeadraceError]:
        answers: list[Message | HeadraceError] = []
        for request, call in zip(requests, calls, strict=True):
            try:
                answers.append(answer(request, call))
            except HeadraceError as error:
                answers.append(error)
        return answers

    return handle
