"""BidderService.ReportActions, and the same as JSON over HTTP: which impressions led to purchases."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from google.protobuf.json_format import MessageToJson, Parse, ParseError
from google.protobuf.message import Message

from headrace.bidding.actions import Actions, name_of
from headrace.bidding.validation import check_micros
from headrace.clock import Clock
from headrace.decisions.batch import Action
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call, Reply
from headrace.front.routes import Route
from headrace.service.checks import check_count, check_range, check_text, within
from headrace.service.method import Method
from headrace.v1 import bidder_pb2 as pb

PATH = "/v1/actions"
"""Method and path over HTTP; with tenants ``/v1/<tenant>/actions``."""

MAX_ACTIONS = 1000
MAX_ACTION_ID_BYTES = 128
MAX_TOKEN_BYTES = 256
MAX_COUNT = 10_000
MAX_AHEAD_MS = 86_400_000


def action_routes() -> list[Route]:
    """Where actions come in, for one tenant and for several."""
    return [Route("POST", path, PATH, "application/json") for path in (PATH, "/v1/{tenant}/actions")]


class ActionsService:
    """Takes in actions; the calls that are answered together are one commit."""

    def __init__(self, actions: Actions, clock: Clock) -> None:
        self._actions, self._clock = actions, clock

    def methods(self) -> list[Method]:
        """The RPC."""
        return [Method("/headrace.v1.BidderService/ReportActions", pb.ReportActionsRequest, self.report)]

    def http_methods(self) -> list[Method]:
        """The same over HTTP."""
        return [Method(PATH, answer=self.report_json)]

    def report(self, requests: Sequence[Any], _calls: Sequence[Call] = ()) -> list[Message | HeadraceError]:
        """Take in the actions of n requests; a wrong request is refused whole, the others are not touched by that."""
        now_ms = self._clock()
        read = [_read(request, now_ms) for request in requests]
        good = [each for each in read if not isinstance(each, HeadraceError)]
        outcomes = iter(self._actions.report(list(chain.from_iterable(good))).tolist() if good else ())
        return [
            each
            if isinstance(each, HeadraceError)
            else pb.ReportActionsResponse(outcomes=[pb.ActionOutcome.ValueType(next(outcomes)) for _ in each])
            for each in read
        ]

    def report_json(self, calls: Sequence[Call]) -> list[Reply | HeadraceError]:
        """See `report`; bodies and answers are the messages as JSON (proto3's mapping)."""
        parsed = [_parsed(call.body) for call in calls]
        answers = iter(self.report([each for each in parsed if isinstance(each, Message)]))
        replied = (next(answers) if isinstance(each, Message) else each for each in parsed)
        return [answer if isinstance(answer, HeadraceError) else Reply(_json(answer)) for answer in replied]


def _parsed(body: bytes) -> Message | HeadraceError:
    try:
        return Parse(body, pb.ReportActionsRequest())
    except (ParseError, RecursionError, UnicodeError) as error:
        return InvalidRequestError("the body is no headrace.v1.ReportActionsRequest as JSON", hint=str(error)[:200])


def _json(answer: Message) -> bytes:
    text: str = MessageToJson(answer, indent=None)
    return text.encode()


def _read(request: pb.ReportActionsRequest, now_ms: int) -> list[Action] | HeadraceError:
    try:
        check_count("actions", request.actions, 1, MAX_ACTIONS)
        return [_action(action, index, now_ms) for index, action in enumerate(request.actions)]
    except HeadraceError as error:
        return error


def _action(action: pb.Action, index: int, now_ms: int) -> Action:
    try:
        check_text("action_id", action.action_id, MAX_ACTION_ID_BYTES, required=True)
        check_text("token", action.token, MAX_TOKEN_BYTES, required=True)
        latest = now_ms + MAX_AHEAD_MS
        check_range("time_ms", action.time_ms, 0, latest, "send ms since 1970 UTC, at most a day ahead")
        check_range("count", action.count, 0, MAX_COUNT, "report it in parts, each with an id of its own")
        check_micros("worth_micros", action.worth_micros)
    except InvalidRequestError as error:
        raise within(f"actions[{index}]", error) from None
    count = action.count or 1
    time_ms, signed = action.time_ms or now_ms, -count if action.retraction else count
    return Action(name_of(action.action_id), action.token, time_ms, signed, action.worth_micros)
