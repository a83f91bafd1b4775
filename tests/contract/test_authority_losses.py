"""An authority that lost commits, over both databases: holders come back by themselves, and money stays right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.bidding.campaigns import CampaignStore
from headrace.errors import NotFoundError
from headrace.ledger.ledger import NoticeOutcome, NoticeType, Reason
from headrace.v1 import campaigns_pb2 as pb

ACCEPTED = NoticeOutcome.ACCEPTED


def billed(process: Any, account_id: str) -> int:
    return {state.account_id: state.billed_micros for state in process.ledger.accounts()}[account_id]


# -- keys


def test_bills_of_a_holder_that_the_authority_forgot_are_taken_still(world: Any) -> None:
    """Its key id goes to nobody else: else what it had reserved could never be settled."""
    (one,) = world.funded(1000, "one")
    before = world.copy()
    (two,) = world.start("two")
    token = two.win(100)
    other = one.win(50)
    world.lose(before)
    (three,) = world.start("three")  # the first that asks for a key afterwards
    world.step()
    assert two.tell(NoticeType.BILLING, token, 90) == ACCEPTED
    assert billed(two, "a/c/x") == 90
    assert one.tell(NoticeType.BILLING, other, 50) == ACCEPTED
    assert three.tell(NoticeType.BILLING, two.win(10), 10) == ACCEPTED
    world.step()
    world.check()


def test_a_notice_of_a_forgotten_holder_goes_to_it_and_fences_nobody(world: Any) -> None:
    (one,) = world.funded(1000, "one")
    before = world.copy()
    (two,) = world.start("two")
    token = two.win(100)
    world.step()
    world.kill("two")  # it cannot tell of itself
    world.lose(before)
    world.step()
    assert one.tell(NoticeType.BILLING, token, 90) == ACCEPTED
    assert not one.ledger.fenced
    world.step()
    (two,) = world.start("two")
    world.step()
    assert billed(two, "a/c/x") == 90
    assert two.tell(NoticeType.BILLING, token, 90) == NoticeOutcome.DUPLICATE
    world.check()


def test_a_key_made_after_a_loss_is_signed_with(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.authority.rotate_key(one.ledger.holder.name)
    world.step()
    lost = one.win(10)
    world.lose(before)
    world.step()
    one.authority.rotate_key(one.ledger.holder.name)
    world.step()
    new = one.win(10)
    keys = one.ledger._keys.verify([lost, new])[0]["key"].tolist()
    assert keys[0] != keys[1]
    assert [two.tell(NoticeType.WIN, token, 1) for token in (lost, new)] == [ACCEPTED] * 2
    assert not two.ledger.fenced


# -- accounts


def test_a_campaign_that_the_authority_lost_and_got_again_keeps_its_money(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.set_account("a/new/l")
    world.step()
    token, old = one.win(300, "a/new/l"), two.win(100, "a/c/x")
    world.lose(before)
    two.ledger.set_account("a/other/k")  # takes the numbers that the lost campaign had
    two.ledger.set_account("a/new/l")
    world.step()
    world.step()
    assert one.ledger.holder.refused == ""
    assert one.tell(NoticeType.BILLING, token, 300) == ACCEPTED
    assert two.tell(NoticeType.BILLING, old, 100) == ACCEPTED
    world.step()
    world.step()
    assert [billed(process, "a/new/l") for process in (one, two)] == [300, 300]
    assert [billed(process, "a/other/k") for process in (one, two)] == [0, 0]
    assert [billed(process, "a") for process in (one, two)] == [400, 400]
    two.win(590, "a/other/k")
    world.step()
    assert one.bid(11, "a/new/l") == [None]  # of a thousand
    one.win(10, "a/new/l")
    world.check()


def test_what_a_lost_account_spent_counts_for_its_advertiser(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.set_account("a/new/l")
    world.step()
    one.tell(NoticeType.BILLING, one.win(700, "a/new/l"), 700)
    world.lose(before)
    world.step()
    world.step()
    assert two.bid(301) == [None]
    two.win(290)
    world.step()
    assert two.bid(20) == [None]
    assert billed(two, "a/new/l") == 700
    world.check()
    world.kill("one")
    (one,) = world.start("one")
    assert one.ledger.holder.refused == ""
    world.check()


def test_a_lost_advertiser_comes_back_with_what_it_spent(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.fund("theirs", "z", 500)
    one.ledger.set_account("z/c/l")
    world.step()
    token = one.win(400, "z/c/l")
    world.lose(before)
    world.step()
    world.step()
    assert one.bid(200, "z/c/l") == [None]  # its balance is lost
    two.ledger.fund("theirs", "z", 500)
    assert one.tell(NoticeType.BILLING, token, 400) == ACCEPTED
    world.step()
    assert one.bid(101, "z/c/l") == [None]
    one.win(100, "z/c/l")
    world.check()


def test_an_account_of_which_nothing_was_spent_may_spend_no_more_once_it_is_lost(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.set_account("a/new/l")
    world.step()
    world.lose(before)
    world.step()
    number = np.array([one.ledger.account_number("a/new/l")], np.int32)
    for _ in range(3):
        assert one.bid(1, "a/new/l") == [None]
        world.step()
    assert one.ledger.spendable(number, world.now_ms).tolist() == [0]
    two.ledger.set_account("a/new/l")
    world.step()
    one.win(10, "a/new/l")
    world.check()


def test_another_currency_of_a_lost_advertiser_is_refused_and_says_so(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.fund("theirs", "z", 500)
    one.ledger.set_account("z/c/l")
    world.step()
    one.win(400, "z/c/l")
    one.gate.away = True
    world.lose(before)
    two.ledger.fund("theirs", "z", 500, "EUR")
    one.gate.away = False
    world.step()
    world.step()
    assert "USD" in one.ledger.holder.refused
    assert one.bid(1) == [None]


# -- edits


@pytest.mark.parametrize("n_edits", [0, 2])
def test_a_lost_edit_is_undone_in_every_process(world: Any, n_edits: int) -> None:
    """However many edits follow: a version that is used twice does not pass for the one that is known."""
    one, two = world.funded(10_000, "one", "two")
    before = world.copy()
    two.ledger.set_account("a/c/x", daily_micros=50)
    two.ledger.fund("more", "a", 5000)
    one.step()
    world.lose(before)
    for turn in range(n_edits):
        two.ledger.set_account("a/c/y", daily_micros=1000 + turn)
    world.step()
    world.step()
    one.win(60)
    for process in (one, two):
        states = {state.account_id: state.budget_in_force_micros for state in process.ledger.accounts()}
        assert states["a"] == 10_000
    world.check()


def test_a_lost_raise_of_a_limit_allots_nothing(world: Any) -> None:
    """What an authority's own process remembers of limits is as old as the versions that it read."""
    one, two = world.funded(10_000, "one", "two", lifetime_micros=100)
    before = world.copy()
    two.ledger.set_account("a/c/x", lifetime_micros=5000)
    two.bid(1)
    two.step()
    world.lose(before)
    one.ledger.set_account("a/c/y", lifetime_micros=200)
    for _ in range(20):
        world.step()
        assert two.bid(101) == [None]
        assert one.bid(101) == [None]
    world.check()


def test_a_campaign_is_paused_though_its_edit_has_a_number_that_was_used_before(world: Any) -> None:
    one, two = world.funded(10_000, "one", "two")
    stores = [
        CampaignStore(process.store, process.ledger, max_bid_cpm=10**9, clock_ms=lambda: world.now_ms)
        for process in (one, two)
    ]

    def follow() -> None:
        world.step()
        for store in stores:
            store.refresh()

    stores[0].create(campaign("c1"), "ann")
    before = world.copy()
    for name in ("c2", "c3", "c4"):
        stores[0].create(campaign(name), "ann")
    follow()
    world.lose(before)
    stores[1].pause("c1", resume=False, who="ann")
    follow()
    follow()
    assert [store.get("c1").paused for store in stores] == [True, True]
    for store in stores:
        with pytest.raises(NotFoundError):
            store.get("c2")
    stores[1].create(campaign("c3"), "ann")
    follow()
    assert [len(store.find("", [])) for store in stores] == [2, 2]


def campaign(name: str) -> pb.Campaign:
    line = pb.LineItem(line_item_id="l", item_ids=["i"], action_worth_micros=1_000_000)
    return pb.Campaign(campaign_id=name, advertiser_id="a", line_items=[line])


def test_brakes_and_a_fence_that_the_authority_lost_stay(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.ledger.brake("adx", "", True, "stop", "ann")
    two.ledger.fence("look first", "ann")
    world.step()
    world.lose(before)
    world.step()
    world.step()
    assert [process.brakes() for process in (one, two)] == [[("adx", "")]] * 2
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.FENCED]
    two.ledger.unfence("ann", "looked")
    two.ledger.brake("adx", "", False, "go", "ann")
    world.step()
    assert [process.brakes() for process in (one, two)] == [[], []]
    one.win(1)
