"""The door over grpcio: grpcio's threads take the calls, the workers answer them in batches.

grpcio's threaded server costs a third less CPU a call than its asyncio one does (``benchmarks/bench_door.py``), so each
call in flight holds a thread of grpcio's pool, asleep on a lock until a worker has its answer.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headrace.errors import ConfigError
from headrace.front import Call, Reply
from headrace.front.settings import DoorConfig, TlsConfig

SPARE_THREADS = 64
"""Beyond those of the calls in flight: for health, its watchers, reflection, and to refuse calls."""

MAX_WATCHERS = 32

_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_Answer = Callable[[bytes, Any], bytes]


class GrpcioDoor:
    """Takes unary calls as bytes; serves gRPC health and reflection beside them.

    A call that is cancelled or past its deadline while it waits leaves the queue and costs no worker anything.
    """

    def __init__(
        self,
        methods: Iterable[str],
        listen: str,
        config: DoorConfig,
        streams: Collection[str] = (),
        tls: TlsConfig | None = None,
    ) -> None:
        methods = tuple(methods)
        self._listen = listen
        self._config = config
        services = sorted({name.split("/")[1] for name in methods})
        self._health = _Health(services)
        # keyed by the ticket, so that a cancelled call is taken out in O(1)
        self._waiting: OrderedDict[object, Call] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())
        self._in_flight = 0
        self._closed = False
        self._server = grpc.server(
            ThreadPoolExecutor(config.max_in_flight + SPARE_THREADS, "headrace-door"),
            handlers=[_Unary(methods, self._answer)],
            options=_options(config),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            own = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
            reflection.enable_server_reflection((*services, *own), self._server)

    def start(self) -> str:
        """Bind and accept calls; returns the address bound. Raises ConfigError when the address cannot be had."""
        port = 0
        with contextlib.suppress(RuntimeError):
            port = self._server.add_insecure_port(self._listen)
        if port == 0:
            expected = "an address that this machine has and no other program uses"
            raise ConfigError("server.listen", self._listen, expected)
        self._server.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    def next_batch(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` of those that wait; an empty list once the door is closed."""
        with self._changed:
            while True:
                batch = self._take(limit)
                if self._waiting:
                    self._changed.notify()
                if batch or self._closed:
                    return batch
                self._changed.wait()

    def _take(self, limit: int) -> list[Call]:
        batch: list[Call] = []
        now = time.monotonic()
        while self._waiting and len(batch) < limit:
            _, call = self._waiting.popitem(last=False)
            if call.deadline > now:
                batch.append(call)
        return batch

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Answer calls, one reply each, from any thread; returns the positions of those whose caller has gone."""
        dropped = []
        for position, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            ticket: Any = call.ticket
            if not ticket.settle(reply):
                dropped.append(position)
        return dropped

    def set_serving(self, service: str, serving: bool) -> None:
        """Tell gRPC health what to answer for a service; the empty name is the whole server."""
        self._health.set(service, serving)

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for at most ``grace_s`` seconds, close."""
        self._health.close()
        self._server.stop(grace_s).wait()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _answer(self, method: str) -> _Answer:
        def answer(body: bytes, context: Any) -> bytes:
            ticket = _Ticket()
            call = Call(method, body, _deadline(context), context.peer(), _metadata(context), ticket, time.monotonic())
            if not self._enqueue(call):
                context.abort(grpc.StatusCode.UNAVAILABLE, "OverloadedError: too many calls in flight; try again")
            # called when the call ends, however it ends
            if not context.add_callback(lambda: self._forget(ticket)):
                self._forget(ticket)
            reply = ticket.wait()
            with self._changed:
                self._in_flight -= 1
            if reply.status:
                context.abort(_STATUS[reply.status], reply.message)
            return reply.body

        return answer

    def _enqueue(self, call: Call) -> bool:
        with self._changed:
            if self._in_flight >= self._config.max_in_flight:
                return False
            self._in_flight += 1
            # one wake-up for a burst: whoever wakes takes all of it, and passes on what is beyond its limit
            if not self._waiting:
                self._changed.notify()
            self._waiting[call.ticket] = call
            return True

    def _forget(self, ticket: _Ticket) -> None:
        if not ticket.settled:
            with self._changed:
                self._waiting.pop(ticket, None)
            ticket.settle(Reply())


class _Ticket:
    """Where the thread of one call sleeps until its reply is there; the first reply counts."""

    __slots__ = ("_lock", "_reply", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._reply = Reply()
        # a bare lock: an Event costs three times as much
        self._lock = threading.Lock()
        self._lock.acquire()

    def settle(self, reply: Reply) -> bool:
        """Whether this was the first reply."""
        if self.settled:
            return False
        self.settled = True
        self._reply = reply
        # two settlers at one moment: the later finds the lock released
        try:
            self._lock.release()
        except RuntimeError:
            return False
        return True

    def wait(self) -> Reply:
        self._lock.acquire()
        return self._reply


class _Unary(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Our methods, bytes in and bytes out; any other falls through to UNIMPLEMENTED."""

    def __init__(self, methods: Iterable[str], answer: Callable[[str], _Answer]) -> None:
        self._handlers = {name: grpc.unary_unary_rpc_method_handler(answer(name)) for name in methods}

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """grpc.health.v1: watchers hear every change, and their streams end by themselves when the door closes."""

    def __init__(self, services: Iterable[str]) -> None:
        self._serving = dict.fromkeys(("", *services), False)
        self._changed = threading.Condition()
        self._closing = False
        self._watchers = 0

    def set(self, service: str, serving: bool) -> None:
        with self._changed:
            if not self._closing:
                self._serving[service] = serving
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._serving = dict.fromkeys(self._serving, False)
            self._closing = True
            self._changed.notify_all()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        kinds = health_pb2.HealthCheckResponse
        if service not in self._serving:
            return kinds.SERVICE_UNKNOWN
        return kinds.SERVING if self._serving[service] else kinds.NOT_SERVING

    def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802 (gRPC's name)
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=status)

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 (gRPC's name)
        with self._changed:
            if self._watchers >= MAX_WATCHERS:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} watch already")
            self._watchers += 1
        try:
            context.add_callback(self._wake)
            yield from self._changes(request.service, context)
        finally:
            with self._changed:
                self._watchers -= 1

    def _changes(self, service: str, context: Any) -> Iterator[Any]:
        said = None
        while context.is_active():
            with self._changed:
                status, closing = self._status(service), self._closing
                if status == said and not closing:
                    self._changed.wait()
                    continue
            if status != said:
                yield health_pb2.HealthCheckResponse(status=status)
                said = status
            if closing:
                return

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _deadline(context: Any) -> float:
    remaining = context.time_remaining()
    # grpcio counts centuries where the caller set no deadline
    return math.inf if remaining is None or remaining > 1e9 else time.monotonic() + remaining


def _metadata(context: Any) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() if not key.endswith("-bin")}


def _options(config: DoorConfig) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # a new version of the server may bind the same port while the old one drains
        ("grpc.so_reuseport", 1),
        ("grpc.keepalive_time_ms", int(config.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(config.keepalive_timeout_s * 1000)),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
