"""What every door promises, whichever transport it stands on."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import headrace.v1.recommender_pb2  # noqa: F401 (reflection tells of it)
from headrace.config import DoorConfig
from headrace.errors import ConfigError
from headrace.front import Call, Narrowing, Reply, check_door, make_door

from .conftest import ECHO, OTHER, DoorRig, code_of, wait_until

CONFIG = DoorConfig(max_message_bytes=64 * 1024, max_in_flight=40)


class Rig(DoorRig):
    """A door with a cap that a test can fill."""

    def __init__(self, name: str) -> None:
        super().__init__(name, CONFIG)

    def fill(self) -> tuple[list[Any], list[Any]]:
        """Send ten calls more than there is room for, one being in flight; returns those waiting and those refused."""
        calls = [self.call() for _ in range(CONFIG.max_in_flight + 9)]
        wait_until(lambda: sum(call.done() for call in calls) >= 10)
        return [call for call in calls if not call.done()], [call for call in calls if call.done()]

    def has_room(self) -> bool:
        """Whether one more call is taken in."""
        self.probe = self.call()
        self.settle()
        return not self.probe.done()


@pytest.fixture
def rig(door_name: str) -> Iterator[Rig]:
    rig = Rig(door_name)
    yield rig
    rig.close()


def test_answers_with_the_bytes_of_the_reply(rig: Rig) -> None:
    assert rig.call(b"hello").result() == b"hello"
    assert rig.call(b"").result() == b""


def test_call_carries_method_deadline_peer_and_metadata(rig: Rig) -> None:
    before = time.monotonic()
    rig.call(method=OTHER, timeout=7, metadata=[("x-request-id", "r1"), ("blob-bin", b"\x00\xff")]).result()
    (call,) = rig.batches[-1]
    assert call.method == OTHER
    assert before + 6 < call.deadline < time.monotonic() + 7.1
    assert "127.0.0.1" in call.peer
    assert call.metadata["x-request-id"] == "r1"
    assert "blob-bin" not in call.metadata


def test_no_deadline_is_infinite(rig: Rig) -> None:
    rig.call(timeout=None).result()
    assert rig.batches[-1][0].deadline == float("inf")


def test_reply_with_a_status_fails_the_call_with_code_and_text(rig: Rig) -> None:
    rig.answer = lambda call: Reply(status=5, message="NotFoundError: no such campaign")
    call = rig.call()
    assert code_of(call) == grpc.StatusCode.NOT_FOUND
    assert call.details() == "NotFoundError: no such campaign"


def test_calls_that_wait_come_in_one_batch_up_to_the_limit(rig: Rig) -> None:
    first = rig.occupy()
    calls, refused = rig.fill()
    rig.free.set()
    assert len(refused) == 10
    assert first.result() == b"first"
    assert all(call.result() == b"x" for call in calls)
    assert [len(batch) for batch in rig.batches] == [1, 16, 16, 7]


def test_many_threads_each_get_their_own_answer(rig: Rig) -> None:
    send = rig.channel.unary_unary(ECHO)

    def ask(i: int) -> bool:
        return bool(send(b"%d" % i, timeout=10) == b"%d" % i)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(1000)))


def test_call_past_its_deadline_never_reaches_a_worker(rig: Rig) -> None:
    first = rig.occupy()
    late = rig.call(b"late", timeout=0.05)
    assert code_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    after = rig.call(b"after")
    rig.settle()
    rig.free.set()
    assert (first.result(), after.result()) == (b"first", b"after")
    assert [call.body for batch in rig.batches for call in batch] == [b"first", b"after"]


def test_cancelled_call_never_reaches_a_worker(rig: Rig) -> None:
    first = rig.occupy()
    gone = rig.call(b"gone")
    rig.settle()
    gone.cancel()
    rig.settle()
    rig.free.set()
    assert rig.call(b"after").result() == b"after"
    assert first.result() == b"first"
    assert [call.body for batch in rig.batches for call in batch] == [b"first", b"after"]


def test_answer_to_a_cancelled_call_disturbs_nobody(rig: Rig) -> None:
    rig.occupy().cancel()
    rig.settle()
    rig.free.set()
    assert rig.call(b"after").result() == b"after"


def test_more_calls_than_the_cap_are_refused_at_once(rig: Rig) -> None:
    first = rig.occupy()
    calls, refused = rig.fill()
    for call in refused:
        assert code_of(call) == grpc.StatusCode.UNAVAILABLE
        assert call.details().startswith("OverloadedError: ")
    calls.pop().cancel()
    wait_until(rig.has_room)  # a cancelled call gives its place back
    rig.free.set()
    assert first.result() == b"first"
    assert all(call.result() == b"x" for call in calls)


def test_narrowed_door_refuses_what_would_wait_and_takes_it_again_once_widened(rig: Rig) -> None:
    assert isinstance(rig.door, Narrowing)
    first = rig.occupy()
    rig.door.set_room(0)
    refused = rig.call(b"x")
    assert code_of(refused) == grpc.StatusCode.UNAVAILABLE
    assert refused.details().startswith("OverloadedError: ")
    rig.door.set_room(10)
    waits = rig.call(b"x")
    rig.free.set()
    assert first.result() == b"first"
    assert waits.result() == b"x"


def test_oversized_message_is_refused_and_the_connection_lives_on(rig: Rig) -> None:
    assert code_of(rig.call(bytes(CONFIG.max_message_bytes + 1))) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert len(rig.call(bytes(CONFIG.max_message_bytes)).result()) == CONFIG.max_message_bytes


def test_answer_may_be_larger_than_a_request_may(rig: Rig) -> None:
    rig.answer = lambda call: Reply(bytes(CONFIG.max_message_bytes * 4))
    assert len(rig.call().result()) == CONFIG.max_message_bytes * 4


@pytest.mark.parametrize("method", ["/headrace.v1.RecommenderService/Nope", "/nope.v1.Nope/Recommend", "/"])
def test_unknown_method_is_unimplemented(rig: Rig, method: str) -> None:
    assert code_of(rig.call(method=method)) == grpc.StatusCode.UNIMPLEMENTED


def test_garbage_on_the_port_does_not_disturb_others(rig: Rig) -> None:
    host, _, port = rig.address.rpartition(":")
    rng_like = bytes(range(256)) * 64
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", rng_like, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng_like):
        with socket.create_connection((host, int(port)), timeout=5) as raw:
            raw.sendall(garbage)
            assert rig.call(b"still").result() == b"still"


def test_health_check_and_watch_follow_set_serving(rig: Rig) -> None:
    stub = health_pb2_grpc.HealthStub(rig.channel)
    kinds = health_pb2.HealthCheckResponse

    def check(service: str) -> int:
        return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status)

    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)
    assert next(watch).status == kinds.NOT_SERVING
    rig.door.set_serving("", True)
    assert next(watch).status == kinds.SERVING
    assert check("") == kinds.SERVING
    assert check("headrace.v1.RecommenderService") == kinds.NOT_SERVING
    rig.door.set_serving("headrace.v1.RecommenderService", True)
    assert check("headrace.v1.RecommenderService") == kinds.SERVING
    with pytest.raises(grpc.RpcError) as failure:
        check("nope")
    assert failure.value.code() == grpc.StatusCode.NOT_FOUND
    stranger = stub.Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=10)
    assert next(stranger).status == kinds.SERVICE_UNKNOWN
    stranger.cancel()
    watch.cancel()


def test_reflection_names_the_services_and_their_descriptors(rig: Rig) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(rig.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="headrace.v1.RecommenderService"),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests), timeout=5)
    names = {service.name for service in listed.list_services_response.service}
    assert {"headrace.v1.RecommenderService", "grpc.health.v1.Health"} <= names
    assert b"RecommendBatch" in described.file_descriptor_response.file_descriptor_proto[0]


def test_drain_finishes_what_is_in_flight_and_refuses_the_rest(rig: Rig) -> None:
    watch = health_pb2_grpc.HealthStub(rig.channel).Watch(health_pb2.HealthCheckRequest(), timeout=10)
    rig.door.set_serving("", True)
    first = rig.occupy()
    waiting = [rig.call(b"waiting") for _ in range(5)]
    rig.settle()
    drain = threading.Thread(target=rig.door.drain, args=(10,))
    drain.start()
    # the stream of a watcher ends with the news and does not hold the drain up
    said = [answer.status for answer in watch]
    assert said[-1] == health_pb2.HealthCheckResponse.NOT_SERVING
    refused = grpc.insecure_channel(rig.address)
    assert code_of(refused.unary_unary(ECHO).future(b"x", timeout=5)) == grpc.StatusCode.UNAVAILABLE
    refused.close()
    rig.free.set()
    assert first.result() == b"first"
    assert [call.result() for call in waiting] == [b"waiting"] * 5
    drain.join(5)
    rig.worker.join(5)
    assert not drain.is_alive()
    assert not rig.worker.is_alive(), "next_batch must tell the workers that the door is closed"


def test_drain_gives_up_after_its_grace(rig: Rig) -> None:
    first = rig.occupy()
    rig.door.drain(0.05)
    assert code_of(first) in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    rig.free.set()  # the worker's late answer goes nowhere and raises nothing
    rig.worker.join(5)
    assert not rig.worker.is_alive()
    rig.door.drain(0.05)


def test_two_doors_share_a_port_and_the_second_takes_over(rig: Rig) -> None:
    second = make_door("auto", [ECHO], rig.address, CONFIG)
    assert second.start() == rig.address

    def work() -> None:
        while batch := second.next_batch(4):
            second.reply(batch, [Reply(b"second")] * len(batch))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    rig.door.drain(5)
    with grpc.insecure_channel(rig.address) as channel:
        assert channel.unary_unary(ECHO)(b"x", timeout=5, wait_for_ready=True) == b"second"
    second.drain(5)
    worker.join(5)


@pytest.mark.parametrize("listen", ["203.0.113.1:1", "nonsense", "127.0.0.1:notaport"])
def test_address_that_cannot_be_had_is_a_config_error(listen: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.listen"):
        make_door("grpcio", [ECHO], listen, CONFIG).start()


def test_address_of_another_program_is_a_config_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ConfigError, match="no other program"):
        make_door("grpcio", [ECHO], f"127.0.0.1:{other.getsockname()[1]}", CONFIG).start()


def test_native_door_that_is_not_built_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "headrace._door", None)
    assert check_door("auto") == "grpcio"
    with pytest.raises(ConfigError, match="grpcio serves the same calls"):
        make_door("native", [ECHO], "127.0.0.1:0", CONFIG)


def test_reply_needs_one_answer_for_each_call(rig: Rig) -> None:
    with pytest.raises(ValueError, match="shorter"):
        rig.door.reply([Call("m", b"", 0.0, "", {}, None)], [])
