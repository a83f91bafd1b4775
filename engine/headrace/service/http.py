"""OpenRTB over HTTP beside gRPC: a door, its workers, and who may come in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from headrace.config import Config
from headrace.front import Call
from headrace.front.http import HttpDoor
from headrace.front.routes import TENANT
from headrace.service.access import Access, Principal
from headrace.service.dispatch import Dispatcher, Gates
from headrace.service.method import Method
from headrace.service.notices import TYPES as NOTICES
from headrace.service.notices import notice_routes
from headrace.service.openrtb import bid_route


class HttpServer:
    """Answers the methods that are named by paths.

    tenants : what each tenant is offered, all of them the same methods.
    config : the sections http, door, tls and server are used.
    """

    def __init__(self, tenants: Mapping[str, Iterable[Method]], config: Config, gates: Gates | None = None) -> None:
        self._grace_s = config.server.drain_grace_s
        self._door = HttpDoor([bid_route(config.http), *notice_routes()], config.http, config.door, config.tls)
        self._durable = ThreadPoolExecutor(config.server.durable_workers, "headrace-http-durable")
        gates = gates or Gates()
        dispatcher = Dispatcher(
            self._door,
            tenants,
            durable=NOTICES,
            pure=(),
            executor=self._durable,
            batch_limit=config.server.batch_limit,
            gates=replace(gates, access=NoticeAccess(gates.access)),
        )
        count = config.http.workers or len(os.sched_getaffinity(0))
        self._workers = [threading.Thread(target=dispatcher.run, name=f"headrace-http-{i}") for i in range(count)]

    def start(self) -> str:
        """Bind, answer requests and be ready; returns ``host:port``. Raises ConfigError."""
        address = self._door.start()
        for worker in self._workers:
            worker.start()
        self._door.set_serving("", True)
        return address

    def drain(self) -> None:
        """Be not ready, refuse new requests, finish those in flight within the grace, stop the workers."""
        self._door.drain(self._grace_s)
        for worker in self._workers:
            worker.join()
        self._durable.shutdown()


def public_url(config: Config) -> str:
    """Where exchanges reach this server."""
    if config.http.public_url:
        return config.http.public_url.rstrip("/")
    return f"{'https' if config.tls.certificate else 'http'}://{config.http.listen}"


class NoticeAccess:
    """Lets notices in by their token, which the ledger verifies, and everything else by the server's own access."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def admit(self, call: Call) -> Principal:
        """Who makes the call. Raises UnauthenticatedError, PermissionDeniedError."""
        if call.method in NOTICES:
            return Principal("notices", call.metadata.get(TENANT, ""))
        return self._access.admit(call)
