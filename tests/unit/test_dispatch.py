"""Batches to handlers and back, without a transport."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import grpc
import pytest

from headrace.errors import OverloadedError, StoreFullError
from headrace.front import Call, Reply
from headrace.service.access import TENANT, OpenAccess
from headrace.service.dispatch import Dispatcher, Gates
from headrace.service.method import Method
from headrace.service.server import DURABLE, PURE
from headrace.telemetry.calls import CallCounters
from headrace.v1 import recommender_pb2

OK, INTERNAL, INVALID = (
    code.value[0] for code in (grpc.StatusCode.OK, grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)
)
SETS: Any = {"durable": (), "pure": ()}
PROTOS = Path(__file__).parents[2] / "proto" / "headrace" / "v1"


class FakeDoor:
    """Collects replies by the body of their call."""

    def __init__(self) -> None:
        self.replies: list[tuple[bytes, Reply]] = []

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        self.replies += [(call.body, reply) for call, reply in zip(calls, replies, strict=True)]
        return []


class Later:
    """An executor that runs nothing until it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        self.jobs.append(lambda: function(*arguments))
        return Future()


def request(user_id: str) -> bytes:
    return recommender_pb2.RecommendRequest(user_id=user_id).SerializeToString()


def call(body: bytes, method: str = "/pure") -> Call:
    return Call(method, body, float("inf"), "", {}, None)


def handle(requests: Sequence[Any], calls: Sequence[Call]) -> list[Any]:
    assert len(requests) == len(calls)
    users = [one.user_id for one in requests]
    if "poison" in users:
        raise ZeroDivisionError("a bug")
    if "overload" in users:
        raise OverloadedError("too much")
    return [
        StoreFullError("full") if user == "full" else recommender_pb2.RecommendResponse(request_id=user)
        for user in users
    ]


@pytest.fixture
def door() -> FakeDoor:
    return FakeDoor()


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def dispatcher(door: FakeDoor, later: Later) -> Dispatcher:
    methods = [Method(name, recommender_pb2.RecommendRequest, handle) for name in ("/pure", "/once", "/durable")]
    rest: Any = {"executor": later, "batch_limit": 8, "durable_queue": 2}
    return Dispatcher(door, {"": methods}, durable={"/durable"}, pure={"/pure"}, **rest)  # type: ignore[arg-type]


class BrokenDoor(FakeDoor):
    """Fails at the first attempt to send something good."""

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        if any(reply.body for reply in replies):
            raise MemoryError
        return super().reply(calls, replies)


def statuses(door: FakeDoor) -> list[int]:
    return [reply.status for _, reply in door.replies]


def test_each_call_gets_its_own_answer_or_error(dispatcher: Dispatcher, door: FakeDoor) -> None:
    dispatcher.dispatch([call(request("a")), call(b"\xff\xff"), call(request("full")), call(request("b"))])
    assert statuses(door) == [OK, INVALID, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], OK]
    answers = [recommender_pb2.RecommendResponse.FromString(reply.body).request_id for _, reply in door.replies]
    assert answers == ["a", "", "", "b"]


def test_malformed_calls_alone_do_not_reach_the_handler(dispatcher: Dispatcher, door: FakeDoor) -> None:
    dispatcher.dispatch([call(b"\xff\xff"), call(b"\xff")])
    assert statuses(door) == [INVALID, INVALID]


def test_poisonous_call_fails_alone_where_trying_again_is_safe(dispatcher: Dispatcher, door: FakeDoor) -> None:
    dispatcher.dispatch([call(request(user)) for user in ("a", "poison", "b")])
    assert statuses(door) == [OK, INTERNAL, OK]


def test_nothing_that_counts_twice_is_tried_again(dispatcher: Dispatcher, door: FakeDoor) -> None:
    dispatcher.dispatch([call(request(user), "/once") for user in ("a", "poison", "b")])
    assert statuses(door) == [INTERNAL] * 3
    dispatcher.dispatch([call(request("a"), "/once")])
    assert statuses(door)[-1] == OK


def test_known_error_of_a_whole_batch_goes_to_each(dispatcher: Dispatcher, door: FakeDoor) -> None:
    dispatcher.dispatch([call(request(user)) for user in ("a", "overload")])
    assert statuses(door) == [grpc.StatusCode.UNAVAILABLE.value[0]] * 2


def test_durable_calls_wait_elsewhere(dispatcher: Dispatcher, door: FakeDoor, later: Later) -> None:
    dispatcher.dispatch([call(request("slow"), "/durable"), call(request("fast"))])
    assert [body for body, _ in door.replies] == [request("fast")]
    for job in later.jobs:
        job()
    assert [body for body, _ in door.replies] == [request("fast"), request("slow")]


def test_answers_that_a_door_cannot_send_are_taken_back_and_the_worker_goes_on(later: Later) -> None:
    taken: list[bytes] = []
    door = BrokenDoor()
    bid = Method(
        "/bid", answer=lambda calls: [one.body for one in calls], take_back=lambda _, bodies: taken.extend(bodies)
    )
    rest: Any = {"executor": later, "batch_limit": 8, "durable_queue": 2}
    dispatcher = Dispatcher(door, {"": [bid]}, durable=(), pure=(), **rest)  # type: ignore[arg-type]
    dispatcher.dispatch([call(b"a", "/bid"), call(b"b", "/bid")])
    assert taken == [b"a", b"b"]
    assert statuses(door) == [INTERNAL, INTERNAL]


def test_a_handler_with_an_answer_too_few_fails_its_batch_alone(door: FakeDoor, later: Later) -> None:
    rest: Any = {"executor": later, "batch_limit": 8, "durable_queue": 2}
    method = Method("/short", answer=lambda calls: [b"x"])
    dispatcher = Dispatcher(door, {"": [method]}, durable=(), pure=(), **rest)  # type: ignore[arg-type]
    dispatcher.dispatch([call(b"a", "/short"), call(b"b", "/short")])
    assert statuses(door) == [INTERNAL, INTERNAL]


def test_tenants_that_strangers_make_up_are_counted_as_one(door: FakeDoor, later: Later) -> None:
    counters = CallCounters()
    gates = Gates(access=OpenAccess(several=True), observer=counters)
    rest: Any = {"executor": later, "batch_limit": 8, "durable_queue": 2, "gates": gates}
    dispatcher = Dispatcher(door, {"tea": [Method("/pure", answer=lambda calls: [b""] * len(calls))]}, **SETS, **rest)
    dispatcher.dispatch([Call("/pure", b"", float("inf"), "", {TENANT: f"made up {n}"}, None) for n in range(50)])
    assert statuses(door) == [grpc.StatusCode.NOT_FOUND.value[0]] * 50
    assert counters._refused == {("", "/pure", "unknown_tenant"): 50}


def test_lists_of_methods_name_rpcs_that_exist() -> None:
    known = set()
    for proto in PROTOS.glob("*.proto"):
        text = proto.read_text("utf-8")
        for service, body in re.findall(r"service (\w+) \{(.*?)\n\}", text, re.DOTALL):
            known |= {f"/headrace.v1.{service}/{name}" for name in re.findall(r"rpc (\w+)", body)}
    assert known >= DURABLE | PURE
    assert not DURABLE & PURE


class LosingDoor(FakeDoor):
    """A stream broke while two of its answers waited; then one call comes, and the door closes."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = [("/bid", b"waited"), ("/bid", b"waited, too"), ("/other", b"not ours")]
        self.batches = [[call(b"next", "/bid")], []]

    def next_batch(self, limit: int) -> list[Call]:
        return self.batches.pop(0)

    def take_lost(self) -> list[tuple[str, bytes]]:
        lost, self.lost = self.lost, []
        return lost


def test_answers_lost_with_their_stream_are_taken_back_before_the_next_is_answered(later: Later) -> None:
    said: list[bytes] = []

    def answer(calls: Sequence[Call]) -> list[bytes]:
        said.extend(one.body for one in calls)
        return [b""] * len(calls)

    bid = Method("/bid", answer=answer, take_back=lambda _, bodies: said.extend(bodies))
    other = Method("/other", answer=answer)
    rest: Any = {"executor": later, "batch_limit": 8, "durable_queue": 2}
    door: Any = LosingDoor()
    Dispatcher(door, {"": [bid, other]}, durable=(), pure=(), **rest).run()
    assert said == [b"waited", b"waited, too", b"next"]
