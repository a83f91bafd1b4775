"""What a service module offers the server: methods that answer batches of decoded requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from headrace.errors import HeadraceError
from headrace.front import Call

Handler = Callable[[Sequence[Any], Sequence[Call]], Sequence[Message | HeadraceError]]
"""Answers n decoded requests with n responses or errors, in order; one request's error never touches its companions."""


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    name : full name, ``/headrace.v1.RecommenderService/Recommend``.
    request : the generated class of its request.
    handle : answers a batch; it may raise HeadraceError only when that concerns the whole batch.
    """

    name: str
    request: type[Message]
    handle: Handler
