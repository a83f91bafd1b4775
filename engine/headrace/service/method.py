"""What a service module offers the server: methods that answer batches of calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from headrace.breaker import Breaker
from headrace.errors import HeadraceError
from headrace.front import Call, Reply

Handler = Callable[[Sequence[Any], Sequence[Call]], Sequence[Message | HeadraceError]]
"""Answers n decoded requests with n responses or errors, in order; one request's error never touches its companions."""

WireHandler = Callable[[Sequence[Call]], Sequence[bytes | Reply | HeadraceError]]
"""The same from the calls' bytes to the answers' bytes, or to whole replies, for methods with a codec of their own."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    name : full name, ``/headrace.v1.RecommenderService/Recommend``; over HTTP the path, ``/openrtb2/bid``.
    request : the generated class of its request; not needed beside ``answer``.
    handle : answers a batch; it may raise HeadraceError only when that concerns the whole batch.
    answer : does all of it from bytes to bytes where given; ``handle`` is not used then.
    shed : answers calls that there is no time or room for, without doing their work; left out: the refusal's status.
    take_back : hears of answers that were never sent, as (calls, answers), to undo what they promised.
    audited : whether the calls that it answers name their caller, for an audit of who did what.
    stream : whether requests and answers are the messages of streams.
    late : whether callers still listen when their deadline has passed, so that ``shed`` answers them then, too.
    breaker : of the part outside the process that a durable method needs; its calls fail at once while that is open.
    """

    name: str
    request: type[Message] | None = None
    handle: Handler | None = None
    answer: WireHandler | None = None
    shed: WireHandler | None = None
    take_back: Callable[[Sequence[Call], Sequence[bytes]], None] | None = None
    audited: bool = False
    stream: bool = False
    late: bool = False
    breaker: Breaker | None = None
