"""OpenRTB over HTTP beside gRPC: a door and its workers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from headrace.config import Config, ServerConfig
from headrace.front.http import HttpDoor
from headrace.service.actions import PATH as ACTIONS
from headrace.service.actions import action_routes
from headrace.service.dispatch import Dispatcher, Gates
from headrace.service.method import Method
from headrace.service.notices import TYPES as NOTICES
from headrace.service.notices import notice_routes
from headrace.service.openrtb import bid_route
from headrace.service.server import make_admission


class HttpServer:
    """Answers the methods that are named by paths.

    tenants : what each tenant is offered, all of them the same methods.
    config : the sections http, door, tls, server and admission are used.
    gates : what every call passes; by default everybody may call, as far as there is time and room.
    """

    def __init__(self, tenants: Mapping[str, Iterable[Method]], config: Config, gates: Gates | None = None) -> None:
        self._grace_s = config.server.drain_grace_s
        self._door = HttpDoor(
            [bid_route(config.http), *notice_routes(), *action_routes()], config.http, config.door, config.tls
        )
        self._durable = ThreadPoolExecutor(config.server.durable_workers, "headrace-http-durable")
        dispatcher = Dispatcher(
            self._door,
            tenants,
            durable={*NOTICES, ACTIONS},
            pure=(),
            executor=self._durable,
            batch_limit=config.server.batch_limit,
            durable_queue=config.admission.durable_queue,
            gates=gates or Gates(admission=make_admission(config.admission)),
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

    def stats(self) -> dict[str, int]:
        """What happened to requests at the door, and how many there are now."""
        return self._door.stats()

    def configure(self, config: ServerConfig) -> None:
        """Take over what may change while it runs."""
        self._grace_s = config.drain_grace_s

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
