"""The queue of the grpcio door, without a network."""

from __future__ import annotations

import time

from headrace.front import Call
from headrace.front.queue import CallQueue


def test_call_past_its_deadline_is_dropped_before_the_transport_says_so() -> None:
    queue = CallQueue()
    now = time.monotonic()
    for name, deadline in ((b"late", now - 1), (b"good", now + 60), (b"never", float("inf"))):
        queue.add(Call("m", name, deadline, "", {}, name))
    assert [call.body for call in queue.take(8)] == [b"good", b"never"]
    assert queue.expired == 1


def test_calls_with_less_time_left_come_first_and_equals_in_order_of_arrival() -> None:
    queue = CallQueue()
    now = time.monotonic()
    for name, left in ((b"a", 60), (b"b", float("inf")), (b"c", 5), (b"d", 60), (b"e", float("inf"))):
        queue.add(Call("m", name, now + left, "", {}, name))
    assert [call.body for call in queue.take(3)] == [b"c", b"a", b"d"]
    assert [call.body for call in queue.take(3)] == [b"b", b"e"]


def test_calls_taken_back_leave_nothing_behind() -> None:
    queue = CallQueue()
    for number in range(10_000):
        queue.add(Call("m", b"", float("inf"), "", {}, number))
        assert queue.remove(number)
    assert not queue.remove(0)
    assert len(queue) == 0
    assert len(queue._order) < 100
    queue.close()
    assert queue.take(1) == []
