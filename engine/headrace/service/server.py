"""A running server: a door, the workers that answer its calls, health and drain."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from headrace._native import count_messages
from headrace.config import Config, ServerConfig
from headrace.front import make_door
from headrace.service.admission import AdmitInTime
from headrace.service.dispatch import Dispatcher, Gates
from headrace.service.method import Method
from headrace.service.notices import TYPES as NOTICES
from headrace.service.openrtb import BID_PATH
from headrace.service.settings import AdmissionConfig
from headrace.v1 import bidder_pb2, recommender_pb2

DURABLE = frozenset(
    f"/headrace.v1.{name}"
    for name in (
        "ArtifactsService/ReloadArtifact",
        "BidderService/ExplainBid",
        "BidderService/Notify",
        "BidderService/ReportActions",
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
        "OperationsService/ReloadConfig",
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

PATIENCE = {
    "/headrace.v1.RecommenderService/Recommend": 1.0,
    "/headrace.v1.RecommenderService/RecommendBatch": 1.0,
    "/headrace.v1.BidderService/Bid": 2.0,
    "/headrace.v1.BidderService/BidBatch": 2.0,
    "/headrace.v1.BidderService/BidStream": 2.0,
    BID_PATH: 2.0,
}
"""How many times ``admission.target_delay_ms`` a method's calls may wait in overload: what loses least is cut first."""

COUNTS: dict[str, Callable[[bytes], int]] = {
    "/headrace.v1.BidderService/BidBatch": partial(count_messages, bidder_pb2.BidBatchRequest.REQUESTS_FIELD_NUMBER),
    "/headrace.v1.RecommenderService/RecommendBatch": partial(
        count_messages, recommender_pb2.RecommendBatchRequest.REQUESTS_FIELD_NUMBER
    ),
}
"""How many requests a call of a method holds, where that may be more than one."""

WRITE_PATIENCE, OTHER_PATIENCE = 8.0, 4.0
"""The same for the methods that wait for the disk, and for all others."""


def make_admission(config: AdmissionConfig) -> AdmitInTime:
    """The gate that lets calls in as far as there is time and room."""
    apart = DURABLE.union(NOTICES)
    patience = dict.fromkeys(apart, WRITE_PATIENCE) | PATIENCE
    return AdmitInTime(config, patience, OTHER_PATIENCE, apart=apart, counts=COUNTS)


class Server:
    """Answers the given methods on one address.

    tenants : what each tenant is offered; everything behind it is ready before :meth:`start`. The empty name is offered
        what concerns the whole process, and all the rest where there is one tenant only.
    config : the sections server, door, tls and admission are used.
    gates : what every call passes; by default everybody may call, as far as there is time and room.
    """

    def __init__(self, tenants: Mapping[str, Iterable[Method]], config: Config, gates: Gates | None = None) -> None:
        offered = {tenant: tuple(methods) for tenant, methods in tenants.items()}
        methods = {method.name: method for several in offered.values() for method in several}
        self._config = config.server
        self._services = sorted({name.split("/")[1] for name in methods})
        self._door = make_door(
            config.server.door,
            [name for name, method in methods.items() if not method.stream],
            config.server.listen,
            config.door,
            streams=[name for name, method in methods.items() if method.stream],
            tls=config.tls,
        )
        self._durable = ThreadPoolExecutor(config.server.durable_workers, "headrace-durable")
        dispatcher = Dispatcher(
            self._door,
            offered,
            durable=DURABLE,
            pure=PURE,
            executor=self._durable,
            batch_limit=config.server.batch_limit,
            durable_queue=config.admission.durable_queue,
            gates=gates or Gates(admission=make_admission(config.admission)),
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

    def stats(self) -> dict[str, int]:
        """What happened to calls at the door, and how many there are now."""
        return self._door.stats()

    def configure(self, config: ServerConfig) -> None:
        """Take over what may change while it runs."""
        self._config = config

    def drain(self) -> None:
        """Say NOT_SERVING, refuse new calls, finish those in flight within the grace, stop the workers."""
        self._door.drain(self._config.drain_grace_s)
        for worker in self._workers:
            worker.join()
        self._durable.shutdown()
