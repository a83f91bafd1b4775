"""What each role may do: one table of every RPC and HTTP route; what does not stand in it nobody may."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class Role(StrEnum):
    """Whom a key or certificate belongs to."""

    STOREFRONT = "storefront"
    AD_PLATFORM = "ad_platform"
    OPERATOR = "operator"
    ADMIN = "admin"


def _rpcs(service: str, *names: str) -> frozenset[str]:
    return frozenset(f"/headrace.v1.{service}/{name}" for name in names)


METRICS = "/metrics"
BID_ROUTE = "/openrtb2/bid"
ACTION_ROUTE = "/v1/actions"
NOTICE_ROUTES = frozenset({"/openrtb2/win", "/openrtb2/bill", "/openrtb2/loss"})

OPEN = NOTICE_ROUTES
"""Needs no key: an exchange calls the URL as it got it, and the token in it is authenticated by itself."""

_RECOMMEND = _rpcs("RecommenderService", "Recommend", "RecommendBatch", "SimilarItems")
_RECORD = _rpcs("EventsService", "RecordEvents")
_ERASE = _rpcs("EventsService", "ErasePerson")
_CATALOG = _rpcs("CatalogService", "UpsertItems", "DeleteItems")
_BID = _rpcs("BidderService", "Bid", "BidBatch", "BidStream", "Notify", "ReportActions") | {BID_ROUTE, ACTION_ROUTE}
# for whoever bids and whoever pays
_EXPLAIN = _rpcs("BidderService", "ExplainBid")
_CAMPAIGNS = _rpcs(
    "CampaignsService",
    "FundAdvertiser",
    "CreateCampaign",
    "UpdateCampaign",
    "PauseCampaign",
    "ListCampaigns",
    "SetBrake",
)
# what makes money out of nothing where it is done wrongly
_RECONCILE = _rpcs("CampaignsService", "SetFence", "CloseReservation")
_ARTIFACTS = _rpcs("ArtifactsService", "GetCurrentArtifact", "ReloadArtifact")

PROCESS = _rpcs("OperationsService", "ReloadConfig")
"""Concerns the process and so all tenants at once: no tenant's own admin may, only one without a tenant."""

GRANTS: Mapping[Role, frozenset[str]] = {
    Role.STOREFRONT: _RECOMMEND | _RECORD | _CATALOG,
    Role.AD_PLATFORM: _BID | _EXPLAIN,
    Role.OPERATOR: _CAMPAIGNS | _EXPLAIN | _ARTIFACTS | _ERASE | {METRICS},
    Role.ADMIN: frozenset({METRICS}).union(
        _RECOMMEND, _RECORD, _ERASE, _CATALOG, _BID, _EXPLAIN, _CAMPAIGNS, _RECONCILE, _ARTIFACTS, PROCESS
    ),
}
