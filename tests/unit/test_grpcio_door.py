"""The queue of the grpcio door, without a network."""

from __future__ import annotations

import time

from headrace.config import DoorConfig
from headrace.front import Call
from headrace.front.grpcio import GrpcioDoor, _Ticket


def test_call_past_its_deadline_is_dropped_before_the_transport_says_so() -> None:
    door = GrpcioDoor([], "127.0.0.1:0", DoorConfig())
    now = time.monotonic()
    for name, deadline in ((b"late", now - 1), (b"good", now + 60), (b"never", float("inf"))):
        assert door._enqueue(Call("m", name, deadline, "", {}, _Ticket()))
    assert [call.body for call in door.next_batch(8)] == [b"good", b"never"]
