"""One RPC, described once for the client that blocks and the one that is awaited."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Self, TypeVar, overload

import grpc
from google.protobuf.message import Message

from headrace.client.errors import error_of
from headrace.errors import HeadraceError, InvalidRequestError, OverloadedError, StoreError

if TYPE_CHECKING:
    from headrace.client.client import AsyncClient, Client

P = ParamSpec("P")
T = TypeVar("T")

NOT_TAKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""No server took the call; CANCELLED is what grpcio's server says of calls that arrive while it shuts down."""

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.5

MOST_RETRIES = 10.0
RETRIES_PER_CALL = 0.1
"""Share of its calls that a client may send again to servers that refuse for load, and how many it may save up."""


class Rpc(Generic[P, T]):
    """A method of both clients: how to build its request, what it answers, how long it may take, whether to repeat it.

    name : full name, ``/headrace.v1.RecommenderService/Recommend``.
    build : makes the request message from the method's arguments; its signature and docstring are the method's.
    response : the generated class of the answer.
    read : makes the method's result from the answer.
    timeout_s : deadline of a call, seconds, all attempts together.
    repeatable : a second arrival changes nothing, so that a call that no server took may be sent again.
    """

    def __init__(
        self,
        name: str,
        build: Callable[P, Message],
        response: type[Message],
        read: Callable[[Any], T],
        timeout_s: float,
        *,
        repeatable: bool,
    ) -> None:
        self.name = name
        self.build = build
        self.response = response
        self.read = read
        self.timeout_s = timeout_s
        self.repeatable = repeatable
        self.__doc__ = build.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Awaitable[T]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            try:
                request = self.build(*args, **kwargs)
            except ValueError as error:
                # a number that the field cannot hold, or a text that is no Unicode: it cannot be sent
                raise InvalidRequestError(
                    f"{self.name.rpartition('/')[2]}: {error}", hint="nothing was sent"
                ) from error
            return client._call(self, request)

        method.__doc__ = self.__doc__
        return method


class RetryBudget:
    """Bounds what one client adds to an overload: a retry is paid from what its calls have earned. Thread-safe."""

    def __init__(self) -> None:
        self._retries = MOST_RETRIES
        self._lock = threading.Lock()

    def earn(self) -> None:
        """A call begins."""
        with self._lock:
            self._retries = min(self._retries + RETRIES_PER_CALL, MOST_RETRIES)

    def spend(self) -> bool:
        """Whether one retry more is within the budget; it counts then."""
        with self._lock:
            if self._retries < 1.0:
                return False
            self._retries -= 1.0
            return True


class Attempts:
    """The deadline of one call and what is left of it over its attempts."""

    def __init__(self, rpc: Rpc[..., Any], timeout_s: float, budget: RetryBudget) -> None:
        budget.earn()
        self._budget = budget
        self._repeatable = rpc.repeatable
        self._end = time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    def left_s(self) -> float:
        """Seconds until the deadline, never below 0."""
        return max(self._end - time.monotonic(), 0.0)

    def pause_s(self, failure: grpc.RpcError) -> float:
        """Seconds to wait before the next attempt: exponential, with full jitter.

        Raises the HeadraceError that the failure stands for when there is to be no further attempt.
        """
        pause = random.uniform(0.0, self._pause_s)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
        may_repeat = self._repeatable and failure.code() in NOT_TAKEN and pause < self.left_s()
        if not may_repeat:
            raise error_from(failure) from failure
        error = error_from(failure)
        # a server that is not there is not burdened by attempts; one that refuses is
        if isinstance(error, OverloadedError | StoreError) and not self._budget.spend():
            raise error from failure
        return pause


def error_from(failure: grpc.RpcError) -> HeadraceError:
    """The error that a failed call stands for."""
    return error_of(failure.code(), failure.details() or "")
