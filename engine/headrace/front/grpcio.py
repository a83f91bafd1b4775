"""The door over grpcio: grpcio's threads take the calls, the workers answer them in batches.

grpcio's threaded server costs a third less CPU a call than its asyncio one does (``benchmarks/bench_door.py``), so each
call in flight holds a thread of grpcio's pool, asleep on a lock until a worker has its answer.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headrace.errors import ConfigError, InvalidRequestError
from headrace.front import Call, Reply, check_replies
from headrace.front.certificates import identities, read_certificates, server_credentials
from headrace.front.gzip import inflated
from headrace.front.health import MAX_WATCHERS
from headrace.front.options import transport_options
from headrace.front.queue import CallQueue
from headrace.front.settings import DoorConfig, TlsConfig
from headrace.front.stream import Stream
from headrace.front.ticket import Ticket

SPARE_THREADS = 64
"""Beyond those of the calls in flight: for health, its watchers, reflection, and to refuse calls."""

STATUS = {code.value[0]: code for code in grpc.StatusCode}

_COUNTED = (
    "accepted",
    "refused_overload",
    "expired_waiting",
    "cancelled_waiting",
    "dropped_replies",
    "malformed",
    "unknown_methods",
    "in_flight",
)


class GrpcioDoor:
    """Takes calls as bytes; serves gRPC health and reflection beside them.

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
        self._tls = tls or TlsConfig()
        self._certificates = read_certificates(self._tls)
        services = sorted({name.split("/")[1] for name in (*methods, *streams)})
        self._health = _Health(services)
        self._queue = CallQueue()
        self._room = config.max_in_flight
        self._lock = threading.Lock()
        self._counts = Counter[str]()
        self._streams: set[Stream] = set()
        self._lost: list[tuple[str, bytes]] = []
        self._draining = False
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._unary(name)) for name in methods}
        handlers |= {name: grpc.stream_stream_rpc_method_handler(self._stream(name)) for name in streams}
        self._server = grpc.server(
            ThreadPoolExecutor(config.max_in_flight + SPARE_THREADS, "headrace-door"),
            handlers=[_Handlers(handlers.get)],
            options=transport_options(config),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if config.reflection:
            own = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
            reflection.enable_server_reflection((*services, *own), self._server)
        self._server.add_generic_rpc_handlers([_Handlers(lambda name: self._count("unknown_methods"))])

    def start(self) -> str:
        """Bind and accept calls; returns the address bound. Raises ConfigError when the address cannot be had."""
        port = 0
        with contextlib.suppress(RuntimeError):
            if self._certificates is None:
                port = self._server.add_insecure_port(self._listen)
            else:
                port = self._server.add_secure_port(self._listen, server_credentials(self._tls, self._certificates))
        if port == 0:
            expected = "an address that this machine has and no other program uses"
            raise ConfigError("server.listen", self._listen, expected)
        self._server.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    def next_batch(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` of those that wait; an empty list once the door is closed."""
        return self._queue.take(limit)

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Answer calls, one reply each, from any thread; returns the positions of those whose caller has gone."""
        check_replies(calls, replies)
        dropped = []
        now = time.monotonic()
        for position, (call, reply) in enumerate(zip(calls, replies, strict=True)):
            ticket: Any = call.ticket
            # the transport has told a caller whose deadline passed, or is about to
            if not ticket.settle(None if call.deadline <= now else reply):
                dropped.append(position)
        if dropped:
            self._count("dropped_replies", len(dropped))
        return dropped

    def set_room(self, calls: int) -> None:
        """Calls that may wait for a worker from now on; one more is refused at once with UNAVAILABLE."""
        self._room = calls

    def take_lost(self) -> list[tuple[str, bytes]]:
        """See `Losing`."""
        with self._lock:
            lost, self._lost = self._lost, []
        return lost

    def stats(self) -> dict[str, int]:
        """What happened to calls since the start, and how many there are now."""
        with self._lock:
            counts = {name: self._counts[name] for name in _COUNTED}
            counts["expired_waiting"] += self._queue.expired
            return {**counts, "open_streams": len(self._streams), "waiting": len(self._queue)}

    def set_serving(self, service: str, serving: bool) -> None:
        """Tell gRPC health what to answer for a service; the empty name is the whole server."""
        self._health.set(service, serving)

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for at most ``grace_s`` seconds, close."""
        self._health.close()
        with self._lock:
            self._draining = True
            leaving = tuple(self._streams)
        for stream in leaving:
            stream.leave()
        self._server.stop(grace_s).wait()
        self._queue.close()

    def _unary(self, method: str) -> Callable[[bytes, Any], bytes]:
        def answer(body: bytes, context: Any) -> bytes:
            self._take_place(context)
            try:
                call = self._call(method, self._inflate(body, context), context, Ticket())
                reply = self._settled(call, context)
            finally:
                self._count("in_flight", -1)
            if reply.status:
                context.abort(STATUS[reply.status], reply.message)
            self._compress(reply.body, context)
            return reply.body

        return answer

    def _settled(self, call: Call, context: Any) -> Reply:
        ticket: Any = call.ticket
        self._enqueue(call)
        # called when the call ends, however it ends
        if not context.add_callback(lambda: self._forget(call)):
            self._forget(call)
        return cast(Reply, ticket.wait())

    def _stream(self, method: str) -> Callable[[Iterator[bytes], Any], Iterator[bytes]]:
        def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            self._take_place(context)

            def receive(body: bytes, ticket: object) -> Call:
                call = self._call(method, self._inflate(body, context), context, ticket)
                self._enqueue(call)
                return call

            def lose(bodies: Sequence[bytes]) -> None:
                with self._lock:
                    self._counts["dropped_replies"] += len(bodies)
                    self._lost += [(method, body) for body in bodies]

            stream = Stream(receive, self._forget, lose, self._config.max_stream_messages)
            with self._lock:
                self._streams.add(stream)
                leaving = self._draining
            if leaving:  # the drain began before this stream was listed
                stream.leave()
            try:
                if not context.add_callback(stream.abandon):
                    stream.abandon()
                for body in stream.answers(requests):
                    self._compress(body, context)
                    yield body
            finally:
                stream.abandon()
                with self._lock:
                    self._streams.discard(stream)
                    self._counts["in_flight"] -= 1
            if stream.status:
                context.abort(STATUS[stream.status], stream.text)

        return answer

    def _take_place(self, context: Any) -> None:
        with self._lock:
            full = self._counts["in_flight"] >= self._config.max_in_flight or len(self._queue) >= self._room
            self._counts["refused_overload" if full else "in_flight"] += 1
        if full:
            context.abort(grpc.StatusCode.UNAVAILABLE, "OverloadedError: too many calls in flight; try again")

    def _call(self, method: str, body: bytes, context: Any, ticket: object) -> Call:
        names = identities(context) if self._certificates else ()
        return Call(
            method, body, _deadline(context), context.peer(), _metadata(context), ticket, time.monotonic(), names
        )

    def _enqueue(self, call: Call) -> None:
        self._count("accepted")
        self._queue.add(call)

    def _forget(self, call: Call) -> None:
        """The caller of a call has gone, or has its answer."""
        ticket: Any = call.ticket
        if not ticket.settled:
            if self._queue.remove(ticket):
                self._count("expired_waiting" if call.deadline <= time.monotonic() else "cancelled_waiting")
            ticket.settle(None)

    def _inflate(self, body: bytes, context: Any) -> bytes:
        try:
            return inflated(body, self._config.max_message_bytes)
        except InvalidRequestError as error:
            code, text = grpc.StatusCode.INVALID_ARGUMENT, f"InvalidRequestError: {error}"
        except OverflowError:
            code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, "the message is larger than max_message_bytes"
        self._count("malformed")
        context.abort(code, text)
        raise AssertionError("abort raises")

    def _compress(self, body: bytes, context: Any) -> None:
        least = self._config.compress_above_bytes
        if least and len(body) <= least:
            context.disable_next_message_compression()

    def _count(self, name: str, n: int = 1) -> None:
        with self._lock:
            self._counts[name] += n


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds what answers a method by its name; what finds nothing falls through, at last to UNIMPLEMENTED."""

    def __init__(self, find: Callable[[str], Any]) -> None:
        self._find = find

    def service(self, handler_call_details: Any) -> Any:
        return self._find(handler_call_details.method)


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
