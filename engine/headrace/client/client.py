"""The client that blocks and the client that is awaited."""

from __future__ import annotations

import asyncio
import copy
import time
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from headrace.client.connection import Connection
from headrace.client.methods import Methods
from headrace.client.rpc import Attempts, RetryBudget, Rpc
from headrace.errors import InvalidRequestError

T = TypeVar("T")

OPTIONS = [
    # a slate of 1000 items with attributes, 256 times over, is larger than grpcio's default of 4 MiB
    ("grpc.max_receive_message_length", 256 << 20),
    # look for a restarted server soon, not after grpcio's 1 to 120 s
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class _Base(Methods):
    """What both clients share: a channel, its callables by method, what goes with each call, and a deadline."""

    def __init__(self, grpc_: Any, address: str, connection: Connection | None) -> None:
        connection = connection or Connection()
        credentials, self._metadata = connection.credentials(), connection.metadata()
        if credentials is None:
            self._channel = grpc_.insecure_channel(address, OPTIONS)
        else:
            self._channel = grpc_.secure_channel(address, credentials, OPTIONS)
        self._callables: dict[str, Any] = {}
        self._timeout_s: float | None = None
        self._budget = RetryBudget()

    def within(self, timeout_s: float) -> Self:
        """The same client with this deadline, in seconds, on every call; it shares the connection."""
        if not 0 < timeout_s < float("inf"):
            raise InvalidRequestError("timeout_s", timeout_s, "seconds above 0")
        other = copy.copy(self)
        other._timeout_s = timeout_s
        return other

    def _attempts(self, rpc: Rpc[..., Any]) -> Attempts:
        return Attempts(rpc, self._timeout_s or rpc.timeout_s, self._budget)

    def _send(self, rpc: Rpc[..., Any], request: Message, attempts: Attempts) -> Any:
        callable_ = self._callables.get(rpc.name)
        if callable_ is None:
            encode, decode = type(request).SerializeToString, rpc.response.FromString
            callable_ = self._callables[rpc.name] = self._channel.unary_unary(rpc.name, encode, decode)
        return callable_(request, timeout=attempts.left_s(), metadata=self._metadata)


class Client(_Base):
    """A client that blocks; safe to share between threads.

    address : ``host:port`` of a server, or what else gRPC resolves (``dns:///shop.internal:50051``).
    connection : key, tenant and TLS; left out: none of them.

    Raises ConfigError for a connection that cannot be.
    """

    def __init__(self, address: str, connection: Connection | None = None) -> None:
        super().__init__(grpc, address, connection)

    def _call(self, rpc: Rpc[..., T], request: Message) -> T:
        attempts = self._attempts(rpc)
        while True:
            try:
                return rpc.read(self._send(rpc, request, attempts))
            except grpc.RpcError as failure:
                time.sleep(attempts.pause_s(failure))

    def close(self) -> None:
        """Close the connection; calls in flight fail."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(_Base):
    """A client that is awaited; of one event loop.

    address : ``host:port`` of a server, or what else gRPC resolves (``dns:///shop.internal:50051``).
    connection : key, tenant and TLS; left out: none of them.

    Raises ConfigError for a connection that cannot be.
    """

    def __init__(self, address: str, connection: Connection | None = None) -> None:
        super().__init__(grpc.aio, address, connection)

    async def _call(self, rpc: Rpc[..., T], request: Message) -> T:
        attempts = self._attempts(rpc)
        while True:
            try:
                return rpc.read(await self._send(rpc, request, attempts))
            except grpc.RpcError as failure:
                await asyncio.sleep(attempts.pause_s(failure))

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
