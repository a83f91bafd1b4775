"""Ledgers that spend one budget together, over both authorities: what is away, lost, restored or of another folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.opening import open_ledger
from headrace.authority.settings import AuthorityConfig
from headrace.errors import ConfigError, NotFoundError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeType, Reason
from headrace.ledger.recovery import load_view

NOW = 1_800_000_000_000


def test_a_copied_folder_stops_the_first_one_for_good(world: Any) -> None:
    one, _ = world.funded(1000, "one", "two")
    one.win(100)
    with closing(world.authority()) as other:
        other.register(one.ledger.holder.name, "", 10**9, [])
    world.step()
    world.step()
    assert "registered again" in one.ledger.holder.refused
    assert one.bid(1) == [None]


def test_an_hour_without_the_authority(world: Any) -> None:
    """It bids on from what is allotted to it, then stops and says why, and goes on by itself."""
    one, two = world.funded(100_000, "one", "two")
    one.win(10)
    one.gate.away = two.gate.away = True
    world.step()
    assert one.bid(10)[0] is not None
    while one.bid(10)[0] is not None:
        pass
    assert one.reasons.tolist() == [Reason.AUTHORITY]
    world.step(1800)
    assert one.bid(10) == [None]
    world.check()
    one.gate.away = two.gate.away = False
    world.step()
    one.win(10)
    world.check()


def test_isolation_ends_bidding_though_money_is_left(world: Any) -> None:
    one, two = world.funded(100_000, "one", "two")
    one.win(10)
    one.gate.away = True
    for _ in range(6):
        assert one.bid(10)[0] is not None
        world.step(599)
    assert one.bid(10)[0] is not None
    world.step(10)
    assert one.bid(10) == [None]
    assert one.reasons.tolist() == [Reason.AUTHORITY]
    holder = one.ledger.holder.name
    operators.fence_holder(two.authority, holder, "ann", "cut off")
    assert operators.write_off(two.authority, holder, "ann", "cut off") > 0
    assert one.bid(10) == [None]
    operators.lift_holder(two.authority, holder, "ann", "its books are to be brought in")
    world.kill("one")
    world.start("one")  # what it spent while cut off counts again
    world.check()


def test_what_is_given_back_was_written_down_first(world: Any) -> None:
    """Whatever the disk held when the authority was told fits what it allots afterwards: a power cut costs nothing."""
    one, two = world.funded(3000, "one", "two")
    checks: list[int] = []

    def on_disk(process: Any) -> dict[tuple[int, int], int]:
        books = load_view(process.store.read, process.ledger.config, world.now_ms)
        rows = books.native.leaf_days().reshape(-1, 3).tolist()
        return {(leaf, day): micros for leaf, day, micros in rows}

    def around(process: Any) -> Callable[[], None]:
        before = on_disk(process)

        def after() -> None:
            allotted = world.allotted(process)
            assert all(micros <= allotted.get(key, 0) for key, micros in before.items())
            checks.append(sum(before.values()))

        return after

    for process in (one, two):
        process.gate.around = lambda process=process: around(process)  # type: ignore[misc]
    for turn in range(3):
        # the first has a lease that it hardly uses when the second needs all there is, and the other way round
        first, second = (one, two) if turn % 2 else (two, one)
        small = first.win(9)
        large = second.win(2900)
        first.tell(NoticeType.LOSS, small)
        second.tell(NoticeType.LOSS, large)
        world.step()
    for process in (one, two):
        process.gate.around = None
    assert max(checks) > 2000
    world.check()


def test_lost_answers_allot_nothing_twice(world: Any) -> None:
    one, two = world.funded(10_000, "one", "two")
    for turn in range(30):
        one.gate.loses = turn % 3 != 0
        two.gate.loses = turn % 4 != 0
        one.bid(9, n=5)
        two.bid(11, n=5)
        world.step()
        world.check()
    one.gate.loses = two.gate.loses = False
    world.step()
    assert one.ledger.holder.money()[0] + two.ledger.holder.money()[0] <= 10_000
    one.win(9)


def test_an_authority_that_lost_its_last_minutes_is_registered_with_again(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(300)
    world.step()
    one.authority.database.write(  # type: ignore[attr-defined]
        lambda sql: (
            sql.execute("UPDATE authority_holders SET number = 0 WHERE name = 'one'"),
            sql.execute("DELETE FROM authority_allotments"),
            sql.execute("DELETE FROM authority_totals"),
        )
    )
    for _ in range(3):
        world.step()
    world.check()
    assert one.ledger.holder.refused == ""
    two.win(600)
    assert two.bid(101) == [None]
    world.check()


def test_limits_of_a_restored_authority_bind_though_their_version_was_seen_before(world: Any) -> None:
    one, two = world.funded(1000, "one", "two", lifetime_micros=100)
    before = world.copy()
    one.ledger.set_account("a/c/x", lifetime_micros=1000)
    world.step()
    world.lose(before)
    one.ledger.set_account("a/c/y", lifetime_micros=90)
    for _ in range(3):
        world.step()
    one.win(40)
    two.win(40)
    for process in (one, two):
        assert process.bid(30) == [None]
        world.step()
        assert process.bid(30) == [None]
    assert operators.over_limits(one.authority) == []


def test_a_folder_with_money_of_its_own_is_refused(world: Any) -> None:
    folder = world.folder / "own"
    store = Store(folder / "store.db")
    alone = Ledger(folder, store, clock_ms=lambda: NOW)
    alone.fund("deposit", "z", 5)
    alone.close()
    store.close()
    (own,) = world.start("own")
    assert "of its own" in own.ledger.holder.refused
    with pytest.raises(NotFoundError):
        own.ledger.account_number("a/c/x")


def test_a_folder_with_money_of_its_own_is_not_served_under_an_authority(world: Any) -> None:
    folder = world.folder / "own"
    store = Store(folder / "store.db")
    alone = Ledger(folder, store, clock_ms=lambda: NOW)
    alone.fund("deposit", "z", 5)
    alone.close()
    asked = {"clock_ms": lambda: NOW, "ledger": LedgerConfig(), "authority": AuthorityConfig(url=world.url)}
    with closing(store), pytest.raises(ConfigError, match="money of its own"):
        open_ledger(folder, store, **asked)


def test_a_folder_of_an_authority_does_not_bid_without_it(world: Any) -> None:
    (one,) = world.funded(1000, "one")
    one.die()
    store = Store(world.folder / "one" / "store.db")
    asked = {"clock_ms": lambda: NOW, "ledger": LedgerConfig(), "authority": AuthorityConfig()}
    with closing(store), pytest.raises(ConfigError, match="authority"):  # it would spend the whole copied balance
        open_ledger(world.folder / "one", store, **asked)
