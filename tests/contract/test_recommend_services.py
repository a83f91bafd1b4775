"""Recommender, Events and Catalog as the server calls them: limits, typed errors, batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.message import Message

from headrace.errors import HeadraceError, InvalidRequestError, NotFoundError, OverloadedError, PreconditionError
from headrace.events.log import EventLog
from headrace.events.store import Store
from headrace.front import Call
from headrace.recommend.model import Model
from headrace.recommend.recommender import Recommender
from headrace.service.catalog import CatalogService
from headrace.service.events import EventsService
from headrace.service.recommender import RecommenderService
from headrace.v1 import catalog_pb2, events_pb2
from headrace.v1 import recommender_pb2 as pb

T = 1_700_000_000_000
DAY = 86_400_000


def called(request: Message) -> Call:
    return Call("", request.SerializeToString(), math.inf, "", {}, None)


def read(response: type[Message], answer: bytes | HeadraceError) -> Any:
    return answer if isinstance(answer, HeadraceError) else response.FromString(answer)


class Shop:
    """The three services over one log."""

    def __init__(self, recommender: Recommender) -> None:
        self.recommender = recommender
        self.slates = RecommenderService(recommender)
        self.events = EventsService(recommender)
        self.catalog = CatalogService(recommender)

    def recommend(self, **fields: Any) -> Any:
        return self.recommend_all(pb.RecommendRequest(**fields))[0]

    def recommend_all(self, *requests: pb.RecommendRequest) -> list[Any]:
        answers = self.slates.recommend([called(request) for request in requests])
        return [read(pb.RecommendResponse, answer) for answer in answers]

    def shed(self, **fields: Any) -> Any:
        (answer,) = self.slates.recommend_popular([called(pb.RecommendRequest(**fields))])
        return read(pb.RecommendResponse, answer)

    def recommend_batches(self, *requests: pb.RecommendBatchRequest) -> list[Any]:
        answers = self.slates.recommend_batch([called(request) for request in requests])
        return [read(pb.RecommendBatchResponse, answer) for answer in answers]

    def record(self, *events: events_pb2.Event) -> Any:
        return self.events.record_events([events_pb2.RecordEventsRequest(events=events)])[0]

    def upsert(self, *items: catalog_pb2.Item) -> Any:
        return self.catalog.upsert_items([catalog_pb2.UpsertItemsRequest(items=items)])[0]

    def delete(self, *item_ids: str) -> Any:
        return self.catalog.delete_items([catalog_pb2.DeleteItemsRequest(item_ids=item_ids)])[0]

    def erase(self, **fields: Any) -> Any:
        return self.events.erase_person([events_pb2.ErasePersonRequest(**fields)])[0]


@pytest.fixture
def shop(factories: ModuleType, tmp_path: Path) -> Iterator[Shop]:
    store = Store(tmp_path / "log.sqlite")
    log = EventLog(store)
    yield Shop(Recommender(Model(factories.make_artifact(), log), log, clock_ms=lambda: T))
    store.close()


def event(event_id: str = "e1", **fields: Any) -> events_pb2.Event:
    values: dict[str, Any] = {"user_id": "ann", "type": events_pb2.EVENT_TYPE_PURCHASE, "item_id": "i3", "time_ms": T}
    return events_pb2.Event(event_id=event_id, **(values | fields))


def refused(result: object, field: str) -> str:
    assert isinstance(result, InvalidRequestError), result
    assert result.what.split(".")[-1].startswith(field) or result.what.startswith(field), result
    assert result.expected
    return str(result)


def ids(response: pb.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]


def test_methods_carry_the_names_of_the_proto(shop: Shop) -> None:
    names = [method.name for service in (shop.slates, shop.events, shop.catalog) for method in service.methods()]
    assert names == [
        "/headrace.v1.RecommenderService/Recommend",
        "/headrace.v1.RecommenderService/RecommendBatch",
        "/headrace.v1.RecommenderService/SimilarItems",
        "/headrace.v1.EventsService/RecordEvents",
        "/headrace.v1.EventsService/ErasePerson",
        "/headrace.v1.CatalogService/UpsertItems",
        "/headrace.v1.CatalogService/DeleteItems",
    ]


def test_a_recommendation_says_all_that_the_proto_promises(shop: Shop) -> None:
    shop.upsert(catalog_pb2.Item(item_id="i3", price_micros=5_000_000, attributes={"name": "Tea"}))
    known = shop.recommend(user_id="u1", limit=60, include_attributes=True)
    assert known.artifact_version == "made"
    assert known.tier == pb.TIER_EXACT
    assert not known.cold_start
    assert known.request_id
    tea = next(item for item in known.items if item.item_id == "i3")
    assert tea.price_micros == 5_000_000
    assert dict(tea.attributes) == {"name": "Tea"}
    plain = shop.recommend(user_id="u1", limit=60)
    assert all(not item.attributes for item in plain.items)
    assert plain.request_id != known.request_id
    assert len(shop.recommend().items) == 20
    assert shop.recommend().cold_start
    assert shop.recommend().tier == pb.TIER_POPULAR


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": 2**32 - 1}, "limit"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"user_id": "ü" * 129}, "user_id"),
        ({"user_id": "a\0"}, "user_id"),
        ({"anonymous_id": "x" * 257}, "anonymous_id"),
        ({"surface": "x" * 65}, "surface"),
        ({"exclude_item_ids": ["i1"] * 10_001}, "exclude_item_ids"),
        ({"session_item_ids": ["i1"] * 101}, "session_item_ids"),
        ({"session_item_ids": ["i1", "x" * 257]}, "session_item_ids[1]"),
        ({"repeat_policy": 77}, "repeat_policy"),
    ],
)
def test_limits_of_recommend_are_enforced(shop: Shop, fields: dict[str, Any], field: str) -> None:
    assert "got" in refused(shop.recommend(**fields), field)


@pytest.mark.parametrize(
    "fields",
    [
        {"limit": 1},
        {"limit": 1000},
        {"user_id": "x" * 256},
        {"user_id": "ü" * 128},
        {"surface": "x" * 64},
        {"exclude_item_ids": ["i1"] * 10_000},
        {"session_item_ids": ["i1", "ghost"] * 50},
    ],
)
def test_the_limits_themselves_are_allowed(shop: Shop, fields: dict[str, Any]) -> None:
    assert isinstance(shop.recommend(**fields), pb.RecommendResponse)


def test_items_of_a_session_count_as_events_do(shop: Shop) -> None:
    cold, told = shop.recommend_all(pb.RecommendRequest(), pb.RecommendRequest(session_item_ids=["i1", "i2"]))
    assert cold.cold_start
    assert not told.cold_start
    assert ids(shop.recommend(user_id="u1", session_item_ids=["i7"])) != ids(shop.recommend(user_id="u1"))
    assert ids(shop.shed(session_item_ids=["i7"])) == ids(cold)


def test_a_wrong_request_fails_alone(shop: Shop) -> None:
    requests = [pb.RecommendRequest(user_id="u1"), pb.RecommendRequest(limit=0), pb.RecommendRequest(min_sequence=9)]
    good, zero, early = shop.recommend_all(*requests)
    assert isinstance(good, pb.RecommendResponse)
    assert isinstance(zero, InvalidRequestError)
    assert isinstance(early, PreconditionError)
    assert ids(good) == ids(shop.recommend(user_id="u1"))


def test_a_batch_answers_in_order_or_names_the_request_that_failed(shop: Shop) -> None:
    good = pb.RecommendBatchRequest(requests=[pb.RecommendRequest(user_id=f"u{i}", limit=5) for i in range(40)])
    bad = pb.RecommendBatchRequest(requests=[pb.RecommendRequest(), pb.RecommendRequest(limit=0)])
    huge = pb.RecommendBatchRequest(requests=[pb.RecommendRequest()] * 257)
    results = shop.recommend_batches(good, bad, pb.RecommendBatchRequest(), huge)
    assert [ids(response) for response in results[0].responses] == [
        ids(shop.recommend(user_id=f"u{i}", limit=5)) for i in range(40)
    ]
    assert str(results[1]).startswith("requests[1].limit: got 0")
    refused(results[2], "requests")
    refused(results[3], "requests")
    late = shop.recommend_batches(pb.RecommendBatchRequest(requests=[pb.RecommendRequest(min_sequence=5)]))
    assert isinstance(late[0], PreconditionError)


def test_bytes_that_are_no_request_fail_alone(shop: Shop) -> None:
    good = pb.RecommendRequest(user_id="u1").SerializeToString()
    calls = [Call("", body, math.inf, "", {}, None) for body in (b"\xff", good, b"\x0a\x01\xff")]
    garbage, answer, no_text = shop.slates.recommend(calls)
    assert str(garbage) == str(no_text) == "the request is no headrace.v1.RecommendRequest message"
    assert ids(pb.RecommendResponse.FromString(answer)) == ids(shop.recommend(user_id="u1"))  # type: ignore[arg-type]
    inside = pb.RecommendBatchRequest(requests=[pb.RecommendRequest()]).SerializeToString() + b"\x0a\x01\xff"
    for body in (b"\xff", inside):
        (refusal,) = shop.slates.recommend_batch([Call("", body, math.inf, "", {}, None)])
        assert str(refusal) == "the request is no headrace.v1.RecommendBatchRequest message"


def test_without_time_the_answer_is_popular_items_that_may_be_shown(shop: Shop) -> None:
    shop.delete(shop.recommend().items[1].item_id)
    stranger = ids(shop.recommend(limit=4))
    answer = shop.shed(user_id="u1", limit=3, exclude_item_ids=[stranger[0]], surface="home")
    assert ids(answer) == stranger[1:]
    assert (answer.tier, answer.cold_start, answer.artifact_version) == (pb.TIER_POPULAR, False, "made")
    assert isinstance(shop.shed(limit=0), InvalidRequestError)
    sequence = shop.record(event()).sequence
    assert shop.shed(min_sequence=sequence).event_sequence == sequence
    assert isinstance(shop.shed(min_sequence=sequence + 1), OverloadedError)
    shop.recommender.close()
    shown = shop.recommender.log.store.read("SELECT subject_key, tier, surface FROM slates WHERE surface = 'home'")
    assert shown == [(0, pb.TIER_POPULAR, "home")]


def test_a_slate_that_was_refused_is_not_recorded(shop: Shop) -> None:
    requests = (pb.RecommendRequest(min_sequence=9), pb.RecommendRequest(user_id="u1"))
    late, good = shop.recommend_all(*requests)
    assert isinstance(late, PreconditionError)
    shop.recommender.close()
    assert shop.recommender.log.store.read("SELECT request_id FROM slates") == [(good.request_id,)]


def test_similar_items(shop: Shop) -> None:
    request = pb.SimilarItemsRequest(item_id="i4", limit=5, exclude_item_ids=["i5"])
    response, unknown, empty, zero = shop.slates.similar_items(
        [
            request,
            pb.SimilarItemsRequest(item_id="ghost"),
            pb.SimilarItemsRequest(),
            pb.SimilarItemsRequest(item_id="i4", limit=0),
        ]
    )
    assert isinstance(response, pb.SimilarItemsResponse)
    assert len(response.items) == 5
    assert response.request_id
    assert not {"i4", "i5"} & {item.item_id for item in response.items}
    assert isinstance(unknown, NotFoundError)
    refused(empty, "item_id")
    refused(zero, "limit")


def test_an_event_just_recorded_changes_the_next_answer(shop: Shop) -> None:
    before = shop.recommend(user_id="ann")
    recorded = shop.record(event(), event("e2", item_id="i4", quantity=2.5, position=3, request_id=before.request_id))
    assert (recorded.sequence, recorded.accepted, recorded.duplicates) == (2, 2, 0)
    after = shop.recommend(user_id="ann", min_sequence=recorded.sequence)
    assert before.cold_start
    assert not after.cold_start
    assert after.event_sequence == 2
    rows = shop.recommender.log.store.read("SELECT quantity, position, request_id FROM events ORDER BY sequence")
    assert rows == [(1.0, -1, ""), (2.5, 3, before.request_id)]


def test_the_same_event_again_is_a_duplicate(shop: Shop) -> None:
    shop.record(event())
    again = shop.record(event(), event("e2"))
    assert (again.accepted, again.duplicates) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 129}, "event_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"anonymous_id": "x" * 257}, "anonymous_id"),
        ({"type": 0}, "type"),
        ({"type": 99}, "type"),
        ({"type": 100}, "type"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": "x" * 257}, "item_id"),
        ({"type": events_pb2.EVENT_TYPE_LOGIN}, "anonymous_id"),
        ({"type": events_pb2.EVENT_TYPE_LOGIN, "user_id": "", "anonymous_id": "tab"}, "user_id"),
        ({"type": events_pb2.EVENT_TYPE_LOGIN, "anonymous_id": "tab"}, "item_id"),
        ({"time_ms": 0}, "time_ms"),
        ({"time_ms": -1}, "time_ms"),
        ({"time_ms": T + DAY + 1}, "time_ms"),
        ({"quantity": -1.0}, "quantity"),
        ({"quantity": float("nan")}, "quantity"),
        ({"quantity": float("inf")}, "quantity"),
        ({"price_micros": -1}, "price_micros"),
        ({"channel": "x" * 65}, "channel"),
        ({"request_id": "x" * 65}, "request_id"),
    ],
)
def test_a_bad_event_is_refused_with_all_of_its_call(shop: Shop, fields: dict[str, Any], field: str) -> None:
    values = {"event_id": "bad"} | fields
    text = refused(shop.record(event(), event(**values)), f"events[1].{field}")
    assert text.startswith("events[1].")
    assert shop.recommender.log.sequence() == 0


def test_events_at_the_limits_are_stored(shop: Shop) -> None:
    assert shop.record(event(time_ms=T + DAY), event("e2", quantity=0.0), event("x" * 128, time_ms=1)).accepted == 3
    assert shop.record(*(event(f"n{i}") for i in range(1000))).accepted == 1000
    refused(shop.record(*(event(f"m{i}") for i in range(1001))), "events")
    refused(shop.record(), "events")


def test_a_bad_call_does_not_touch_the_others_of_its_batch(shop: Shop) -> None:
    calls = [[event("a")], [event("b", time_ms=0)], [event("c")]]
    first, second, third = shop.events.record_events([events_pb2.RecordEventsRequest(events=e) for e in calls])
    assert isinstance(first, events_pb2.RecordEventsResponse)
    assert isinstance(second, InvalidRequestError)
    assert isinstance(third, events_pb2.RecordEventsResponse)
    assert third.sequence == 2


def test_a_person_erased_is_a_stranger_at_once(shop: Shop) -> None:
    shop.record(event(item_id="i9"))
    assert not shop.recommend(user_id="ann").cold_start
    assert shop.erase(user_id="ann").erased
    assert shop.recommend(user_id="ann").cold_start
    assert not shop.erase(user_id="ann").erased
    assert shop.erase(user_id="u1").erased
    assert shop.recommend(user_id="u1").cold_start
    assert not shop.erase(user_id="u1").erased


def test_erasing_takes_just_one_id(shop: Shop) -> None:
    refused(shop.erase(), "user_id or anonymous_id")
    refused(shop.erase(user_id="a", anonymous_id="b"), "user_id or anonymous_id")
    refused(shop.erase(user_id="x" * 257), "user_id")
    assert shop.erase(anonymous_id="never-seen").erased is False


def test_catalog_changes_reach_the_next_answer(shop: Shop) -> None:
    assert shop.upsert(catalog_pb2.Item(item_id="new"), catalog_pb2.Item(item_id="i1", unavailable=True)).upserted == 2
    answer = ids(shop.recommend(user_id="u1", limit=1000))
    assert "new" in answer
    assert "i1" not in answer
    shop.upsert(catalog_pb2.Item(item_id="i1"))
    assert "i1" in ids(shop.recommend(user_id="u1", limit=1000))
    assert shop.delete("new", "i2", "ghost").deleted == 2
    assert not {"new", "i2"} & set(ids(shop.recommend(limit=1000)))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"item_id": ""}, "item_id"),
        ({"item_id": "x" * 257}, "item_id"),
        ({"price_micros": -1}, "price_micros"),
        ({"publish_time_ms": -1}, "publish_time_ms"),
        ({"publish_time_ms": 5, "expire_time_ms": 5}, "expire_time_ms"),
        ({"expire_time_ms": -1}, "expire_time_ms"),
        ({"attributes": {str(i): "" for i in range(65)}}, "attributes"),
        ({"attributes": {"k" * 65: ""}}, "attributes key"),
        ({"attributes": {"k": "v" * 4097}}, "attributes['k']"),
    ],
)
def test_a_bad_item_is_refused_with_all_of_its_call(shop: Shop, fields: dict[str, Any], field: str) -> None:
    values = {"item_id": "bad"} | fields
    refused(shop.upsert(catalog_pb2.Item(item_id="new"), catalog_pb2.Item(**values)), f"items[1].{field}")
    assert "new" not in ids(shop.recommend(limit=1000))


def test_catalog_calls_take_1_to_1000_elements(shop: Shop) -> None:
    refused(shop.upsert(), "items")
    refused(shop.upsert(*(catalog_pb2.Item(item_id=f"n{i}") for i in range(1001))), "items")
    refused(shop.delete(), "item_ids")
    refused(shop.delete(*(f"n{i}" for i in range(1001))), "item_ids")
    refused(shop.delete("i1", ""), "item_ids[1]")


def test_a_closed_store_is_a_typed_error_and_answers_go_on(shop: Shop) -> None:
    shop.recommend(user_id="u1")
    shop.recommender.log.store.close()
    for result in (shop.record(event()), shop.upsert(catalog_pb2.Item(item_id="new")), shop.delete("i1")):
        assert isinstance(result, HeadraceError)
    assert len(shop.recommend(user_id="u1").items) == 20
