"""Every text, list and map of every request has a bound, whoever decodes it; found by walking the contract itself."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

import headrace.v1
from headrace.artifacts import ArtifactStore
from headrace.config import load_config
from headrace.front import Call, Reply
from headrace.operations.live import LiveSettings
from headrace.service import operations
from headrace.service.assembly import Assembly
from headrace.service.dispatch import answer
from headrace.service.method import Method
from headrace.v1 import (
    artifacts_pb2,
    bidder_pb2,
    campaigns_pb2,
    catalog_pb2,
    events_pb2,
    operations_pb2,
    recommender_pb2,
)

INVALID = 3
# above the largest bound of a text, 4096 bytes, and of a list, 10000 elements
TOO_LONG, TOO_MANY = "x" * 5000, 10_001
STRATEGIES = Path(__file__).parents[2] / "examples" / "strategies"
NOW_MS = time.time_ns() // 1_000_000

RECOMMEND = recommender_pb2.RecommendRequest(user_id="u1", exclude_item_ids=["i1"], session_item_ids=["i1"])
BID = bidder_pb2.BidRequest(
    bid_request_id="b1",
    user_id="u1",
    impressions=[bidder_pb2.Impression(impression_id="1")],
    categories=["tea"],
    user_segments=["new"],
)
LINE = campaigns_pb2.LineItem(
    line_item_id="l1",
    item_ids=["i1"],
    strategy="threshold",
    strategy_parameters=[1.0],
    targeting=campaigns_pb2.Targeting(
        countries=["DE"],
        categories=["tea"],
        hours=[1],
        user_segments=["new"],
        dayparts=[campaigns_pb2.Daypart(weekdays=[1], end_hour=2)],
    ),
)
CAMPAIGN = campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[LINE])
EVENT = events_pb2.Event(event_id="e1", user_id="u1", item_id="i1", type=events_pb2.EVENT_TYPE_VIEW, time_ms=NOW_MS)
GOOD: dict[str, Message] = {
    "RecommenderService/Recommend": RECOMMEND,
    "RecommenderService/RecommendBatch": recommender_pb2.RecommendBatchRequest(requests=[RECOMMEND]),
    "RecommenderService/SimilarItems": recommender_pb2.SimilarItemsRequest(item_id="i1", exclude_item_ids=["i2"]),
    "EventsService/RecordEvents": events_pb2.RecordEventsRequest(events=[EVENT]),
    "EventsService/ErasePerson": events_pb2.ErasePersonRequest(user_id="nobody"),
    "CatalogService/UpsertItems": catalog_pb2.UpsertItemsRequest(
        items=[catalog_pb2.Item(item_id="i1", attributes={"name": "Tea"})]
    ),
    "CatalogService/DeleteItems": catalog_pb2.DeleteItemsRequest(item_ids=["i9"]),
    "BidderService/Bid": BID,
    "BidderService/BidBatch": bidder_pb2.BidBatchRequest(requests=[BID]),
    "BidderService/BidStream": bidder_pb2.BidStreamRequest(request=BID),
    "BidderService/Notify": bidder_pb2.NotifyRequest(
        notices=[bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token="t")]
    ),
    "BidderService/ReportActions": bidder_pb2.ReportActionsRequest(
        actions=[bidder_pb2.Action(action_id="p1", token="t", time_ms=NOW_MS)]
    ),
    "BidderService/ExplainBid": bidder_pb2.ExplainBidRequest(bid_request_id="b1"),
    "CampaignsService/FundAdvertiser": campaigns_pb2.FundAdvertiserRequest(
        entry_id="d1", advertiser_id="a1", amount_micros=1
    ),
    "CampaignsService/CreateCampaign": campaigns_pb2.CreateCampaignRequest(campaign=CAMPAIGN),
    "CampaignsService/UpdateCampaign": campaigns_pb2.UpdateCampaignRequest(campaign=CAMPAIGN),
    "CampaignsService/PauseCampaign": campaigns_pb2.PauseCampaignRequest(campaign_id="c1"),
    "CampaignsService/ListCampaigns": campaigns_pb2.ListCampaignsRequest(campaign_ids=["c1"]),
    "CampaignsService/SetBrake": campaigns_pb2.SetBrakeRequest(reason="a test"),
    "CampaignsService/SetFence": campaigns_pb2.SetFenceRequest(reason="a test"),
    "CampaignsService/CloseReservation": campaigns_pb2.CloseReservationRequest(token="t", reason="a test"),
    "ArtifactsService/GetCurrentArtifact": artifacts_pb2.GetCurrentArtifactRequest(),
    "ArtifactsService/ReloadArtifact": artifacts_pb2.ReloadArtifactRequest(),
    "OperationsService/ReloadConfig": operations_pb2.ReloadConfigRequest(),
}
"""A request that is right for each RPC, with one element in each list, so that the walk reaches what is inside."""


def rpcs() -> Iterator[tuple[str, Any]]:
    """Every RPC of the contract with the descriptor of its request."""
    for module in pkgutil.iter_modules(headrace.v1.__path__):
        file = importlib.import_module(f"headrace.v1.{module.name}").DESCRIPTOR
        for service in file.services_by_name.values():
            for method in service.methods:
                yield f"{service.name}/{method.name}", method.input_type


def oversized(request: Message, place: str = "") -> Iterator[tuple[str, Any]]:
    """Ways to make a message too large: the field's path, and what does that to a copy of the message in place."""
    for field in request.DESCRIPTOR.fields:
        path, name = f"{place}{field.name}", field.name
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            yield (
                f"{path} (entries)",
                lambda each, name=name: getattr(each, name).update({f"k{n}": "" for n in range(TOO_MANY)}),
            )
            yield f"{path} (key)", lambda each, name=name: getattr(each, name).update({TOO_LONG: ""})
            yield f"{path} (value)", lambda each, name=name: getattr(each, name).update({"k": TOO_LONG})
        elif field.is_repeated:
            yield (
                f"{path} (elements)",
                lambda each, name=name: getattr(each, name).extend([getattr(each, name)[0]] * TOO_MANY),
            )
            if field.type == FieldDescriptor.TYPE_STRING:
                yield f"{path} (element)", lambda each, name=name: getattr(each, name).append(TOO_LONG)
            elif field.message_type is not None:
                for inner, spoil in oversized(getattr(request, name)[0], f"{path}[0]."):
                    yield inner, lambda each, name=name, spoil=spoil: spoil(getattr(each, name)[0])
        elif field.message_type is not None:
            for inner, spoil in oversized(getattr(request, name), f"{path}."):
                yield inner, lambda each, name=name, spoil=spoil: spoil(getattr(each, name))
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield path, lambda each, name=name: setattr(each, name, TOO_LONG)


CASES = [
    pytest.param(name, path, spoil, id=f"{name}: {path}")
    for name, request in GOOD.items()
    for path, spoil in oversized(request)
]


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory, factories: ModuleType) -> Iterator[dict[str, Method]]:
    folder: Path = tmp_path_factory.mktemp("limits")
    store = ArtifactStore(folder / "artifacts")
    factories.write_artifact(store, "v1")
    store.publish("v1")
    flags = {
        "server": {"artifact": str(store.root), "data": str(folder / "data")},
        "bidding": {"strategies": [f"{STRATEGIES / 'threshold.py'}:threshold"]},
    }
    config = load_config(flags=flags, environment={})
    with contextlib.closing(Assembly(config)) as assembly:
        own = operations.methods(LiveSettings(config, lambda: config).reload)
        yield {method.name.removeprefix("/headrace.v1."): method for method in [*assembly.methods(), *own]}


def ask(method: Method, request: Message) -> Reply:
    call = Call(method.name, request.SerializeToString(), float("inf"), "ipv4:test", {}, None, caller="a1b2")
    return answer(method, [call])[0]


def refusal(name: str, reply: Reply) -> tuple[int, str]:
    """Status and text; a stream's stands in the message, so that the stream goes on."""
    if name == "BidderService/BidStream" and not reply.status:
        error = bidder_pb2.BidStreamResponse.FromString(reply.body).error
        return error.code, error.message
    return reply.status, reply.message


def test_every_rpc_is_walked(methods: dict[str, Method]) -> None:
    assert {name: request.DESCRIPTOR for name, request in GOOD.items()} == dict(rpcs())
    assert set(methods) == set(GOOD)
    assert len(CASES) > 90


@pytest.mark.parametrize("name", sorted(GOOD))
def test_the_request_that_is_spoilt_is_right_before(methods: dict[str, Method], name: str) -> None:
    status, text = refusal(name, ask(methods[name], GOOD[name]))
    assert status != INVALID, text


@pytest.mark.parametrize(("name", "path", "spoil"), CASES)
def test_too_large_a_field_is_refused_by_its_name(methods: dict[str, Method], name: str, path: str, spoil: Any) -> None:
    request = type(GOOD[name]).FromString(GOOD[name].SerializeToString())
    spoil(request)
    status, text = refusal(name, ask(methods[name], request))
    assert status == INVALID, text
    assert path.split(" ")[0].rpartition(".")[2] in text
    # what is too large is not sent back
    assert len(text) < 400
