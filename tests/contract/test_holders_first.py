"""Ledgers that spend one budget together, over both authorities: the first bid of a line item finds money."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.authority import operators
from headrace.authority.purse import FIRST_AT_ONCE
from headrace.bidding.campaigns import CampaignStore
from headrace.v1 import campaigns_pb2 as pb

NOW = 1_800_000_000_000
DAY_MS = 86_400_000


def lines(n: int) -> list[str]:
    return [f"a/c/l{i}" for i in range(n)]


def expecting(world: Any, n: int, balance: int = 100_000, **limits: Any) -> Any:
    """Two processes that know which n line items will be bid for."""
    one, two = world.start("one", "two")
    one.ledger.fund("deposit", "a", balance)
    one.ledger.set_accounts(dict.fromkeys(lines(n), limits))
    world.step()
    for process in (one, two):
        process.ledger.expect(numbers(process, n))
    world.step()
    return one, two


def numbers(process: Any, n: int) -> Any:
    return np.array([process.ledger.account_number(name) for name in lines(n)], np.int32)


def test_the_first_bid_of_every_line_item_in_every_process_finds_money(world: Any) -> None:
    one, two = expecting(world, 12)
    for process in (one, two):
        for name in lines(12):
            assert process.bid(100, name)[0] is not None
        assert process.ledger.holder.money()[0] < 60_000  # and leaves the rest to who spends it
    world.check()


def test_a_process_that_starts_later_has_its_first_shares_with_its_registration(world: Any) -> None:
    one, _ = expecting(world, 5)
    three = world.process("three", away=True)
    three.ledger.expect(numbers(one, 5))
    three.gate.away = False
    three.step()
    assert all(three.bid(100, name)[0] is not None for name in lines(5))
    world.check()


def test_a_new_line_item_and_a_new_deposit_bring_first_shares(world: Any) -> None:
    one, two = expecting(world, 3, balance=9000, lifetime_micros=3000)
    for name in lines(3):
        one.win(2400, name)
    two.ledger.set_account("a/c/l3")
    for process in (one, two):
        process.ledger.expect(numbers(two, 4))
    world.step()
    two.ledger.fund("more", "a", 50_000)
    world.step()
    assert all(process.bid(300, "a/c/l3")[0] is not None for process in (one, two))
    world.check()


def test_a_new_day_begins_with_first_shares_though_nobody_bid_on_the_last_one(world: Any) -> None:
    one, two = expecting(world, 4, daily_micros=1000)
    midnight = NOW - NOW % DAY_MS + DAY_MS
    world.now_ms = midnight - 15_000
    world.step()
    world.now_ms = midnight
    for process in (one, two):
        assert all(process.bid(20, name)[0] is not None for name in lines(4))
    world.check()


def test_a_flight_begins_with_first_shares(world: Any) -> None:
    one, two = expecting(world, 2, flight_start_ms=NOW + 3_600_000)
    assert one.ledger.holder.money() == (0, 0)
    world.now_ms = NOW + 3_600_000 - 10_000
    world.step()
    world.now_ms = NOW + 3_600_000
    assert all(process.bid(20, name)[0] is not None for process in (one, two) for name in lines(2))


def test_first_shares_keep_nobody_from_the_last_micro(world: Any) -> None:
    one, two = expecting(world, 20, balance=10_000)
    assert two.ledger.holder.money()[1] > 1000
    spent = 0
    for micros in (1000, 100, 10, 1):
        in_vain = 0
        while in_vain < 4:
            if one.bid(micros, "a/c/l7")[0] is None:
                in_vain += 1
                world.step()
            else:
                spent, in_vain = spent + micros, 0
    assert spent == 10_000
    world.check()


def test_first_shares_take_nothing_that_others_wait_for(world: Any) -> None:
    one, _ = expecting(world, 2, balance=1000)
    one.win(800, "a/c/l0")
    three = world.process("three", away=True)
    three.ledger.expect(numbers(one, 2))
    before = one.ledger.holder.money()
    three.gate.away = False
    three.step()
    one.step()
    assert one.ledger.holder.money() == before  # nobody gave anything back for them
    assert operators.over_limits(one.authority) == []


def test_many_line_items_are_asked_for_in_turns(world: Any) -> None:
    n = 2 * FIRST_AT_ONCE + 10
    (one,) = world.start("one")
    one.ledger.fund("deposit", "a", 10**9)
    one.ledger.set_accounts({name: {} for name in lines(n)})
    one.ledger.expect(numbers(one, n))
    turns = 0
    while one.ledger.holder._purse.asks_on:
        one.step()
        turns += 1
    assert turns == 3
    assert all(one.bid(10, name)[0] is not None for name in lines(n))
    world.check()


def test_only_line_items_of_campaigns_that_run_have_first_shares(world: Any) -> None:
    (one,) = world.start("one")
    one.ledger.fund("deposit", "a", 10_000_000)
    store = CampaignStore(one.store, one.ledger, max_bid_cpm=10**9, clock_ms=lambda: world.now_ms)
    for name in ("runs", "paused"):
        line = pb.LineItem(line_item_id="l", item_ids=["i"], action_worth_micros=1)
        store.create(pb.Campaign(campaign_id=name, advertiser_id="a", line_items=[line]), "ann")
    store.pause("paused", resume=False, who="ann")
    world.step()
    assert one.bid(1000, "a/runs/l")[0] is not None
    assert one.bid(1000, "a/paused/l")[0] is None
    store.pause("paused", resume=True, who="ann")
    world.step()
    assert one.bid(1000, "a/paused/l")[0] is not None
