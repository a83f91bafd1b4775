"""From a batch of calls to their handlers and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any

from google.protobuf.message import DecodeError, Message

from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call, Door, Reply
from headrace.service.method import Method
from headrace.service.status import reply_of


class Dispatcher:
    """What a worker runs: take a batch, group it by method, answer each group.

    methods : what the server offers.
    durable : names of methods that wait for the disk; they run on ``executor``, so that no other call waits for it too.
    pure : names of methods that change nothing; where a batch of them fails unforeseen, each call is tried alone.
    batch_limit : calls that one worker takes at once, at most.
    """

    def __init__(
        self,
        door: Door,
        methods: Iterable[Method],
        *,
        durable: Collection[str],
        pure: Collection[str],
        executor: Executor,
        batch_limit: int,
    ) -> None:
        self._door = door
        self._methods = {method.name: method for method in methods}
        self._durable = frozenset(durable)
        self._pure = frozenset(pure)
        self._executor = executor
        self._batch_limit = batch_limit

    def run(self) -> None:
        """Answer calls until the door is closed."""
        while batch := self._door.next_batch(self._batch_limit):
            self.dispatch(batch)

    def dispatch(self, batch: Sequence[Call]) -> None:
        """Answer each method's calls together; those that wait for the disk elsewhere."""
        groups: dict[str, list[Call]] = {}
        for call in batch:
            groups.setdefault(call.method, []).append(call)
        # the disk can start on the durable ones while this thread answers the rest
        for name in sorted(groups, key=lambda name: name not in self._durable):
            if name in self._durable:
                self._executor.submit(self._answer, self._methods[name], groups[name])
            else:
                self._answer(self._methods[name], groups[name])

    def _answer(self, method: Method, calls: Sequence[Call]) -> None:
        self._door.reply(calls, self._replies(method, calls))

    def _replies(self, method: Method, calls: Sequence[Call]) -> list[Reply]:
        try:
            return answer(method, calls)
        except HeadraceError as error:
            return [reply_of(error)] * len(calls)
        except Exception as error:  # a worker outlives whatever a handler does
            if len(calls) > 1 and method.name in self._pure:
                return [reply for call in calls for reply in self._replies(method, [call])]
            return [reply_of(error)] * len(calls)


def answer(method: Method, calls: Sequence[Call]) -> list[Reply]:
    """Decode, handle and encode the calls of one method; a malformed one fails alone."""
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
