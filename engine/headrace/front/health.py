"""gRPC health and reflection as answers to calls, for a door that brings no servicers of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from headrace.front import Reply

MAX_WATCHERS = 32

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHECK, WATCH = f"/{_HEALTH}/Check", f"/{_HEALTH}/Watch"
REFLECT = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
_Kinds = health_pb2.HealthCheckResponse

_log = logging.getLogger("headrace.front")


class Answering(Protocol):
    """What a door lends to :class:`Aside`."""

    def reply(self, calls: Sequence[Any], replies: Sequence[Reply]) -> list[int]:
        """The last answer to each call."""

    def send(self, call: Any, body: bytes) -> bool:
        """One answer more to a stream that stays open."""

    def end(self, call: Any) -> None:
        """No more answers to a stream, and all was well."""


class Aside:
    """Answers health and reflection; a watcher is a call that stays open and hears every change."""

    def __init__(self, services: Iterable[str], door: Answering) -> None:
        names = sorted(services)
        self._door = door
        self._lock = threading.Lock()
        self._serving = dict.fromkeys(("", *names), False)
        self._closing = False
        self._watchers: list[_Watcher] = []
        self._reflection = reflection.ReflectionServicer((*names, _HEALTH, reflection.SERVICE_NAME))

    def take(self, call: Any) -> None:
        """Answer one call; a malformed one is told so."""
        try:
            if call.method == REFLECT:
                self._reflect(call)
            else:
                service = health_pb2.HealthCheckRequest.FromString(call.body).service
                (self._check if call.method == CHECK else self._watch)(call, service)
        except DecodeError:
            self._refuse(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequestError: the request is malformed")
        except Exception:  # health must outlive whatever reflection does
            _log.exception("%s failed", call.method)
            self._refuse(call, grpc.StatusCode.INTERNAL, "ServerError: see the server's log")

    def set_serving(self, service: str, serving: bool) -> None:
        """What to say of a service from now on; every watcher of it hears of a change."""
        with self._lock:
            if not self._closing:
                self._serving[service] = serving
                self._tell()

    def close(self) -> None:
        """Say NOT_SERVING for all, for good, and let the watchers go."""
        with self._lock:
            self._serving = dict.fromkeys(self._serving, False)
            self._closing = True
            self._tell()

    def _check(self, call: Any, service: str) -> None:
        with self._lock:
            status = self._status(service)
        if status == _Kinds.SERVICE_UNKNOWN:
            self._refuse(call, grpc.StatusCode.NOT_FOUND, f"no service {service!r} here")
        else:
            self._door.reply([call], [Reply(_Kinds(status=status).SerializeToString())])

    def _watch(self, call: Any, service: str) -> None:
        with self._lock:
            self._watchers = [watcher for watcher in self._watchers if watcher.call.open]
            if len(self._watchers) < MAX_WATCHERS:
                self._watchers.append(_Watcher(call, service))
                self._tell()
                return
        self._refuse(call, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} watch already")

    def _tell(self) -> None:
        for watcher in self._watchers:
            status = self._status(watcher.service)
            if status != watcher.said:
                watcher.said = status
                self._door.send(watcher.call, _Kinds(status=status).SerializeToString())
            if self._closing:
                self._door.end(watcher.call)
        if self._closing:
            self._watchers.clear()

    def _status(self, service: str) -> int:
        if service not in self._serving:
            return int(_Kinds.SERVICE_UNKNOWN)
        return int(_Kinds.SERVING if self._serving[service] else _Kinds.NOT_SERVING)

    def _reflect(self, call: Any) -> None:
        request = reflection_pb2.ServerReflectionRequest.FromString(call.body)
        (answer,) = self._reflection.ServerReflectionInfo(iter([request]), None)
        self._door.reply([call], [Reply(answer.SerializeToString())])

    def _refuse(self, call: Any, code: grpc.StatusCode, text: str) -> None:
        self._door.reply([call], [Reply(status=code.value[0], message=text)])


@dataclass(slots=True)
class _Watcher:
    call: Any
    service: str
    said: int | None = None
