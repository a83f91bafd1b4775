"""A server around stub handlers, called by both clients: errors, batches, retries, drain."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
import pytest

import headrace
from headrace import errors
from headrace.client import Slate, Tier
from headrace.config import Config, DoorConfig, ServerConfig
from headrace.front import Call
from headrace.service.method import Method
from headrace.service.server import Server
from headrace.v1 import bidder_pb2, events_pb2, recommender_pb2

Handle = Callable[[Any], Any]


class Stub:
    """Handlers that answer one request at a time with whatever a test puts in."""

    def __init__(self) -> None:
        self.recommend: Handle = slate
        self.bid: Handle = lambda request: bidder_pb2.BidResponse(bid_request_id=request.bid_request_id)
        self.record: Handle = lambda request: events_pb2.RecordEventsResponse(sequence=len(request.events))
        self.seen: list[str] = []

    def methods(self) -> list[Method]:
        return [
            Method(
                "/headrace.v1.RecommenderService/Recommend", recommender_pb2.RecommendRequest, self._on("recommend")
            ),
            Method("/headrace.v1.BidderService/Bid", bidder_pb2.BidRequest, self._on("bid")),
            Method("/headrace.v1.EventsService/RecordEvents", events_pb2.RecordEventsRequest, self._on("record")),
        ]

    def _on(self, name: str) -> Any:
        def handle(requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
            self.seen += [name] * len(requests)
            return [getattr(self, name)(request) for request in requests]

        return handle


def slate(request: recommender_pb2.RecommendRequest) -> Any:
    if request.user_id.startswith("unknown"):
        return errors.NotFoundError("user", request.user_id, "a known one", "send its events first")
    items = [recommender_pb2.RecommendedItem(item_id=f"i{n}", score=1.0 / (n + 1)) for n in range(request.limit or 20)]
    return recommender_pb2.RecommendResponse(
        request_id=f"for-{request.user_id}", items=items, tier=recommender_pb2.TIER_EXACT, artifact_version="v1"
    )


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def address(stub: Stub) -> Iterator[str]:
    config = Config(server=ServerConfig(listen="127.0.0.1:0", workers=2), door=DoorConfig(max_message_bytes=8192))
    server = Server({"": stub.methods()}, config)
    yield server.start()
    server.drain()


@pytest.fixture
def client(address: str) -> Iterator[headrace.Client]:
    with headrace.Client(address) as client:
        yield client


def test_five_lines_to_a_recommendation(address: str) -> None:
    with headrace.Client(address) as client:
        slate = client.recommend("u1", limit=3)
    assert isinstance(slate, Slate)
    assert [item.item_id for item in slate.items] == ["i0", "i1", "i2"]
    assert (slate.request_id, slate.tier, slate.artifact_version) == ("for-u1", Tier.EXACT, "v1")


def test_errors_come_back_as_the_class_and_text_the_server_raised(client: headrace.Client) -> None:
    with pytest.raises(errors.NotFoundError, match=r"^user: got 'unknown-7', expected a known one; send its events"):
        client.recommend("unknown-7")


def test_one_bad_request_does_not_touch_the_others(client: headrace.Client, address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary("/headrace.v1.RecommenderService/Recommend")
        calls = [raw.future(b"\xff\xff\xff" if i % 2 else b"", timeout=5) for i in range(40)]
        codes = [call.code() for call in calls]
        texts = {call.details() for call in calls if call.code() != grpc.StatusCode.OK}
    assert codes == [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT] * 20
    assert texts == {"InvalidRequestError: the request is no headrace.v1.RecommendRequest message"}


def test_unknown_exception_is_internal_logged_and_not_leaked(
    stub: Stub, client: headrace.Client, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(request: Any) -> Any:
        raise ValueError("secret text")

    stub.bid = fail
    with caplog.at_level(logging.ERROR), pytest.raises(errors.ServerError, match="internal error") as failure:
        client.bid(bidder_pb2.BidRequest(bid_request_id="b1"))
    assert "secret" not in str(failure.value)
    request_id = str(failure.value).split()[-1]
    assert request_id in caplog.text
    assert "secret text" in caplog.text
    assert client.recommend("u1").request_id == "for-u1"


def test_oversized_message_is_an_invalid_request(client: headrace.Client) -> None:
    with pytest.raises(errors.InvalidRequestError, match="larger than max"):
        client.recommend("u" * 9000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda client: client.recommend("u1", limit=-1), "Recommend: Value out of range: -1; nothing was sent"),
        (lambda client: client.recommend("u1", limit=2**33), "Value out of range"),
        (lambda client: client.recommend("\ud800"), "surrogates not allowed"),
        (
            lambda client: client.recommend("u1", exclude_item_ids="tea"),
            r"exclude_item_ids: got 'tea'.*write \['tea'\]",
        ),
        (lambda client: client.similar_items("i1", exclude_item_ids="tea"), "expected several ids"),
        (lambda client: client.delete_items("tea"), "expected several ids"),
        (lambda client: client.list_campaigns(campaign_ids="c1"), "expected several ids"),
    ],
)
def test_what_cannot_be_sent_is_an_invalid_request(
    stub: Stub, client: headrace.Client, call: Callable[[headrace.Client], object], message: str
) -> None:
    with pytest.raises(errors.InvalidRequestError, match=message):
        call(client)
    assert stub.seen == []


def test_unimplemented_method_is_a_server_error(client: headrace.Client) -> None:
    with pytest.raises(errors.ServerError):
        client.similar_items("i1")


def flaky(answer: Handle, failures: int) -> Handle:
    left = [failures]

    def handle(request: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return errors.OverloadedError("busy")
        return answer(request)

    return handle


def test_safe_calls_are_retried_and_unsafe_ones_never(stub: Stub, client: headrace.Client) -> None:
    stub.recommend, stub.record = flaky(stub.recommend, 2), flaky(stub.record, 2)
    stub.bid = flaky(stub.bid, 1)
    assert client.recommend("u1").request_id == "for-u1"
    assert client.record_events([events_pb2.Event(event_id="e1")]).sequence == 1
    with pytest.raises(errors.OverloadedError, match="busy"):
        client.bid(bidder_pb2.BidRequest())
    assert stub.seen == ["recommend"] * 3 + ["record"] * 3 + ["bid"]


def test_retries_end_with_the_deadline(stub: Stub, client: headrace.Client) -> None:
    stub.recommend = flaky(stub.recommend, 10_000)
    with pytest.raises((errors.OverloadedError, errors.DeadlineError)):
        client.within(0.1).recommend("u1")


def test_deadline_is_on_by_default_and_can_be_set(stub: Stub, client: headrace.Client) -> None:
    free = threading.Event()
    answer = stub.bid
    stub.bid = lambda request: answer(request) if free.wait(10) else None
    with pytest.raises(errors.DeadlineError):
        client.bid(bidder_pb2.BidRequest())
    free.set()
    assert client.within(5).bid(bidder_pb2.BidRequest(bid_request_id="b")).bid_request_id == "b"
    with pytest.raises(errors.InvalidRequestError, match="timeout_s"):
        client.within(0)


def test_reads_do_not_wait_behind_the_disk(stub: Stub, client: headrace.Client) -> None:
    free = threading.Event()
    record = stub.record
    stub.record = lambda request: record(request) if free.wait(10) else None
    threads = [threading.Thread(target=client.record_events, args=([],)) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert client.recommend("u1").request_id == "for-u1"
    free.set()
    for thread in threads:
        thread.join()


def test_async_client_has_the_same_methods(address: str) -> None:
    async def talk() -> tuple[Slate, ...]:
        async with headrace.AsyncClient(address) as client:
            with pytest.raises(errors.NotFoundError, match="user"):
                await client.recommend("unknown-1")
            return tuple(await asyncio.gather(*(client.recommend(f"u{i}", limit=1) for i in range(50))))

    slates = asyncio.run(talk())
    assert [slate.request_id for slate in slates] == [f"for-u{i}" for i in range(50)]


def test_no_server_is_unavailable() -> None:
    with headrace.Client("127.0.0.1:1") as client, pytest.raises(errors.UnavailableError):
        client.within(0.2).recommend("u1")
