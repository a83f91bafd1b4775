"""Clocks: the machine's does not listen, the requests' only goes forward."""

from __future__ import annotations

import time

from headrace.clock import RequestClock, SystemClock


def test_the_system_clock_does_not_listen() -> None:
    clock = SystemClock()
    clock.see(2**60)
    assert abs(clock() - time.time() * 1000) < 60_000


def test_the_request_clock_is_the_latest_request() -> None:
    clock = RequestClock(1000)
    assert clock() == 1000
    for said, expected in ((900, 1000), (5000, 5000), (4000, 5000)):
        clock.see(said)
        assert clock() == expected
