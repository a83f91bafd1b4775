"""What a worker does with calls that are not let in, and with those that wait for the disk."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import grpc
import pytest

from headrace.breaker import Breaker
from headrace.errors import DeadlineError, HeadraceError, OverloadedError, RateLimitError
from headrace.front import Call, Reply
from headrace.service.access import Principal
from headrace.service.admission import NEXT_TURN, AdmitAll, AdmitInTime
from headrace.service.dispatch import Dispatcher, Gates
from headrace.service.method import Method
from headrace.service.settings import AdmissionConfig
from headrace.v1 import recommender_pb2

CODES = {code.name: code.value[0] for code in grpc.StatusCode}


class FakeDoor:
    """Keeps replies by the body of their call, and how many came together."""

    def __init__(self) -> None:
        self.replies: dict[bytes, Reply] = {}
        self.together: list[int] = []

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        self.replies |= {call.body: reply for call, reply in zip(calls, replies, strict=True)}
        self.together.append(len(calls))
        return []

    def status(self, body: bytes) -> str:
        return next(name for name, code in CODES.items() if code == self.replies[body].status)


class Later:
    """An executor that runs nothing until it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        self.jobs.append(lambda: function(*arguments))
        return Future()

    def run(self) -> None:
        while self.jobs:
            self.jobs.pop(0)()


class Refusing(AdmitAll):
    """Says of each call what the test put under its body."""

    def __init__(self) -> None:
        self.errors: dict[bytes, Exception | None] = {}
        self.turns: list[int] = []

    def turn(self, now: float, n: int) -> Refusing:
        self.turns.append(n)
        return self

    def refusal(self, call: Call, principal: Principal) -> HeadraceError | None:  # type: ignore[override]
        error = self.errors.get(call.body)
        if error is NEXT_TURN:
            self.errors[call.body] = None
        assert not isinstance(error, ZeroDivisionError), "as a bug in a gate would"
        return error  # type: ignore[return-value]


def echo(calls: Sequence[Call]) -> list[bytes]:
    return [b"answer " + call.body for call in calls]


def popular(calls: Sequence[Call]) -> list[bytes]:
    if any(call.body == b"poison" for call in calls):
        raise ZeroDivisionError("a bug")
    return [b"popular " + call.body for call in calls]


def call(body: bytes, method: str = "/slate", deadline: float = math.inf) -> Call:
    return Call(method, body, deadline, "", {}, None, time.monotonic())


class Bench:
    """A dispatcher without a transport."""

    def __init__(self, admission: Any = None) -> None:
        self.door, self.later = FakeDoor(), Later()
        self.gate = Refusing()
        self.breaker = Breaker(least=1)
        request = recommender_pb2.RecommendRequest
        methods = [
            Method("/slate", request, answer=echo, shed=popular),
            Method("/talk", request, answer=echo, shed=popular, stream=True),
            Method("/plain", request, answer=echo),
            Method("/write", request, answer=echo, breaker=self.breaker),
        ]
        self.dispatcher = Dispatcher(
            self.door,  # type: ignore[arg-type]
            {"": methods},
            durable={"/write"},
            pure=(),
            executor=self.later,  # type: ignore[arg-type]
            batch_limit=2,
            durable_queue=3,
            gates=Gates(admission=admission or self.gate),
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_refused_calls_get_the_cheap_answer_together(bench: Bench) -> None:
    bench.gate.errors = {b"a": OverloadedError("o"), b"b": DeadlineError("d"), b"c": OverloadedError("o")}
    bench.dispatcher.dispatch([call(b"a"), call(b"x"), call(b"b"), call(b"c", "/plain")])
    assert bench.door.replies[b"a"].body == b"popular a"
    assert bench.door.replies[b"b"].body == b"popular b"
    assert bench.door.replies[b"x"].body == b"answer x"
    assert bench.door.status(b"c") == "UNAVAILABLE"
    assert sorted(bench.door.together) == [1, 1, 2]


def test_deadline_in_the_past_gets_its_status_and_no_cheap_answer() -> None:
    bench = Bench(AdmitInTime(AdmissionConfig(), {}, 1.0, apart=()))
    bench.dispatcher.dispatch([call(b"a", deadline=time.monotonic() - 0.001)])
    assert bench.door.status(b"a") == "DEADLINE_EXCEEDED"


def test_who_asks_too_often_hears_so_but_keeps_the_stream(bench: Bench) -> None:
    bench.gate.errors = {b"a": RateLimitError("r"), b"b": RateLimitError("r")}
    bench.dispatcher.dispatch([call(b"a"), call(b"b", "/talk")])
    assert bench.door.status(b"a") == "RESOURCE_EXHAUSTED"
    assert bench.door.replies[b"b"].body == b"popular b"


def test_worker_outlives_a_cheap_answer_and_a_gate_that_fail(bench: Bench) -> None:
    bench.gate.errors = {b"poison": OverloadedError("o"), b"bug": ZeroDivisionError()}
    bench.dispatcher.dispatch([call(b"poison"), call(b"bug"), call(b"x")])
    assert bench.door.status(b"poison") == bench.door.status(b"bug") == "INTERNAL"
    assert bench.door.replies[b"x"].body == b"answer x"


def test_call_that_would_make_others_late_is_answered_after_them(bench: Bench) -> None:
    bench.gate.errors = {b"c": NEXT_TURN}
    bench.dispatcher.dispatch([call(body) for body in (b"a", b"b", b"c", b"d")])
    assert list(bench.door.replies) == [b"a", b"b", b"c", b"d"]
    assert bench.gate.turns == [4, 0]


def test_no_more_than_the_limit_are_answered_together(bench: Bench) -> None:
    bench.dispatcher.dispatch([call(bytes([n])) for n in range(5)])
    assert bench.door.together == [2, 2, 1]


def test_queue_for_the_disk_is_bounded(bench: Bench) -> None:
    bodies = [bytes([n]) for n in range(5)]
    bench.dispatcher.dispatch([call(body, "/write") for body in bodies])
    assert [bench.door.status(body) for body in bodies[3:]] == ["UNAVAILABLE"] * 2
    assert "wait for the disk" in bench.door.replies[bodies[3]].message
    bench.later.run()
    assert [bench.door.status(body) for body in bodies[:3]] == ["OK"] * 3
    bench.dispatcher.dispatch([call(b"again", "/write")])
    bench.later.run()
    assert bench.door.status(b"again") == "OK"


def test_write_whose_deadline_passed_in_the_queue_is_not_begun(bench: Bench) -> None:
    end = time.monotonic() + 0.002
    bench.dispatcher.dispatch([call(b"late", "/write", end), call(b"fine", "/write")])
    while time.monotonic() <= end:
        pass
    bench.later.run()
    assert bench.door.status(b"late") == "DEADLINE_EXCEEDED"
    assert bench.door.status(b"fine") == "OK"
    bench.dispatcher.dispatch([call(bytes([n]), "/write") for n in range(3)])
    bench.later.run()
    assert [bench.door.status(bytes([n])) for n in range(3)] == ["OK"] * 3, "all places were given back"


def test_writes_fail_at_once_while_the_disk_fails(bench: Bench) -> None:
    bench.breaker.failed()
    bench.dispatcher.dispatch([call(b"a", "/write"), call(b"x")])
    assert not bench.later.jobs
    assert bench.door.status(b"a") == "UNAVAILABLE"
    assert bench.door.replies[b"a"].message.startswith("StoreError: the disk fails; nothing was written; try again in ")
    assert bench.door.replies[b"x"].body == b"answer x"
    bench.breaker.succeeded()
    bench.dispatcher.dispatch([call(b"b", "/write")])
    bench.later.run()
    assert bench.door.status(b"b") == "OK"
