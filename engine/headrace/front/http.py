"""The door for HTTP/1.1: Granian's event loop takes the requests, the workers answer them in batches.

Granian runs embedded, on one thread with its own event loop. A request waits there as a coroutine until a worker has
its answer, and the loop is woken once for a whole batch of answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import threading
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from headrace.front import TENANT, Call, Reply, check_replies
from headrace.front.granian import Listener
from headrace.front.queue import CallQueue
from headrace.front.routes import QUERY, Route, Routes
from headrace.front.settings import DoorConfig, HttpConfig, TlsConfig

JSON = "application/json"
COMPRESS_FROM_BYTES = 1200
"""Answers shorter than this fit one packet as they are."""

COUNTED = ("accepted", "refused_overload", "malformed", "unknown_methods", "cancelled_waiting", "dropped_replies")
"""What is counted from the start, by the names that every door uses."""

_HTTP_OF = {0: 200, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 409, 10: 409, 12: 404, 14: 503, 16: 401}
"""HTTP status for each of gRPC; any other is 500."""

_LOOK_EVERY_S = 0.25
_CLOSE = ("connection", "close")


class HttpDoor:
    """Takes requests by a table of routes; answers ``/healthz`` and ``/readyz`` itself.

    A body becomes the call's body; the query string and the tenant of the path stand in its metadata beside the
    headers. Those with the least time left are handed out first. A caller who goes away while its request waits costs
    no worker anything.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        config: HttpConfig,
        limits: DoorConfig,
        tls: TlsConfig | None = None,
    ) -> None:
        self._routes = Routes(routes)
        self._config = config
        self._limits = limits
        self._listener = Listener(self._serve, config, tls or TlsConfig())
        self._serving = False
        self._draining = False
        # of the event loop's thread alone
        self._n_open = 0
        self._counts = dict.fromkeys(COUNTED, 0)
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._tickets: set[_Ticket] = set()
        # of the workers' too
        self._counting = threading.Lock()
        # a bid that is late still gets its no-bid
        self._waiting = CallQueue(keeps_late=True)

    def start(self) -> str:
        """Bind and accept requests; returns the address bound. Raises ConfigError when the address cannot be had."""
        address = self._listener.start()
        self._listener.loop.call_soon_threadsafe(self._look)
        return address

    def next_batch(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` of those that wait; an empty list once the door is closed."""
        return self._waiting.take(limit)

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Answer calls, one reply each, from any thread; returns the positions of those whose caller has gone."""
        check_replies(calls, replies)
        dropped, tickets = [], []
        answers = [answer_of(reply) for reply in replies]
        for position, (call, answer) in enumerate(zip(calls, answers, strict=True)):
            ticket: Any = call.ticket
            if ticket.gone or not ticket.send(*answer):
                dropped.append(position)
            else:
                tickets.append(ticket)
        if dropped:
            with self._counting:
                self._counts["dropped_replies"] += len(dropped)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            self._listener.loop.call_soon_threadsafe(_finish, tickets)
        return dropped

    def stats(self) -> dict[str, int]:
        """What happened to requests since the start, and how many there are now."""
        return self._counts | {"in_flight": self._n_open, "waiting": len(self._waiting)}

    def set_serving(self, service: str, serving: bool) -> None:
        """What ``/readyz`` says; only the empty name, the whole server, counts."""
        if not service:
            self._serving = serving

    def drain(self, grace_s: float) -> None:
        """Refuse new requests, let those in flight finish for at most ``grace_s`` seconds, close."""
        self._serving, self._draining = False, True
        self._listener.stop(grace_s, lambda: self._n_open > 0, self._abandon)
        self._waiting.close()

    async def _serve(self, scope: Any, proto: Any) -> None:
        arrived = time.monotonic()
        route, tenant, refusal = self._route(scope)
        if route is None:
            _send(proto, *refusal)
            return
        if self._n_open >= self._limits.max_in_flight:
            self._counts["refused_overload"] += 1
            _send(proto, *_refusal(503, "OverloadedError", "too many requests in flight; try again"))
            return
        self._n_open += 1
        try:
            await self._take_in(route, tenant, scope, proto, arrived)
        finally:
            self._n_open -= 1

    def _route(self, scope: Any) -> tuple[Route | None, str, _Answer]:
        """The route of a request and the tenant of its path; without a route the answer."""
        path = scope.path
        if path in ("/healthz", "/readyz"):
            fine = path == "/healthz" or self._serving
            status, body = (200, b"ok\n") if fine else (503, b"not serving\n")
            return None, "", (status, [("content-type", "text/plain")], body)
        routes, tenant = self._routes.find(path)
        if not routes:
            self._counts["unknown_methods"] += 1
            return None, "", _refusal(404, "NotFoundError", "nothing is served at this path")
        route = routes.get(scope.method)
        if route is None:
            status, headers, body = _refusal(405, "InvalidRequestError", f"use {' or '.join(sorted(routes))}")
            return None, "", (status, [*headers, ("allow", ", ".join(sorted(routes)))], body)
        if self._draining:
            return None, "", _refusal(503, "UnavailableError", "the server is shutting down")
        return route, tenant, _NOTHING

    async def _take_in(self, route: Route, tenant: str, scope: Any, proto: Any, arrived: float) -> None:
        metadata: dict[str, str] = dict(scope.headers.items())
        refused = self._unfit(route, metadata)
        body = b""
        if refused is None and route.content_type:
            body, refused = await self._body(proto, metadata)
        if refused is not None:
            self._counts["malformed"] += 1
            # what was not read of the body must not be taken for the next request
            _send(proto, refused[0], [*refused[1], _CLOSE], refused[2])
            return
        query = scope.query_string
        if query:
            metadata[QUERY] = query
        if tenant:
            metadata[TENANT] = tenant
        ticket = _Ticket(proto, self._listener.loop, _takes_gzip(metadata))
        call = Call(
            route.method,
            body if route.content_type else query.encode(),
            arrived + _patience(route, body),
            scope.client,
            metadata,
            ticket,
            arrived,
        )
        await self._wait(call, ticket)

    def _unfit(self, route: Route, headers: Mapping[str, str]) -> _Answer | None:
        if not route.content_type:
            return None
        if headers.get("content-type", "").partition(";")[0].strip().lower() != route.content_type:
            return _refusal(415, "InvalidRequestError", f"content-type must be {route.content_type}")
        if headers.get("content-encoding", "identity") not in ("identity", "gzip"):
            return _refusal(415, "InvalidRequestError", "content-encoding must be gzip or left out")
        if "content-length" not in headers:
            # also whoever sends both lengths, to smuggle a request past a proxy: hyper drops the one beside chunks
            return _refusal(411, "InvalidRequestError", "send a content-length and the body in one piece")
        if int(headers["content-length"]) > self._limits.max_message_bytes:
            return self._too_large()
        return None

    def _too_large(self) -> _Answer:
        text = f"the body is larger than {self._limits.max_message_bytes} bytes"
        return _refusal(413, "InvalidRequestError", text)

    async def _body(self, proto: Any, headers: Mapping[str, str]) -> tuple[bytes, _Answer | None]:
        task: Any = asyncio.current_task()
        self._reading[task] = self._listener.loop.time() + self._config.body_timeout_s
        try:
            body = await proto()
        except asyncio.CancelledError:
            return b"", _refusal(408, "DeadlineError", "the body did not come in time")
        finally:
            self._reading.pop(task, None)
        if headers.get("content-encoding") == "gzip":
            unpacked = self._inflated(body)
            if unpacked is None:
                return b"", _refusal(400, "InvalidRequestError", "the body is not gzip")
            body = unpacked
            if len(body) > self._limits.max_message_bytes:
                return b"", self._too_large()
        return body, None

    def _inflated(self, body: bytes) -> bytes | None:
        """The unpacked body, cut just beyond the largest allowed; None when it is no whole gzip stream."""
        unpack = zlib.decompressobj(wbits=31)
        try:
            text = unpack.decompress(body, self._limits.max_message_bytes + 1)
        except zlib.error:
            return None
        whole = unpack.eof and not unpack.unused_data
        return text if whole or len(text) > self._limits.max_message_bytes else None

    async def _wait(self, call: Call, ticket: _Ticket) -> None:
        leaves = ticket.proto.client_disconnect()
        leaves.add_done_callback(lambda _: self._leave(ticket))
        self._tickets.add(ticket)
        self._counts["accepted"] += 1
        try:
            self._waiting.add(call)
            await ticket.done
        finally:
            self._tickets.discard(ticket)
            # left alone it would be kept for ever
            leaves.cancel()

    def _leave(self, ticket: _Ticket) -> None:
        ticket.leave()
        if ticket.gone and self._waiting.remove(ticket):
            self._counts["cancelled_waiting"] += 1

    def _look(self) -> None:
        """End the reading of bodies that come too slowly; runs on the loop every quarter of a second."""
        loop = self._listener.loop
        now = loop.time()
        for task in [task for task, until in self._reading.items() if until < now]:
            task.cancel()
        loop.call_later(_LOOK_EVERY_S, self._look)

    def _abandon(self) -> None:
        for task in list(self._reading):
            task.cancel()
        for ticket in list(self._tickets):
            ticket.send(*_refusal(503, "UnavailableError", "the server is shutting down"))
            ticket.gone = True
            if self._waiting.remove(ticket):
                self._counts["cancelled_waiting"] += 1
        _finish(list(self._tickets))


class _Ticket:
    """One request that waits for its answer; the first answer counts.

    gone : its caller closed the connection, or the door gave it up.
    """

    __slots__ = ("_gzip", "_sent", "done", "gone", "proto")

    def __init__(self, proto: Any, loop: asyncio.AbstractEventLoop, takes_gzip: bool) -> None:
        self.proto = proto
        self.done: asyncio.Future[None] = loop.create_future()
        self.gone = False
        self._gzip = takes_gzip
        self._sent = False

    def leave(self) -> None:
        """The caller has gone; also called, to no effect, once it was answered."""
        if not self.done.done():
            self.gone = True
            self.done.set_result(None)

    def send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> bool:
        """Hand the answer to the transport, from any thread; False when that takes no more."""
        if self._sent:
            return False
        self._sent = True
        if self._gzip and len(body) >= COMPRESS_FROM_BYTES:
            body = gzip.compress(body, 1)
            headers = [*headers, ("content-encoding", "gzip"), ("vary", "accept-encoding")]
        return _send(self.proto, status, headers, body)


_Answer = tuple[int, list[tuple[str, str]], bytes]
_NOTHING: _Answer = (500, [], b"")


def answer_of(reply: Reply) -> _Answer:
    """Status, headers and body of HTTP for a reply: 204 for one without status and body."""
    if not reply.status:
        if not reply.body:
            return 204, list(reply.headers), b""
        return 200, [("content-type", reply.content_type or JSON), *reply.headers], reply.body
    error, colon, text = reply.message.partition(": ")
    status, headers, body = _refusal(_HTTP_OF.get(reply.status, 500), error if colon else "", text or reply.message)
    return status, [*headers, *reply.headers], body


def _refusal(status: int, error: str, text: str) -> _Answer:
    body = msgspec.json.encode({"error": error, "message": text})
    return status, [("content-type", JSON)], body


def _send(proto: Any, status: int, headers: list[tuple[str, str]], body: bytes) -> bool:
    try:
        if body:
            proto.response_bytes(status, headers, body)
        else:
            proto.response_empty(status, headers)
    except RuntimeError:  # answered already, or the connection is closed
        return False
    return True


def _finish(tickets: Sequence[_Ticket]) -> None:
    for ticket in tickets:
        if not ticket.done.done():
            ticket.done.set_result(None)


def _patience(route: Route, body: bytes) -> float:
    left = route.time_left(body) if route.time_left is not None else None
    return route.timeout_s if left is None else min(left, route.timeout_s)


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    said = headers.get("accept-encoding", "")
    return "gzip" in said and "gzip;q=0" not in said.replace(" ", "")
