"""Logs: one event a line, with what an operator needs and nothing that is nobody's business."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Literal

import pytest

from headrace.errors import OverloadedError
from headrace.front import Call, Reply
from headrace.service.dispatch import Dispatcher
from headrace.service.method import Method
from headrace.telemetry.logs import AccessLog, configure_logs, set_level
from headrace.v1 import recommender_pb2

METHOD = "/headrace.v1.RecommenderService/Recommend"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECRET = "hr_abc_SuperSecret"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Sends logs to a text in memory until the end of the test."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def configure(
        log_format: Literal["auto", "json", "text"] = "auto", level: str = "info", stream: io.StringIO | None = None
    ) -> io.StringIO:
        out = stream or io.StringIO()
        configure_logs(log_format, level, out)
        return out

    yield configure
    root.handlers[:] = before
    root.setLevel(level)


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def call(user: str = "ann", **metadata: str) -> Call:
    body = recommender_pb2.RecommendRequest(user_id=user).SerializeToString()
    return Call(METHOD, body, float("inf"), "10.0.0.1:99", metadata, None, 1.0)


class OneDoor:
    """Takes replies."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []

    def reply(self, calls: Any, replies: Any) -> list[int]:
        self.replies += replies
        return []


class AtOnce:
    """An executor without threads."""

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        function(*arguments)
        return Future()


def dispatch(calls: list[Call], tenant: str = "") -> list[Reply]:
    def fail(requests: Any, calls: Any) -> Any:
        raise ZeroDivisionError("a bug")

    door = OneDoor()
    method = Method(METHOD, recommender_pb2.RecommendRequest, fail)
    dispatcher = Dispatcher(
        door,  # type: ignore[arg-type]
        {tenant: [method]},
        durable=(),
        pure={METHOD},
        executor=AtOnce(),  # type: ignore[arg-type]
        batch_limit=8,
        durable_queue=8,
    )
    dispatcher.dispatch(calls)
    return door.replies


def test_an_internal_error_can_be_found_by_its_request_id(configure: Configure) -> None:
    out = configure()
    metadata = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "authorization": f"Bearer {SECRET}"}
    (reply,) = dispatch([call("a person's name", **metadata)])
    (event,) = events(out)
    assert event["message"] == f"request {event['request_id']} failed"
    assert event["request_id"] in reply.message
    assert (event["level"], event["logger"]) == ("error", "headrace.service")
    assert (event["tenant"], event["method"], event["trace_id"]) == ("", METHOD, TRACE)
    assert "ZeroDivisionError: a bug" in event["exception"]
    for hidden in (SECRET, "a person's name", "authorization"):
        assert hidden not in out.getvalue()
        assert hidden not in reply.message


def test_each_failed_call_has_a_line_of_its_own(configure: Configure) -> None:
    out = configure()
    replies = dispatch([call(), call()])
    ids = [event["request_id"] for event in events(out)][-2:]
    assert all(one in reply.message for one, reply in zip(ids, replies, strict=True))


def test_a_terminal_gets_text_and_everything_else_json(configure: Configure) -> None:
    shown = configure(stream=Terminal())
    logging.getLogger("headrace").warning("the disk is %s", "full", extra={"tenant": "tea"})
    assert "the disk is full" in shown.getvalue()
    assert "tea" in shown.getvalue()
    assert not shown.getvalue().startswith("{")
    lines = configure()
    logging.getLogger("headrace").warning("the disk is %s", "full", extra={"tenant": "tea"})
    (event,) = events(lines)
    assert event["message"] == "the disk is full"
    assert event["tenant"] == "tea"
    assert event["timestamp"].endswith("Z")


def test_what_a_sender_writes_cannot_make_a_line(configure: Configure) -> None:
    out = configure()
    logging.getLogger("headrace").info("hello %s", 'x\n{"level": "error", "message": "forged"}')
    assert len(events(out)) == 1


def test_a_traceback_on_a_terminal_shows_no_values(configure: Configure) -> None:
    out = configure(stream=Terminal())
    dispatch([call(authorization=f"Bearer {SECRET}")])
    assert "ZeroDivisionError" in out.getvalue()
    assert SECRET not in out.getvalue()


def test_the_level_may_change(configure: Configure) -> None:
    out = configure(level="warning")
    log = logging.getLogger("some.library")
    log.info("no")
    set_level("debug")
    log.debug("yes")
    assert [event["message"] for event in events(out)] == ["yes"]


def test_an_access_log_tells_of_a_share_of_calls(configure: Configure) -> None:
    out, chances = configure(), iter([0.0, 0.9, 0.0])
    access = AccessLog(0.5, chance=lambda: next(chances))
    access.answered(METHOD, "tea", [call(), call()], [Reply(), Reply(status=3)], 1.5, 1.75)
    access.refused(call(), "tea", OverloadedError("full"))
    answered, refused = events(out)
    assert answered["message"] == "answered"
    assert (answered["status"], answered["batch_calls"], answered["waited_s"], answered["worked_s"]) == (
        "OK",
        2,
        0.5,
        0.25,
    )
    assert (refused["message"], refused["reason"], refused["tenant"]) == ("refused", "overload", "tea")
    assert "ann" not in out.getvalue()
