"""A running server: a door, the workers that answer its calls, health and drain."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from headrace.config import Config
from headrace.front import make_door
from headrace.service.dispatch import Dispatcher
from headrace.service.method import Method

DURABLE = frozenset(
    f"/headrace.v1.{name}"
    for name in (
        "ArtifactsService/ReloadArtifact",
        "BidderService/Notify",
        "CampaignsService/CloseReservation",
        "CampaignsService/CreateCampaign",
        "CampaignsService/FundAdvertiser",
        "CampaignsService/PauseCampaign",
        "CampaignsService/SetBrake",
        "CampaignsService/SetFence",
        "CampaignsService/UpdateCampaign",
        "CatalogService/DeleteItems",
        "CatalogService/UpsertItems",
        "EventsService/ErasePerson",
        "EventsService/RecordEvents",
    )
)
"""Methods that wait for the disk; a recommendation or a bid never queues behind them."""

PURE = frozenset(
    f"/headrace.v1.{name}"
    for name in (
        "ArtifactsService/GetCurrentArtifact",
        "CampaignsService/ListCampaigns",
        "RecommenderService/Recommend",
        "RecommenderService/RecommendBatch",
        "RecommenderService/SimilarItems",
    )
)
"""Methods that change nothing, so that they may be tried again."""


class Server:
    """Answers the given methods on one address.

    methods : what to answer; everything behind them is ready before :meth:`start`.
    config : the server's and the door's sections are used.
    """

    def __init__(self, methods: Iterable[Method], config: Config) -> None:
        methods = tuple(methods)
        self._config = config.server
        self._services = sorted({method.name.split("/")[1] for method in methods})
        self._door = make_door(
            config.server.door, [method.name for method in methods], config.server.listen, config.door
        )
        self._durable = ThreadPoolExecutor(config.server.durable_workers, "headrace-durable")
        dispatcher = Dispatcher(
            self._door,
            methods,
            durable=DURABLE,
            pure=PURE,
            executor=self._durable,
            batch_limit=config.server.batch_limit,
        )
        count = config.server.workers or len(os.sched_getaffinity(0))
        self._workers = [threading.Thread(target=dispatcher.run, name=f"headrace-worker-{i}") for i in range(count)]

    def start(self) -> str:
        """Bind, answer calls and say SERVING for all; returns ``host:port``. Raises ConfigError."""
        address = self._door.start()
        for worker in self._workers:
            worker.start()
        for service in ("", *self._services):
            self._door.set_serving(service, True)
        return address

    def set_serving(self, service: str, serving: bool) -> None:
        """What gRPC health says of one service; the empty name is the whole server."""
        self._door.set_serving(service, serving)

    def drain(self) -> None:
        """Say NOT_SERVING, refuse new calls, finish those in flight within the grace, stop the workers."""
        self._door.drain(self._config.drain_grace_s)
        for worker in self._workers:
            worker.join()
        self._durable.shutdown()
