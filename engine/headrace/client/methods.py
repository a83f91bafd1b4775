"""Every method of the clients: its arguments, its deadline and whether it may be sent twice, in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from google.protobuf.message import Message

from headrace.client.rpc import Rpc
from headrace.client.slates import read_similar, read_slate, read_slates
from headrace.errors import InvalidRequestError
from headrace.v1 import artifacts_pb2 as artifacts
from headrace.v1 import bidder_pb2 as bidder
from headrace.v1 import campaigns_pb2 as campaigns
from headrace.v1 import catalog_pb2 as catalog
from headrace.v1 import events_pb2 as events
from headrace.v1 import operations_pb2 as operations
from headrace.v1 import recommender_pb2 as recommender

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound=Message)

READ_S = 1.0
BID_S = 0.1
WRITE_S = 5.0
EXPLAIN_S = 60.0
RELOAD_S = 600.0


def _ids(field: str, ids: Iterable[str]) -> Iterable[str]:
    """The ids; a lone text would be taken for one id a letter, without a word."""
    if isinstance(ids, str):
        raise InvalidRequestError(field, ids, "several ids", f"write [{ids!r}] for one")
    return ids


def recommend(
    user_id: str = "",
    *,
    anonymous_id: str = "",
    limit: int | None = None,
    repeat_policy: recommender.RepeatPolicy = recommender.REPEAT_POLICY_UNSPECIFIED,
    exclude_item_ids: Iterable[str] = (),
    session_item_ids: Iterable[str] = (),
    min_sequence: int = 0,
    include_attributes: bool = False,
    surface: str = "",
) -> recommender.RecommendRequest:
    """A slate for one person; ``limit`` is 20 when left out. The fields are those of RecommendRequest."""
    return recommender.RecommendRequest(
        user_id=user_id,
        anonymous_id=anonymous_id,
        limit=limit,
        repeat_policy=repeat_policy,
        exclude_item_ids=_ids("exclude_item_ids", exclude_item_ids),
        session_item_ids=_ids("session_item_ids", session_item_ids),
        min_sequence=min_sequence,
        include_attributes=include_attributes,
        surface=surface,
    )


def recommend_batch(requests: Sequence[recommender.RecommendRequest]) -> recommender.RecommendBatchRequest:
    """A slate for each of 1 to 256 requests, in their order."""
    return recommender.RecommendBatchRequest(requests=requests)


def similar_items(
    item_id: str,
    *,
    limit: int | None = None,
    exclude_item_ids: Iterable[str] = (),
    include_attributes: bool = False,
) -> recommender.SimilarItemsRequest:
    """Items bought by the same people as the given one."""
    return recommender.SimilarItemsRequest(
        item_id=item_id,
        limit=limit,
        exclude_item_ids=_ids("exclude_item_ids", exclude_item_ids),
        include_attributes=include_attributes,
    )


def record_events(new: Iterable[events.Event]) -> events.RecordEventsRequest:
    """Store 1 to 1000 events durably, all or none; the answer's ``sequence`` is for ``min_sequence``."""
    return events.RecordEventsRequest(events=new)


def erase_person(user_id: str = "", *, anonymous_id: str = "") -> events.ErasePersonRequest:
    """Forget a person, named by one of the two ids."""
    return events.ErasePersonRequest(user_id=user_id, anonymous_id=anonymous_id)


def upsert_items(items: Iterable[catalog.Item]) -> catalog.UpsertItemsRequest:
    """Create or replace 1 to 1000 items, all or none."""
    return catalog.UpsertItemsRequest(items=items)


def delete_items(item_ids: Iterable[str]) -> catalog.DeleteItemsRequest:
    """Take 1 to 1000 items out of all answers."""
    return catalog.DeleteItemsRequest(item_ids=_ids("item_ids", item_ids))


def bid(request: bidder.BidRequest) -> bidder.BidRequest:
    """Bid on the impressions of one auction. Never retried: a second call would reserve money again."""
    return request


def bid_batch(requests: Sequence[bidder.BidRequest]) -> bidder.BidBatchRequest:
    """Bid on 1 to 256 auctions, in their order. Never retried."""
    return bidder.BidBatchRequest(requests=requests)


def notify(notices: Iterable[bidder.Notice]) -> bidder.NotifyRequest:
    """Tell what became of 1 to 1000 bids; each notice counts once."""
    return bidder.NotifyRequest(notices=notices)


def report_actions(actions: Iterable[bidder.Action]) -> bidder.ReportActionsRequest:
    """Tell of 1 to 1000 purchases, or of their return, which bids' impressions led to them; each counts once."""
    return bidder.ReportActionsRequest(actions=actions)


def explain_bid(token: str = "", *, bid_request_id: str = "", impression: int = 0) -> bidder.ExplainBidRequest:
    """Say why an impression was bid on or not; it is named by its bid's token, or by request and place in that."""
    return bidder.ExplainBidRequest(token=token, bid_request_id=bid_request_id, impression=impression)


def fund_advertiser(
    entry_id: str, advertiser_id: str, amount_micros: int, *, currency: str = ""
) -> campaigns.FundAdvertiserRequest:
    """Move money on an advertiser's balance; the same ``entry_id`` again changes nothing."""
    return campaigns.FundAdvertiserRequest(
        entry_id=entry_id, advertiser_id=advertiser_id, amount_micros=amount_micros, currency=currency
    )


def create_campaign(campaign: campaigns.Campaign) -> campaigns.CreateCampaignRequest:
    """Create a campaign. Never retried."""
    return campaigns.CreateCampaignRequest(campaign=campaign)


def update_campaign(campaign: campaigns.Campaign) -> campaigns.UpdateCampaignRequest:
    """Replace a campaign. Never retried."""
    return campaigns.UpdateCampaignRequest(campaign=campaign)


def pause_campaign(campaign_id: str, *, resume: bool = False) -> campaigns.PauseCampaignRequest:
    """Stop a campaign, or let it run again."""
    return campaigns.PauseCampaignRequest(campaign_id=campaign_id, resume=resume)


def list_campaigns(advertiser_id: str = "", *, campaign_ids: Iterable[str] = ()) -> campaigns.ListCampaignsRequest:
    """Campaigns with their accounts: all, one advertiser's, or the named ones."""
    return campaigns.ListCampaignsRequest(advertiser_id=advertiser_id, campaign_ids=_ids("campaign_ids", campaign_ids))


def set_brake(*, engaged: bool, reason: str, exchange: str = "", advertiser_id: str = "") -> campaigns.SetBrakeRequest:
    """Stop bidding, or let it on again: everywhere, for one exchange or for one advertiser."""
    return campaigns.SetBrakeRequest(exchange=exchange, advertiser_id=advertiser_id, engaged=engaged, reason=reason)


def set_fence(*, engaged: bool, reason: str) -> campaigns.SetFenceRequest:
    """Keep a restored ledger from bidding, or let it bid again once it has been reconciled."""
    return campaigns.SetFenceRequest(engaged=engaged, reason=reason)


def close_reservation(
    token: str = "", *, reason: str, lease_id: int = 0, price_cpm_micros: int | None = None
) -> campaigns.CloseReservationRequest:
    """End a reservation by hand: as lost, or as billed at a price; or give back what a lease lost with the power."""
    return campaigns.CloseReservationRequest(
        token=token, lease_id=lease_id, price_cpm_micros=price_cpm_micros, reason=reason
    )


def current_artifact() -> artifacts.GetCurrentArtifactRequest:
    """The artifact that answers are made from."""
    return artifacts.GetCurrentArtifactRequest()


def reload_artifact(version: str = "") -> artifacts.ReloadArtifactRequest:
    """Load the current version of the artifact store, or the named one, and swap to it."""
    return artifacts.ReloadArtifactRequest(version=version)


def reload_config() -> operations.ReloadConfigRequest:
    """Let the server read its configuration anew; the answer names the keys that changed."""
    return operations.ReloadConfigRequest()


def _message(name: str, build: Callable[P, Message], response: type[R], timeout_s: float, repeat: bool) -> Rpc[P, R]:
    """An RPC whose method answers with the message itself."""

    def same(message: R) -> R:
        return message

    return Rpc(f"/headrace.v1.{name}", build, response, same, timeout_s, repeatable=repeat)


def _slate(name: str, build: Callable[P, Message], response: type[Message], read: Callable[[Any], T]) -> Rpc[P, T]:
    return Rpc(f"/headrace.v1.RecommenderService/{name}", build, response, read, READ_S, repeatable=True)


class Methods:
    """The methods of both clients."""

    __slots__ = ()

    recommend = _slate("Recommend", recommend, recommender.RecommendResponse, read_slate)
    recommend_batch = _slate("RecommendBatch", recommend_batch, recommender.RecommendBatchResponse, read_slates)
    similar_items = _slate("SimilarItems", similar_items, recommender.SimilarItemsResponse, read_similar)

    record_events = _message("EventsService/RecordEvents", record_events, events.RecordEventsResponse, WRITE_S, True)
    erase_person = _message("EventsService/ErasePerson", erase_person, events.ErasePersonResponse, WRITE_S, False)
    upsert_items = _message("CatalogService/UpsertItems", upsert_items, catalog.UpsertItemsResponse, WRITE_S, False)
    delete_items = _message("CatalogService/DeleteItems", delete_items, catalog.DeleteItemsResponse, WRITE_S, False)

    bid = _message("BidderService/Bid", bid, bidder.BidResponse, BID_S, False)
    bid_batch = _message("BidderService/BidBatch", bid_batch, bidder.BidBatchResponse, BID_S, False)
    notify = _message("BidderService/Notify", notify, bidder.NotifyResponse, WRITE_S, True)
    report_actions = _message(
        "BidderService/ReportActions", report_actions, bidder.ReportActionsResponse, WRITE_S, True
    )
    explain_bid = _message("BidderService/ExplainBid", explain_bid, bidder.ExplainBidResponse, EXPLAIN_S, True)

    fund_advertiser = _message(
        "CampaignsService/FundAdvertiser", fund_advertiser, campaigns.FundAdvertiserResponse, WRITE_S, True
    )
    create_campaign = _message(
        "CampaignsService/CreateCampaign", create_campaign, campaigns.CreateCampaignResponse, WRITE_S, False
    )
    update_campaign = _message(
        "CampaignsService/UpdateCampaign", update_campaign, campaigns.UpdateCampaignResponse, WRITE_S, False
    )
    pause_campaign = _message(
        "CampaignsService/PauseCampaign", pause_campaign, campaigns.PauseCampaignResponse, WRITE_S, False
    )
    list_campaigns = _message(
        "CampaignsService/ListCampaigns", list_campaigns, campaigns.ListCampaignsResponse, READ_S, True
    )
    set_brake = _message("CampaignsService/SetBrake", set_brake, campaigns.SetBrakeResponse, WRITE_S, False)
    set_fence = _message("CampaignsService/SetFence", set_fence, campaigns.SetFenceResponse, WRITE_S, False)
    close_reservation = _message(
        "CampaignsService/CloseReservation", close_reservation, campaigns.CloseReservationResponse, WRITE_S, False
    )

    current_artifact = _message(
        "ArtifactsService/GetCurrentArtifact", current_artifact, artifacts.GetCurrentArtifactResponse, READ_S, True
    )
    reload_artifact = _message(
        "ArtifactsService/ReloadArtifact", reload_artifact, artifacts.ReloadArtifactResponse, RELOAD_S, False
    )

    reload_config = _message(
        "OperationsService/ReloadConfig", reload_config, operations.ReloadConfigResponse, RELOAD_S, False
    )
