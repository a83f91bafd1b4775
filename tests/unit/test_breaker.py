"""The circuit breaker, on a clock of its own, and what stands behind one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from headrace.breaker import Breaker
from headrace.errors import StoreFullError
from headrace.events.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(least=3, share=0.5, window_s=10, open_s=1, longest_s=4, clock=clock)


def break_it(breaker: Breaker) -> None:
    for _ in range(3):
        breaker.failed()


def test_few_failures_leave_it_closed(breaker: Breaker) -> None:
    breaker.failed()
    breaker.failed()
    assert breaker.state == "closed"
    assert breaker.wait_s() == 0


def test_most_outcomes_must_have_failed(breaker: Breaker) -> None:
    for _ in range(20):
        breaker.succeeded()
        breaker.succeeded()
        breaker.failed()
    assert breaker.state == "closed"
    for _ in range(21):
        breaker.failed()
    assert breaker.state == "open"
    assert breaker.n_opened == 1


def test_what_lies_behind_the_window_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    breaker.failed()
    breaker.failed()
    clock.now += 25
    breaker.failed()
    assert breaker.state == "closed"
    clock.now += 9
    breaker.failed()
    breaker.failed()
    assert breaker.state == "open"


def test_open_says_how_long_to_wait_and_lets_one_probe_through(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    assert breaker.wait_s() == pytest.approx(1.0)
    clock.now += 0.75
    assert breaker.wait_s() == pytest.approx(0.25)
    clock.now += 0.25
    assert breaker.wait_s() == 0
    assert breaker.state == "half-open"
    assert breaker.wait_s() == pytest.approx(1.0)


def test_success_of_the_probe_closes_it(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    clock.now += 1
    breaker.wait_s()
    breaker.succeeded()
    assert breaker.state == "closed"
    assert [breaker.wait_s() for _ in range(3)] == [0, 0, 0]
    breaker.failed()
    assert breaker.state == "closed"


def test_pause_grows_with_each_failed_probe_up_to_its_bound(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    pauses = []
    for _ in range(4):
        pauses.append(round(breaker.wait_s(), 6))
        clock.now += pauses[-1]
        assert breaker.wait_s() == 0
        breaker.failed()
    assert pauses == [1, 2, 4, 4]
    clock.now += 4
    breaker.wait_s()
    breaker.succeeded()
    break_it(breaker)
    assert breaker.wait_s() == pytest.approx(1.0)


def test_probe_that_never_reports_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    clock.now += 1
    assert breaker.wait_s() == 0
    clock.now += 1
    assert breaker.wait_s() == 0


def test_failures_of_those_who_did_not_ask_do_not_postpone_the_probe(breaker: Breaker, clock: Clock) -> None:
    break_it(breaker)
    clock.now += 0.9
    breaker.failed()
    assert breaker.wait_s() == pytest.approx(0.1)


def test_store_reports_commits_and_goes_on_taking_work(tmp_path: Path) -> None:
    def full(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    store = Store(tmp_path / "s.db", "CREATE TABLE IF NOT EXISTS t(n INTEGER) STRICT")
    try:
        for _ in range(5):
            with pytest.raises(StoreFullError):
                store.write(full)
        assert store.breaker.state == "open"
        # the ledger does not ask the breaker: what can be written is written, and shows that the disk works again
        store.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"))
        assert store.breaker.state == "closed"
    finally:
        store.close()
