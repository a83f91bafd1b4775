"""The door over grpcio: one asyncio loop on a thread of its own, batches to the workers."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Future as ThreadFuture
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headrace.config import DoorConfig
from headrace.errors import ConfigError
from headrace.front import Call, Reply

_STATUS = {code.value[0]: code for code in grpc.StatusCode}
_Answer = Callable[[bytes, Any], Awaitable[bytes]]


class GrpcioDoor:
    """Takes unary calls as bytes; serves gRPC health and reflection beside them.

    The loop's thread alone accepts and answers; workers see it only through the queue. A call that is cancelled or past
    its deadline while it waits leaves the queue and costs no worker anything.
    """

    def __init__(self, methods: Iterable[str], listen: str, config: DoorConfig) -> None:
        self._methods = tuple(methods)
        self._listen = listen
        self._config = config
        self._health = _Health({name.split("/")[1] for name in self._methods})
        # keyed by the ticket, so that a cancelled call is taken out in O(1)
        self._waiting: OrderedDict[object, Call] = OrderedDict()
        self._changed = threading.Condition(threading.Lock())
        self._in_flight = 0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="headrace-door", daemon=True)
        self._started: ThreadFuture[str] = ThreadFuture()

    def start(self) -> str:
        """Bind and accept calls; returns the address bound. Raises ConfigError when the address cannot be had."""
        self._thread.start()
        return self._started.result()

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

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> None:
        """Answer calls, one reply each, from any thread; those whose caller has gone are dropped."""
        pairs = list(zip(calls, replies, strict=True))
        # a closed loop means that the grace is over and every caller has been told so
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_settle, pairs)

    def set_serving(self, service: str, serving: bool) -> None:
        """Tell gRPC health what to answer for a service; the empty name is the whole server."""
        self._loop.call_soon_threadsafe(self._health.set, service, serving)

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for at most ``grace_s`` seconds, close."""
        if self._closed:
            return
        asyncio.run_coroutine_threadsafe(self._drain(grace_s), self._loop).result()
        self._thread.join()

    async def _drain(self, grace_s: float) -> None:
        self._health.close()
        await self._server.stop(grace_s)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._stop.set()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        try:
            address = await self._open()
        except Exception as error:  # start() raises it in the caller's thread
            self._started.set_exception(error)
            return
        self._started.set_result(address)
        await self._stop.wait()

    async def _open(self) -> str:
        self._server = grpc.aio.server(handlers=[_Unary(self._methods, self._answer)], options=_options(self._config))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = {name.split("/")[1] for name in self._methods}
        own = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection((*sorted(services), *own), self._server)
        try:
            port = self._server.add_insecure_port(self._listen)
        except RuntimeError as error:
            raise _cannot_bind(self._listen) from error
        if port == 0:
            raise _cannot_bind(self._listen)
        await self._server.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    def _answer(self, method: str) -> _Answer:
        async def answer(body: bytes, context: Any) -> bytes:
            if self._in_flight >= self._config.max_in_flight:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "OverloadedError: too many calls in flight; try again")
            self._in_flight += 1
            ticket = self._loop.create_future()
            try:
                self._enqueue(Call(method, body, _deadline(context), context.peer(), _metadata(context), ticket))
                reply: Reply = await ticket
            except asyncio.CancelledError:
                with self._changed:
                    self._waiting.pop(ticket, None)
                raise
            finally:
                self._in_flight -= 1
            if reply.status:
                await context.abort(_STATUS[reply.status], reply.message)
            return reply.body

        return answer

    def _enqueue(self, call: Call) -> None:
        with self._changed:
            # one wake-up for a burst: whoever wakes takes all of it, and passes on what is beyond its limit
            if not self._waiting:
                self._changed.notify()
            self._waiting[call.ticket] = call


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
        self._changed = asyncio.Event()
        self._closing = False

    def set(self, service: str, serving: bool) -> None:
        if not self._closing:
            self._serving[service] = serving
            self._tell()

    def close(self) -> None:
        self._serving = dict.fromkeys(self._serving, False)
        self._closing = True
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        kinds = health_pb2.HealthCheckResponse
        if service not in self._serving:
            return kinds.SERVICE_UNKNOWN
        return kinds.SERVING if self._serving[service] else kinds.NOT_SERVING

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802 (gRPC's name)
        status = self._status(request.service)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 (gRPC's name)
        said = None
        while True:
            changed = self._changed
            status = self._status(request.service)
            if status != said:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                said = status
                continue  # it may have changed while we wrote
            if self._closing:
                return
            await changed.wait()


def _settle(pairs: list[tuple[Call, Reply]]) -> None:
    for call, reply in pairs:
        ticket: Any = call.ticket
        if not ticket.done():
            ticket.set_result(reply)


def _deadline(context: Any) -> float:
    remaining = context.time_remaining()
    return math.inf if remaining is None else time.monotonic() + remaining


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


def _cannot_bind(listen: str) -> ConfigError:
    return ConfigError("server.listen", listen, "an address that this machine has and no other program uses")
