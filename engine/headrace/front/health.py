"""gRPC health and reflection as answers to calls, for a door that brings no servicers of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from headrace.front import Reply

MAX_WATCHERS = 32

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_CHECK, _WATCH = f"/{_HEALTH}/Check", f"/{_HEALTH}/Watch"
_REFLECT = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
_Kinds = health_pb2.HealthCheckResponse

Send = Callable[[Any, Reply, bool], bool]
"""Gives a call an answer, and says whether that is its last; false when the caller has gone."""


class Aside:
    """Answers health and reflection; a watcher is a call that stays open and hears every change."""

    methods = [_CHECK]
    streams = [_WATCH, _REFLECT]

    def __init__(self, services: Iterable[str], send: Send) -> None:
        names = sorted(services)
        self._send = send
        self._lock = threading.Lock()
        self._serving = dict.fromkeys(("", *names), False)
        self._closing = False
        self._watchers: list[tuple[Any, str, list[int]]] = []
        self._reflection = reflection.ReflectionServicer((*names, _HEALTH, reflection.SERVICE_NAME))

    def take(self, call: Any) -> None:
        """Answer one call; a malformed one is told so."""
        try:
            if call.method == _REFLECT:
                self._reflect(call)
            else:
                service = health_pb2.HealthCheckRequest.FromString(call.body).service
                (self._check if call.method == _CHECK else self._watch)(call, service)
        except DecodeError:
            self._end(call, grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequestError: the request is malformed")

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
            self._watchers.clear()

    def _check(self, call: Any, service: str) -> None:
        with self._lock:
            status = self._status(service)
        if status == _Kinds.SERVICE_UNKNOWN:
            return self._end(call, grpc.StatusCode.NOT_FOUND, f"no service {service!r} here")
        self._send(call, Reply(_Kinds(status=status).SerializeToString()), True)

    def _watch(self, call: Any, service: str) -> None:
        with self._lock:
            self._watchers = [watcher for watcher in self._watchers if watcher[0].open]
            if len(self._watchers) >= MAX_WATCHERS:
                return self._end(call, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_WATCHERS} watch already")
            self._watchers.append((call, service, []))
            self._tell()
            if self._closing:
                self._watchers.clear()

    def _tell(self) -> None:
        for call, service, said in self._watchers:
            status = self._status(service)
            if said != [status]:
                said[:] = [status]
                self._send(call, Reply(_Kinds(status=status).SerializeToString()), self._closing)
            elif self._closing:
                self._end(call, grpc.StatusCode.OK, "")

    def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service not in self._serving:
            return _Kinds.SERVICE_UNKNOWN
        return _Kinds.SERVING if self._serving[service] else _Kinds.NOT_SERVING

    def _reflect(self, call: Any) -> None:
        request = reflection_pb2.ServerReflectionRequest.FromString(call.body)
        (answer,) = self._reflection.ServerReflectionInfo(iter([request]), None)
        self._send(call, Reply(answer.SerializeToString()), True)

    def _end(self, call: Any, code: grpc.StatusCode, text: str) -> None:
        self._send(call, Reply(status=code.value[0], message=text), True)
