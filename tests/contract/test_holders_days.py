"""Ledgers that spend one budget together, over both authorities: budget days, and each one's part of what is left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.ledger.ledger import NoticeOutcome, NoticeType

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def test_a_day_begins_with_its_own_money(world: Any) -> None:
    one, two = world.funded(10_000, "one", "two", daily_micros=100)
    midnight = NOW - NOW % DAY_MS + DAY_MS
    token = one.win(60)
    world.now_ms = midnight - 10_000
    two.win(40)
    assert one.bid(1) == [None]
    world.step()
    world.now_ms = midnight + 1
    assert one.bid(60)[0] is None or one.bid(40)[0] is not None
    world.step()
    one.win(1)
    world.step()
    world.check()
    assert one.tell(NoticeType.LOSS, token) == NoticeOutcome.ACCEPTED
    world.step()
    world.now_ms += HOUR_MS
    world.step()
    assert one.ledger.books.native.allotted_books(
        np.array([one.ledger.account_number("a/c/x")], np.int32), np.array([(midnight - 1) // DAY_MS], np.int32)
    ).tolist() == [0, 0, 0, 0]  # yesterday's money went back
    world.check()


def test_the_next_days_money_is_there_when_it_begins(world: Any) -> None:
    (one,) = world.funded(100_000, "one", daily_micros=1000)
    midnight = NOW - NOW % DAY_MS + DAY_MS
    world.now_ms = midnight - 15_000
    one.win(10)
    world.step()
    one.win(10)
    world.step()
    world.now_ms = midnight
    assert one.bid(10)[0] is not None
    world.check()


@pytest.mark.parametrize("jump_ms", [-3 * DAY_MS, 3 * DAY_MS])
def test_a_clock_that_jumps_spends_nothing_twice(world: Any, jump_ms: int) -> None:
    one, two = world.funded(1000, "one", "two", daily_micros=400)
    one.win(300)
    world.now_ms += jump_ms
    world.step()
    two.win(250)
    world.now_ms -= jump_ms
    world.step()
    assert two.bid(101) == [None]
    world.step()
    two.win(100)
    world.check()


@pytest.mark.parametrize("limit", ["daily_micros", "lifetime_micros"])
def test_a_day_that_is_over_does_not_cut_the_next_one(world: Any, limit: str) -> None:
    """A limit below what was spent on another day takes nothing from this one, where it leaves room."""
    (one,) = world.funded(100_000, "one", daily_micros=1000)
    one.tell(NoticeType.BILLING, one.win(900), 900)
    world.now_ms += DAY_MS
    world.step()
    one.win(10)
    one.ledger.set_account("a/c/x", daily_micros=1000 if limit == "lifetime_micros" else 500)
    if limit == "lifetime_micros":
        one.ledger.set_account("a/c/x", lifetime_micros=1500)
    for _ in range(3):
        world.step()
        assert one.bid(1)[0] is not None
    assert one.ledger.holder.money()[1] > 0


def test_parts_follow_traffic(world: Any) -> None:
    one, two = world.funded(1_000_000, "one", "two")
    for _ in range(20):
        for _ in range(30):
            one.bid(1)
        world.step(10)
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    first, second = (process.ledger.spendable(number, world.now_ms)[0] for process in (one, two))
    assert first > 1.5 * second > 0
    assert first + second < 1_100_000  # each as of its own last look


def test_a_day_that_was_forgotten_is_asked_for_with_what_was_used_of_it(world: Any) -> None:
    """A request of yesterday, when all of yesterday's money was billed long ago: the authority goes on counting it."""
    (one,) = world.funded(100_000, "one", daily_micros=1000)
    one.tell(NoticeType.BILLING, one.win(60), 60)
    yesterday, number = world.now_ms, one.ledger.account_number("a/c/x")

    def used() -> list[Any]:
        query = "SELECT used FROM authority_allotments WHERE account = ? AND day = ?"
        parameters = number, yesterday // DAY_MS
        rows = one.authority.database.read(lambda sql: sql.execute(query, parameters).fetchall())
        return [row[0] for row in rows]

    world.now_ms += DAY_MS
    for _ in range(5):
        world.now_ms += HOUR_MS
        world.step()
    assert used() == [60]
    accounts, cpm = np.array([number], np.int32), np.array([10_000], np.int64)
    assert one.ledger.reserve(accounts, cpm, ["x"], yesterday)[0] == [None]
    one.ledger.holder.step()
    assert used() == [60]  # were it less, and the holder gone for good now, writing it off would allot that money again
    world.check()
