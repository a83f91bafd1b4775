"""From a batch of calls to their handlers and back."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError, Message

from headrace.errors import (
    DeadlineError,
    HeadraceError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    ServerError,
    StoreError,
)
from headrace.front import Call, Door, Losing, Narrowing, Reply, check_replies
from headrace.service.access import TENANT, Access, OpenAccess
from headrace.service.admission import DISK_BUSY, EXPIRED, NEXT_TURN, UNBOUNDED, Admission, AdmitAll, Room, Turn
from headrace.service.method import Method
from headrace.service.observer import Observer, Silent
from headrace.service.status import reply_of
from headrace.telemetry.traceparent import trace_id_of

_log = logging.getLogger("headrace.service")

_Key = tuple[str, str]
"""Tenant and method."""

_Refused = tuple[Call, str, Exception]
"""A call, its tenant, and why it is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What every call passes: who it is from, whether there is room for it, and who hears of it."""

    access: Access = field(default_factory=OpenAccess)
    admission: Admission = field(default_factory=AdmitAll)
    observer: Observer = field(default_factory=Silent)


class Dispatcher:
    """What a worker runs: take a batch, let each call through the gates, answer each tenant's and method's together.

    tenants : what each tenant is offered; the empty name where there is one tenant only.
    durable : names of methods that wait for the disk; they run on ``executor``, so that no other call waits for it too.
    pure : names of methods that change nothing; where a batch of them fails unforeseen, each call is tried alone.
    batch_limit : calls of a method that are answered together, at most.
    durable_queue : calls that wait for the disk or for ``executor``, at most.
    """

    def __init__(
        self,
        door: Door,
        tenants: Mapping[str, Iterable[Method]],
        *,
        durable: Collection[str],
        pure: Collection[str],
        executor: Executor,
        batch_limit: int,
        durable_queue: int,
        gates: Gates | None = None,
    ) -> None:
        self._door = door
        self._methods = {(tenant, method.name): method for tenant, methods in tenants.items() for method in methods}
        self._durable = frozenset(durable)
        self._pure = frozenset(pure)
        self._executor = executor
        self._batch_limit = batch_limit
        self._room = Room(durable_queue)
        self._waiting = UNBOUNDED
        self._gates = gates or Gates()

    def run(self) -> None:
        """Answer calls until the door is closed."""
        admission, door = self._gates.admission, self._door
        narrowing = door if isinstance(door, Narrowing) else None
        losing = door if isinstance(door, Losing) else None
        while batch := door.next_batch(admission.limit(self._batch_limit)):
            if losing is not None:
                self._take_back_lost(losing)  # ahead of the batch, which may need the money
            self.dispatch(batch)
            if narrowing is not None and admission.room() != self._waiting:
                self._waiting = admission.room()
                narrowing.set_room(self._waiting)
        if losing is not None:
            self._take_back_lost(losing)

    def dispatch(self, batch: Sequence[Call]) -> None:
        """Answer each tenant's calls of a method together; those that wait for the disk elsewhere."""
        n_done = 0
        while n_done < len(batch):
            n_done += self._take_turn(batch[n_done:], 0 if n_done else len(batch))

    def _take_turn(self, batch: Sequence[Call], n_new: int) -> int:
        """Answer the first so many that each of them is in time, and return how many that were; at least one."""
        groups: dict[_Key, list[Call]] = {}
        refused: list[_Refused] = []
        n_done = 0
        turn = self._gates.admission.turn(time.monotonic(), n_new)
        for call in batch:
            key, error = self._let_in(call, turn)
            if error is NEXT_TURN:
                break
            n_done += 1
            if error is not None:
                refused.append((call, key[0], error))
            elif (group := groups.get(key)) is not None:
                group.append(call)
            else:
                groups[key] = [call]
        # the disk can start on the durable ones while this thread answers the rest
        for key in [key for key in groups if key[1] in self._durable]:
            refused += self._queue(key, groups.pop(key))
        if refused:
            self._refuse(refused)
        for key, calls in groups.items():
            for first in range(0, len(calls), self._batch_limit):
                self._answer(key, calls[first : first + self._batch_limit])
        return n_done

    def _let_in(self, call: Call, turn: Turn) -> tuple[_Key, Exception | None]:
        """The call's tenant and method; why it is refused if it is."""
        key = ("", call.method)
        try:
            principal = self._gates.access.admit(call)
            asked = (principal.tenant, key[1]) if principal.tenant else key
            method = self._methods.get(asked)
            if method is None:  # counted under no name: strangers may make up as many tenants as they like
                hint = f"say which in the metadata {TENANT}"
                raise NotFoundError("tenant", principal.tenant, "one that this server serves", hint)
            key = asked
            error = turn.refusal(call, principal)
            if method.audited and error is None:
                call.caller = principal.name
            return key, error
        except Exception as error:  # a worker outlives whatever a gate does; nobody slips through
            return key, error

    def _queue(self, key: _Key, calls: Sequence[Call]) -> list[_Refused]:
        """Let calls wait for the disk as far as there is room; returns the others."""
        breaker = self._methods[key].breaker
        if breaker is not None and (wait_s := breaker.wait_s()):
            error: HeadraceError = StoreError(
                "the disk fails", hint=f"nothing was written; try again in {wait_s:.1f} s"
            )
            return [(call, key[0], error) for call in calls]
        room = self._room.take(len(calls))
        if room:
            self._executor.submit(self._answer_durable, key, calls[:room])
        return [(call, key[0], DISK_BUSY) for call in calls[room:]]

    def _answer_durable(self, key: _Key, calls: Sequence[Call]) -> None:
        try:
            now = time.monotonic()
            expired = [(call, key[0], EXPIRED) for call in calls if call.deadline <= now]
            timely = [call for call in calls if call.deadline > now]
            if expired:
                self._refuse(expired)
            if timely:
                self._answer(key, timely)
        finally:
            self._room.give(len(calls))

    def _refuse(self, refused: Sequence[_Refused]) -> None:
        """Answer those that could not be let in: together where their method has a cheap answer for them."""
        shed: dict[_Key, list[Call]] = {}
        calls, replies = [], []
        for call, tenant, error in refused:
            key = (tenant, call.method)
            reason = error if isinstance(error, HeadraceError) else ServerError("a gate failed")
            self._gates.observer.refused(call, tenant, reason)
            if _sheds(self._methods.get(key), error):
                shed.setdefault(key, []).append(call)
            else:
                calls.append(call)
                known = isinstance(error, HeadraceError)
                replies.append(reply_of(error) if known else reply_of(error, **_context(tenant, [call])))
        if calls:
            self._send(calls, replies)
        for key, some in shed.items():
            self._shed(self._methods[key], some)

    def _shed(self, method: Method, calls: Sequence[Call]) -> None:
        assert method.shed is not None
        try:
            replies = [_wire(each) for each in method.shed(calls)]
        except Exception as error:  # a worker outlives whatever a handler does
            replies = [reply_of(error)] * len(calls)
        self._send(calls, replies)

    def _answer(self, key: _Key, calls: Sequence[Call]) -> None:
        tenant, method = key[0], self._methods[key]
        started = time.monotonic()
        replies = self._replies(tenant, method, calls)
        dropped = self._send(calls, replies)
        ended = time.monotonic()
        lost = [i for i in dropped if not replies[i].status]
        if lost and method.take_back is not None:
            self._take_back(method, [calls[i] for i in lost], [replies[i].body for i in lost])
        self._gates.admission.answered(method.name, len(calls), ended - started, ended)
        self._gates.observer.answered(method.name, tenant, calls, replies, started, ended)

    def _take_back_lost(self, door: Losing) -> None:
        """What answers promised that waited in a stream when it broke. Each tenant's method knows its own."""
        for name, body in door.take_lost():
            for method in [method for (_, named), method in self._methods.items() if named == name]:
                if method.take_back is not None:
                    self._take_back(method, [], [body])

    def _take_back(self, method: Method, calls: Sequence[Call], bodies: Sequence[bytes]) -> None:
        assert method.take_back is not None
        try:
            method.take_back(calls, bodies)
        except Exception:  # a worker outlives whatever a handler does
            _log.exception("answers of %s that nobody got could not be taken back", method.name)

    def _send(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Positions of answers that nobody gets."""
        try:
            return self._door.reply(calls, replies)
        except Exception as error:  # a worker outlives it; whoever promised something in these answers hears of it
            self._door.reply(calls, [reply_of(error, method=calls[0].method)] * len(calls))
            return list(range(len(replies)))

    def _replies(self, tenant: str, method: Method, calls: Sequence[Call]) -> list[Reply]:
        try:
            return answer(method, calls)
        except HeadraceError as error:
            return [reply_of(error)] * len(calls)
        except Exception as error:  # a worker outlives whatever a handler does
            if len(calls) > 1 and method.name in self._pure:
                return [reply for call in calls for reply in self._replies(tenant, method, [call])]
            return [reply_of(error, **_context(tenant, calls))] * len(calls)


def _context(tenant: str, calls: Sequence[Call]) -> dict[str, str]:
    """What the log says of calls that failed together; their traces, where callers named them."""
    traces = ",".join(filter(None, map(trace_id_of, calls)))
    return {"tenant": tenant, "method": calls[0].method} | ({"trace_id": traces} if traces else {})


def _sheds(method: Method | None, error: Exception) -> bool:
    """Whether a refused call gets its method's cheap answer in place of the refusal's status."""
    if method is None or method.shed is None or (error is EXPIRED and not method.late):
        return False
    # who asks too often must learn of it; but a status would end the stream that carries all its other requests
    if isinstance(error, RateLimitError):
        return method.stream
    return isinstance(error, (OverloadedError, DeadlineError))


def answer(method: Method, calls: Sequence[Call]) -> list[Reply]:
    """Decode, handle and encode the calls of one method; a malformed one fails alone."""
    if method.answer is not None:
        answers = method.answer(calls)
        check_replies(calls, answers)
        return [_wire(each) for each in answers]
    assert method.handle is not None
    assert method.request is not None
    requests = [_parse(method.request, call.body) for call in calls]
    good = [i for i, request in enumerate(requests) if isinstance(request, Message)]
    replies = [reply_of(request) if isinstance(request, HeadraceError) else Reply() for request in requests]
    if good:
        answers = method.handle([requests[i] for i in good], [calls[i] for i in good])
        for i, response in zip(good, answers, strict=True):
            replies[i] = _encode(response)
    return replies


def _parse(request: type[Message], body: bytes) -> Message | HeadraceError:
    try:
        return request.FromString(body)
    except DecodeError:
        return InvalidRequestError(f"the request is no {request.DESCRIPTOR.full_name} message")


def _encode(response: Any) -> Reply:
    if isinstance(response, HeadraceError):
        return reply_of(response)
    return Reply(response.SerializeToString())


def _wire(answered: bytes | Reply | HeadraceError) -> Reply:
    if isinstance(answered, Reply):
        return answered
    return reply_of(answered) if isinstance(answered, HeadraceError) else Reply(answered)
