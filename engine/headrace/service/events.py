"""headrace.v1.EventsService: what people did, into the log and at once into the state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future

from headrace.errors import HeadraceError, InvalidRequestError
from headrace.events.identity import subject_name
from headrace.events.log import Appended, NewEvent
from headrace.events.schema import LOGIN, TYPE_NAMES
from headrace.front import Call
from headrace.recommend.recommender import Recommender
from headrace.service.checks import MAX_ID_BYTES, MAX_LABEL_BYTES, check_count, check_range, check_text, within
from headrace.service.method import Method
from headrace.v1 import events_pb2 as pb

MAX_EVENTS = 1000
MAX_EVENT_ID_BYTES = 128
MAX_AHEAD_MS = 86_400_000
_MAX_PRICE_MICROS = (1 << 63) - 1

Waiting = Future[Appended] | HeadraceError


class EventsService:
    """RecordEvents and ErasePerson; both answer after the commit, once this process uses what was said."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._log = recommender.log

    def methods(self) -> list[Method]:
        """What the server offers of this service."""
        prefix = "/headrace.v1.EventsService/"
        return [
            Method(prefix + "RecordEvents", pb.RecordEventsRequest, self.record_events),
            Method(prefix + "ErasePerson", pb.ErasePersonRequest, self.erase_person),
        ]

    def record_events(
        self, requests: Sequence[pb.RecordEventsRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.RecordEventsResponse | HeadraceError]:
        """Store each request's events, all or none, in one commit for the batch."""
        now_ms = self._recommender.clock_ms()
        waiting = [self._submit(request, now_ms) for request in requests]
        results = [_wait(each) for each in waiting]
        if any(isinstance(result, Appended) for result in results):
            self._recommender.catch_up()
        return [
            pb.RecordEventsResponse(sequence=result.sequence, accepted=result.accepted, duplicates=result.duplicates)
            if isinstance(result, Appended)
            else result
            for result in results
        ]

    def erase_person(
        self, requests: Sequence[pb.ErasePersonRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.ErasePersonResponse | HeadraceError]:
        """Forget the person of each request."""
        return [self._erase(request) for request in requests]

    def _submit(self, request: pb.RecordEventsRequest, now_ms: int) -> Waiting:
        try:
            check_count("events", request.events, 1, MAX_EVENTS)
            events = [_event(event, index, now_ms) for index, event in enumerate(request.events)]
            return self._log.append_async(events)
        except HeadraceError as error:
            return error

    def _erase(self, request: pb.ErasePersonRequest) -> pb.ErasePersonResponse | HeadraceError:
        try:
            check_text("user_id", request.user_id, MAX_ID_BYTES)
            check_text("anonymous_id", request.anonymous_id, MAX_ID_BYTES)
            if bool(request.user_id) == bool(request.anonymous_id):
                got = "both" if request.user_id else "neither"
                raise InvalidRequestError(
                    "user_id or anonymous_id", got, "just one of the two", "erase each id in a call of its own"
                )
            name = subject_name(request.user_id, request.anonymous_id)
            known = self._recommender.model.users.knows(name)
            erased = self._log.erase(name, self._recommender.clock_ms(), even_unknown=known)
            self._recommender.catch_up()
        except HeadraceError as error:
            return error
        return pb.ErasePersonResponse(erased=erased or known)


def _wait(waiting: Waiting) -> Appended | HeadraceError:
    if isinstance(waiting, HeadraceError):
        return waiting
    try:
        return waiting.result()
    except HeadraceError as error:
        return error


def _event(event: pb.Event, index: int, now_ms: int) -> NewEvent:
    try:
        _check(event, now_ms)
    except InvalidRequestError as error:
        raise within(f"events[{index}]", error) from None
    return NewEvent(
        event_id=event.event_id,
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        type=event.type,
        item_id=event.item_id,
        time_ms=event.time_ms,
        quantity=event.quantity if event.HasField("quantity") else 1.0,
        price_micros=event.price_micros,
        channel=event.channel,
        request_id=event.request_id,
        position=event.position if event.HasField("position") else -1,
    )


def _check(event: pb.Event, now_ms: int) -> None:
    check_text("event_id", event.event_id, MAX_EVENT_ID_BYTES, required=True)
    check_text("user_id", event.user_id, MAX_ID_BYTES)
    check_text("anonymous_id", event.anonymous_id, MAX_ID_BYTES)
    if event.type not in TYPE_NAMES:
        expected = f"one of {', '.join(pb.EventType.keys()[1:])}"
        raise InvalidRequestError("type", event.type, expected, "say what the person did")
    if event.type == LOGIN:
        check_text("user_id", event.user_id, MAX_ID_BYTES, required=True)
        check_text("anonymous_id", event.anonymous_id, MAX_ID_BYTES, required=True)
        if event.item_id:
            raise InvalidRequestError("item_id", event.item_id, "nothing for a LOGIN", "leave it out")
    else:
        check_text("item_id", event.item_id, MAX_ID_BYTES, required=True)
        if not event.user_id and not event.anonymous_id:
            raise InvalidRequestError("user_id", "", "a user_id or an anonymous_id", "say who did it")
    check_range("time_ms", event.time_ms, 1, now_ms + MAX_AHEAD_MS, "send ms since 1970 UTC, at most a day ahead")
    if event.HasField("quantity") and not (math.isfinite(event.quantity) and event.quantity >= 0):
        hint = "a return is an event of type RETURN with a positive quantity"
        raise InvalidRequestError("quantity", event.quantity, "a finite number, zero or more", hint)
    check_range("price_micros", event.price_micros, 0, _MAX_PRICE_MICROS, "leave it out when not known")
    check_text("channel", event.channel, MAX_LABEL_BYTES)
    check_text("request_id", event.request_id, MAX_LABEL_BYTES)
