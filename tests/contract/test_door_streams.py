"""Streams, and the order of what waits: what every door promises."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from headrace.front import Reply

from .conftest import OTHER, STREAM, DoorRig, code_of, wait_until

OpenDoor = Callable[..., DoorRig]


class Asker:
    """A client's end of one stream, message by message."""

    def __init__(self, rig: DoorRig, **options: Any) -> None:
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.answers = rig.channel.stream_stream(STREAM)(self._requests(), **{"timeout": 10, **options})

    def _requests(self) -> Iterator[bytes]:
        while (body := self._outbox.get()) is not None:
            yield body

    def ask(self, *bodies: bytes) -> None:
        for body in bodies:
            self._outbox.put(body)

    def half_close(self) -> None:
        self._outbox.put(None)


def test_every_message_is_a_call_and_every_answer_a_message(open_door: OpenDoor) -> None:
    rig = open_door()
    rig.answer = lambda call: Reply(call.body * 2)
    asker = Asker(rig, metadata=[("x-request-id", "r1")])
    for body in (b"a", b"", b"ccc"):
        asker.ask(body)
        assert next(asker.answers) == body * 2
    asker.half_close()
    assert list(asker.answers) == []
    assert asker.answers.code() == grpc.StatusCode.OK
    (call,) = rig.batches[0]
    assert (call.method, call.metadata["x-request-id"], call.identities) == (STREAM, "r1", ())
    assert "127.0.0.1" in call.peer
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)


def test_answers_come_in_any_order_and_the_stream_ends_after_the_last(open_door: OpenDoor) -> None:
    rig = open_door()
    rig.free.clear()
    asker = Asker(rig)
    asker.ask(b"1", b"2", b"3")
    asker.half_close()
    calls: list[Any] = []

    def collect() -> None:
        while len(calls) < 3 and (batch := rig.door.next_batch(16)):
            calls.extend(batch)

    assert rig.busy.wait(5)
    collector = threading.Thread(target=collect)
    calls.extend(rig.batches[0])
    collector.start()
    collector.join(5)
    assert sorted(call.body for call in calls) == [b"1", b"2", b"3"]
    others = [call for call in calls if call not in rig.batches[0]]
    for call in reversed(others):
        assert rig.door.reply([call], [Reply(call.body)]) == []
    said = [next(asker.answers) for _ in others]
    assert said == [call.body for call in reversed(others)]
    rig.free.set()
    assert sorted([*said, *asker.answers]) == [b"1", b"2", b"3"]
    assert asker.answers.code() == grpc.StatusCode.OK


def test_a_status_ends_the_stream_after_what_was_answered_before(open_door: OpenDoor) -> None:
    rig = open_door()
    rig.answer = lambda call: Reply(status=5, message="NotFoundError: no") if call.body == b"bad" else Reply(call.body)
    asker = Asker(rig)
    asker.ask(b"good")
    assert next(asker.answers) == b"good"
    asker.ask(b"bad")
    with pytest.raises(grpc.RpcError):
        next(asker.answers)
    assert asker.answers.code() == grpc.StatusCode.NOT_FOUND
    assert asker.answers.details() == "NotFoundError: no"
    wait_until(lambda: rig.door.stats()["open_streams"] == 0)


def test_a_stream_is_read_no_further_than_the_cap(open_door: OpenDoor) -> None:
    rig = open_door(limit=1, max_stream_messages=4)
    rig.free.clear()
    asker = Asker(rig)
    asker.ask(*(b"%d" % n for n in range(20)))
    asker.half_close()
    assert rig.busy.wait(5)
    wait_until(lambda: rig.door.stats()["waiting"] == 3)
    rig.settle()
    assert rig.door.stats()["waiting"] == 3
    rig.free.set()
    assert sorted(asker.answers, key=int) == [b"%d" % n for n in range(20)]


def test_a_slow_reader_is_held_up_and_nobody_else(open_door: OpenDoor) -> None:
    rig = open_door(max_stream_messages=4, max_message_bytes=1 << 20)
    rig.answer = lambda call: Reply(bytes(1 << 18) if call.method == STREAM else call.body)
    asker = Asker(rig)
    asker.ask(*[b"x"] * 200)
    # nobody reads the answers, so the transport's window fills and the door stops to read
    assert rig.call(b"still").result() == b"still"
    wait_until(lambda: rig.door.stats()["waiting"] == 0)
    rig.settle()
    read = len(rig.seen())
    assert read < 150
    assert rig.call(b"still").result() == b"still"
    asker.half_close()
    assert sum(1 for _ in asker.answers) == 200


def test_cancellation_drops_what_waits_and_the_worker_hears_of_the_rest(open_door: OpenDoor) -> None:
    rig = open_door(limit=1)
    rig.free.clear()
    asker = Asker(rig)
    asker.ask(b"1", b"2", b"3")
    assert rig.busy.wait(5)
    wait_until(lambda: rig.door.stats()["waiting"] == 2)
    asker.answers.cancel()
    asker.half_close()
    wait_until(lambda: rig.door.stats()["waiting"] == 0)
    rig.free.set()
    assert rig.call(b"after").result() == b"after"
    taken, after = rig.seen()
    # a stream's messages have one deadline and no promised order: whichever was first, the other two were dropped
    assert taken in (b"1", b"2", b"3")
    assert after == b"after"
    assert rig.dropped == [taken]
    stats = rig.door.stats()
    assert (stats["cancelled_waiting"], stats["dropped_replies"]) == (2, 1)
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)


def test_answers_that_waited_when_their_stream_broke_are_told(open_door: OpenDoor) -> None:
    rig = open_door(max_stream_messages=8, max_message_bytes=1 << 20)
    rig.answer = lambda call: Reply(call.body * (1 << 18) if call.method == STREAM else call.body)
    asker = Asker(rig)
    asker.ask(*[b"%d" % (n % 10) for n in range(40)])
    n_answered = -1
    while n_answered != len(rig.seen()) or n_answered <= 8:  # until nobody reads on: the transport is full
        n_answered = len(rig.seen())
        for _ in range(3):
            assert rig.call(b"").result() == b""
            rig.settle()
        n_answered += 3
    assert rig.door.take_lost() == []
    asker.answers.cancel()
    asker.half_close()
    lost: list[tuple[str, bytes]] = []
    wait_until(lambda: bool(lost.extend(rig.door.take_lost()) or lost) and rig.door.stats()["in_flight"] == 0)
    lost += rig.door.take_lost()
    assert {method for method, _ in lost} == {STREAM}
    assert all(len(body) == 1 << 18 for _, body in lost)
    assert 1 <= len(lost) <= 8, "what was written may have come"
    assert rig.door.stats()["dropped_replies"] == len(lost)


def test_messages_carry_the_deadline_of_their_stream(open_door: OpenDoor) -> None:
    rig = open_door()
    rig.free.clear()
    asker = Asker(rig, timeout=0.1)
    asker.ask(b"1")
    assert rig.busy.wait(5)
    with pytest.raises(grpc.RpcError):
        next(asker.answers)
    assert asker.answers.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    asker.half_close()
    rig.free.set()
    assert rig.call(b"after").result() == b"after"
    assert rig.dropped == [b"1"]


def test_an_oversized_message_ends_its_stream(open_door: OpenDoor) -> None:
    rig = open_door(max_message_bytes=64 << 10)
    asker = Asker(rig)
    asker.ask(bytes((64 << 10) + 1))
    with pytest.raises(grpc.RpcError):
        next(asker.answers)
    assert asker.answers.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    asker.half_close()
    assert rig.call().result() == b"x"


def test_streams_count_as_one_call_each_under_the_cap(open_door: OpenDoor) -> None:
    rig = open_door(max_in_flight=2)
    askers = [Asker(rig) for _ in range(2)]
    for asker in askers:
        asker.ask(b"x")
        assert next(asker.answers) == b"x"
    third = Asker(rig)
    with pytest.raises(grpc.RpcError):
        next(third.answers)
    assert third.answers.code() == grpc.StatusCode.UNAVAILABLE
    assert third.answers.details().startswith("OverloadedError: ")
    assert rig.door.stats()["refused_overload"] == 1
    for asker in (*askers, third):
        asker.half_close()
    assert [list(asker.answers) for asker in askers] == [[], []]
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)


def test_drain_answers_what_was_read_and_then_ends_the_stream(open_door: OpenDoor) -> None:
    rig = open_door()
    asker = Asker(rig)
    asker.ask(b"1")
    assert next(asker.answers) == b"1"
    rig.free.clear()
    rig.busy.clear()
    asker.ask(b"2")
    assert rig.busy.wait(5)
    drain = threading.Thread(target=rig.door.drain, args=(10,))
    drain.start()
    rig.free.set()
    assert next(asker.answers) == b"2"
    with pytest.raises(grpc.RpcError):
        next(asker.answers)
    assert asker.answers.code() == grpc.StatusCode.UNAVAILABLE
    asker.half_close()
    drain.join(5)
    assert not drain.is_alive()


def test_who_has_less_time_left_comes_first(open_door: OpenDoor) -> None:
    rig = open_door(limit=2)
    first = rig.occupy()
    waiting = []
    for body, timeout in ((b"never", None), (b"late", 9), (b"soon", 5), (b"later", 10)):
        waiting.append(rig.call(body, timeout=timeout))
        wait_until(lambda: rig.door.stats()["waiting"] == len(waiting))
    rig.free.set()
    assert [call.result() for call in (first, *waiting)] == [b"first", b"never", b"late", b"soon", b"later"]
    assert rig.seen() == [b"first", b"soon", b"late", b"later", b"never"]


def test_late_answers_are_reported_and_counted(open_door: OpenDoor) -> None:
    rig = open_door()
    first = rig.occupy()
    first.cancel()
    late = rig.call(b"late", timeout=0.05, method=OTHER)
    assert code_of(late) == grpc.StatusCode.DEADLINE_EXCEEDED
    rig.settle()
    rig.free.set()
    assert rig.call(b"after").result() == b"after"
    assert rig.dropped == [b"first"]
    stats = rig.door.stats()
    assert stats["accepted"] == 3
    assert stats["expired_waiting"] + stats["cancelled_waiting"] == 1
    assert (stats["dropped_replies"], stats["waiting"]) == (1, 0)
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)
