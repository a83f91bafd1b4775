"""From a batch of calls to their handlers and back."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf.message import DecodeError, Message

from headrace.errors import DeadlineError, HeadraceError, InvalidRequestError, NotFoundError, OverloadedError
from headrace.front import Call, Door, Reply
from headrace.service.access import TENANT, Access, OpenAccess, Principal
from headrace.service.admission import Admission, AdmitAll
from headrace.service.method import Method
from headrace.service.observer import Observer, Silent
from headrace.service.status import reply_of


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
    batch_limit : calls that one worker takes at once, at most.
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
        gates: Gates | None = None,
    ) -> None:
        self._door = door
        self._methods = {(tenant, method.name): method for tenant, methods in tenants.items() for method in methods}
        self._durable = frozenset(durable)
        self._pure = frozenset(pure)
        self._executor = executor
        self._batch_limit = batch_limit
        self._gates = gates or Gates()

    def run(self) -> None:
        """Answer calls until the door is closed."""
        while batch := self._door.next_batch(self._batch_limit):
            self.dispatch(batch)

    def dispatch(self, batch: Sequence[Call]) -> None:
        """Answer each tenant's calls of a method together; those that wait for the disk elsewhere."""
        groups: dict[tuple[str, str], list[Call]] = {}
        now = time.monotonic()
        for call in batch:
            principal = self._let_in(call, now)
            if principal is not None:
                key = principal.tenant, call.method
                named = replace(call, caller=principal.name) if self._methods[key].audited else call
                groups.setdefault(key, []).append(named)
        # the disk can start on the durable ones while this thread answers the rest
        for key in sorted(groups, key=lambda key: key[1] not in self._durable):
            if key[1] in self._durable:
                self._executor.submit(self._answer, key[0], self._methods[key], groups[key])
            else:
                self._answer(key[0], self._methods[key], groups[key])

    def _let_in(self, call: Call, now: float) -> Principal | None:
        """Who makes the call; None when it was refused."""
        gates, tenant = self._gates, ""
        try:
            principal = gates.access.admit(call)
            tenant = principal.tenant
            if (tenant, call.method) not in self._methods:
                hint = f"say which in the metadata {TENANT}"
                raise NotFoundError("tenant", tenant, "one that this server serves", hint)
            refusal = gates.admission.refusal(call, principal, now)
            if refusal is None:
                return principal
        except HeadraceError as error:
            refusal = error
        except Exception as error:  # a worker outlives whatever a gate does; nobody slips through
            self._door.reply([call], [reply_of(error)])
            return None
        gates.observer.refused(call, tenant, refusal)
        self._refuse(call, tenant, refusal)
        return None

    def _refuse(self, call: Call, tenant: str, refusal: HeadraceError) -> None:
        method = self._methods.get((tenant, call.method))
        if method is None or method.shed is None or not isinstance(refusal, (OverloadedError, DeadlineError)):
            self._door.reply([call], [reply_of(refusal)])
        else:
            self._door.reply([call], [_wire(answer) for answer in method.shed([call])])

    def _answer(self, tenant: str, method: Method, calls: Sequence[Call]) -> None:
        started = time.monotonic()
        replies = self._replies(method, calls)
        dropped = self._door.reply(calls, replies)
        ended = time.monotonic()
        if dropped and method.take_back is not None:
            lost = [i for i in dropped if not replies[i].status]
            method.take_back([calls[i] for i in lost], [replies[i].body for i in lost])
        self._gates.admission.answered(method.name, len(calls), ended - started)
        self._gates.observer.answered(method.name, tenant, calls, replies, started, ended)

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
    if method.answer is not None:
        return [_wire(each) for each in method.answer(calls)]
    assert method.handle is not None
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


def _wire(answered: bytes | HeadraceError) -> Reply:
    return reply_of(answered) if isinstance(answered, HeadraceError) else Reply(answered)
