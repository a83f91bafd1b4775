"""Doors: how calls come off the wire.

A door turns a transport into batches. Workers take what waits (``next_batch``), hand it to the handlers and give the
answers back (``reply``). Nothing above this package knows which door runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from headrace.errors import ConfigError
from headrace.front.settings import DoorConfig, TlsConfig

TENANT = "headrace-tenant"
"""Metadata in which a caller who may reach several tenants says which one the call is about; over HTTP a path may."""


@dataclass(slots=True)
class Call:
    """One call as it came off the wire.

    method : full name, ``/headrace.v1.RecommenderService/Recommend``.
    body : the request's bytes, not yet decoded.
    deadline : on the clock of ``time.monotonic()``, in seconds; infinite when the caller set none.
    peer : the transport's name for the caller.
    metadata : lower-case keys; what is binary is left out.
    ticket : the door's own handle for the answer.
    arrived : when the door had all of it, on the clock of ``time.monotonic()``.
    identities : names that the caller's verified certificate carries: subject alternative names, then the common name.
    caller : who that is found to be; doors leave it empty, and whoever lets the call in fills it in where it matters.

    A message of a stream is a call of its own: same peer and metadata, answered by one message of the stream.
    """

    method: str
    body: bytes
    deadline: float
    peer: str
    metadata: Mapping[str, str]
    ticket: object
    arrived: float = 0.0
    identities: tuple[str, ...] = ()
    caller: str = ""


@dataclass(slots=True)
class Reply:
    """The answer to one call: bytes, or a gRPC status code (0 is OK) with a text. On a stream a status ends it.

    Never changed once made; not frozen, because that triples what making one costs.

    content_type, headers : for HTTP only; what is left empty is JSON, and no further headers.
    """

    body: bytes = b""
    status: int = 0
    message: str = ""
    content_type: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Door(Protocol):
    """A transport that serves batches of calls."""

    def start(self) -> str:
        """Bind and accept calls; returns the address bound, ``host:port``."""

    def next_batch(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` of those that wait; an empty list once the door is closed."""

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Answer calls, one reply each, from any thread.

        Returns the positions of answers of which no byte was handed to the transport, because the caller had gone.
        Where it raises, none was handed over at all.
        """

    def set_serving(self, service: str, serving: bool) -> None:
        """Tell gRPC health what to answer for a service; the empty name is the whole server."""

    def stats(self) -> dict[str, int]:
        """What happened to calls since the start, and how many there are now; the same names from every gRPC door.

        accepted : requests that came to wait for a worker; a message of a stream is one.
        refused_overload : calls and streams beyond the cap.
        expired_waiting, cancelled_waiting : left the queue before a worker took them.
        dropped_replies : answers whose caller had gone.
        malformed : calls whose message did not come whole, could not be inflated or is too large, as far as told.
        unknown_methods : calls of methods that are not served.
        in_flight, open_streams, waiting : now; an open stream counts once in the first.
        """

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for at most ``grace_s`` seconds, close."""


@runtime_checkable
class Narrowing(Protocol):
    """A door that refuses calls itself when too many wait: that costs less than to hand them over."""

    def set_room(self, calls: int) -> None:
        """Calls that may wait for a worker from now on; one more is refused at once with UNAVAILABLE."""


@runtime_checkable
class Losing(Protocol):
    """A door with streams: answers wait there for a caller who may go meanwhile."""

    def take_lost(self) -> list[tuple[str, bytes]]:
        """Answers to messages of streams that broke before any byte was written, since the last call: the method and
        the body, of which `reply` said that it was on its way."""


def check_replies(calls: Sequence[Call], replies: Sequence[object]) -> None:
    """Raise ValueError unless there is one reply for each call."""
    if len(calls) != len(replies):
        raise ValueError(f"replies is {'shorter' if len(replies) < len(calls) else 'longer'} than calls")


def check_door(name: str) -> str:
    """The door that a setting means: "auto" is the fastest that is built. Raises ConfigError for one that is not."""
    if name == "grpcio":
        return name
    try:
        import headrace._door  # noqa: F401
    except ImportError:
        if name == "auto":
            return "grpcio"
        hint = "this build has no native door; grpcio serves the same calls"
        raise ConfigError("server.door", name, '"grpcio"', hint) from None
    return "native"


def make_door(
    name: str,
    methods: Iterable[str],
    listen: str,
    config: DoorConfig,
    *,
    streams: Collection[str] = (),
    tls: TlsConfig | None = None,
) -> Door:
    """The door of that name, not yet started.

    name : as :func:`check_door` takes it.
    methods : full names of the unary RPCs it takes; any other is answered UNIMPLEMENTED.
    listen : ``host:port``; port 0 lets the system choose.
    streams : full names of the RPCs whose requests and answers are streams.
    tls : certificates; None or one without a certificate: the connection is not encrypted.

    Raises ConfigError for a door that is not built.
    """
    if check_door(name) == "native":
        from headrace.front.native import NativeDoor

        return NativeDoor(methods, listen, config, streams, tls)
    from headrace.front.grpcio import GrpcioDoor

    return GrpcioDoor(methods, listen, config, streams, tls)
