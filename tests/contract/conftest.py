"""A started door of either kind, with a worker that a test can hold up."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headrace.config import DoorConfig
from headrace.front import Call, Door, Reply, TlsConfig, make_door

ECHO = "/headrace.v1.RecommenderService/Recommend"
OTHER = "/headrace.v1.RecommenderService/SimilarItems"
STREAM = "/headrace.v1.BidderService/BidStream"


class DoorRig:
    """A started door, a channel to it, and the batches that its one worker saw."""

    def __init__(self, name: str, config: DoorConfig, tls: TlsConfig | None = None, limit: int = 16) -> None:
        self.name, self.config, self.limit = name, config, limit
        self.door: Door = make_door(name, [ECHO, OTHER], "127.0.0.1:0", config, streams=[STREAM], tls=tls)
        self.address = self.door.start()
        self.port = int(self.address.rpartition(":")[2])
        self.channel = grpc.insecure_channel(self.address, [("grpc.max_send_message_length", -1)])
        self.answer: Callable[[Call], Reply] = lambda call: Reply(call.body)
        self.batches: list[list[Call]] = []
        self.dropped: list[bytes] = []
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()
        self.worker = threading.Thread(target=self._work, daemon=True)
        self.worker.start()

    def _work(self) -> None:
        while batch := self.door.next_batch(self.limit):
            self.batches.append(batch)
            self.busy.set()
            self.free.wait()
            self.dropped += [batch[i].body for i in self.door.reply(batch, [self.answer(call) for call in batch])]

    def call(self, body: bytes = b"x", method: str = ECHO, **options: Any) -> Any:
        return self.channel.unary_unary(method).future(body, **{"timeout": 10, **options})

    def occupy(self) -> Any:
        """Make the worker busy with one call until ``free`` is set."""
        self.free.clear()
        self.busy.clear()
        first = self.call(b"first")
        assert self.busy.wait(5)
        return first

    def settle(self) -> None:
        """Let the door see what was sent on this channel before; the transport may reorder calls, but not by much."""
        for _ in range(10):
            health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

    def seen(self) -> list[bytes]:
        """The bodies that reached the worker, in order."""
        return [call.body for batch in self.batches for call in batch]

    def close(self) -> None:
        self.free.set()
        self.channel.close()
        self.door.drain(5)
        self.worker.join(5)


@pytest.fixture(params=["grpcio", "native"])
def door_name(request: pytest.FixtureRequest) -> str:
    """Each door that is built; where all of them must be (CI), none is left out."""
    name: str = request.param
    if name == "native" and "CI" not in os.environ and importlib.util.find_spec("headrace._door") is None:
        pytest.skip("the native door is not built here")
    return name


@pytest.fixture
def open_door(door_name: str) -> Iterator[Callable[..., DoorRig]]:
    """Starts doors of one kind with the given settings."""
    rigs: list[DoorRig] = []

    def start(tls: TlsConfig | None = None, limit: int = 16, **settings: Any) -> DoorRig:
        rigs.append(DoorRig(door_name, DoorConfig(**settings), tls, limit))
        return rigs[-1]

    yield start
    for rig in rigs:
        rig.close()


def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as failure:
        call.result()
    code: grpc.StatusCode = failure.value.code()
    return code


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.002)
