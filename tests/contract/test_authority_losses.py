"""An authority that lost commits, over both databases: holders come back by themselves, and money stays right."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.bidding.campaigns import CampaignStore
from headrace.errors import NotFoundError, PreconditionError
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


@pytest.mark.parametrize("n_edits", [0, 1, 2, 3])
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


# -- money


def test_money_that_had_changed_hands_is_spent_once(world: Any) -> None:
    """At the moment that comes back it is the first one's; by now the second has spent it."""
    one, two = world.funded(1000, "one", "two")
    one.tell(NoticeType.LOSS, one.win(900))
    world.step()
    before = world.copy()
    spent = two.win(950)
    world.step()
    world.lose(before)
    for _ in range(20):
        world.step()
        assert one.bid(51) == [None]
    assert two.tell(NoticeType.BILLING, spent, 950) == ACCEPTED
    one.win(40)
    world.check()


def test_nothing_is_allotted_until_all_that_were_live_have_been_heard(world: Any) -> None:
    one, two, three = world.funded(1000, "one", "two", "three")
    before = world.copy()
    one.win(100)
    two.win(600)
    world.step()
    two.gate.away = True
    world.lose(before)
    for _ in range(3):
        world.step()
        assert three.bid(301) == [None]
    names = {row.name: row.state.name for row in operators.holders(three.authority)}
    assert names == {"one": "LIVE", "two": "UNHEARD", "three": "LIVE"}
    two.gate.away = False
    world.step()
    three.win(290)
    assert three.bid(20) == [None]
    world.check()


def test_a_failover_is_noticed_by_those_that_lost_nothing(world: Any) -> None:
    """Else they would be allotted at once what another has committed that is not heard yet."""
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    spent = two.win(950)
    two.gate.away = True
    world.fail_over(before)
    for _ in range(3):
        world.step()
        assert one.bid(51) == [None]
    two.gate.away = False
    world.step()
    assert two.tell(NoticeType.BILLING, spent, 950) == ACCEPTED
    world.step()
    one.win(40)
    world.check()


def test_a_refund_waits_for_those_that_are_not_heard(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 0.0)
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    two.win(950)
    two.gate.away = True
    world.fail_over(before)
    world.step()
    with pytest.raises(PreconditionError, match="at most 0 micros"):
        one.ledger.fund("back", "a", -500)
    two.gate.away = False
    world.step()
    with pytest.raises(PreconditionError, match="committed"):
        one.ledger.fund("back", "a", -500)
    assert {state.account_id: state.budget_in_force_micros for state in one.ledger.accounts()}["a"] == 1000


class Market:
    """Random bids, notices, kills and failovers of three processes that share one balance, by a seed."""

    def __init__(self, world: Any, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.names = ["one", "two", "three"]
        self.bids: list[tuple[str, str, int]] = []
        self.n_billed = 0
        self.copies = [world.copy()]

    def bid(self, name: str, leaf: str) -> None:
        """Twice, if need be: the first asks for money."""
        process, micros = self.world.processes[name], self.rng.randint(50, 500)
        if leaf not in process.ledger.books.numbers:
            process.ledger.set_account(leaf)
        token = process.bid(micros, leaf)[0]
        if token is None:
            self.world.step()
            token = process.bid(micros, leaf)[0]
        if token is not None:
            self.bids.append((name, token, micros))

    def settle(self, *, won: bool) -> None:
        if self.bids:
            name, token, micros = self.bids.pop(self.rng.randrange(len(self.bids)))
            process = self.world.processes[name]
            if won:
                self.n_billed += micros
                assert process.tell(NoticeType.BILLING, token, micros) == ACCEPTED
            else:
                assert process.tell(NoticeType.LOSS, token) == ACCEPTED

    def fail_over(self) -> None:
        """The last commits are lost, and one process is heard later than the others."""
        del self.copies[max(len(self.copies) - self.rng.randrange(4), 1) :]
        self.world.fail_over(self.copies[-1])
        late = self.rng.choice(self.names)
        self.world.processes[late].gate.away = True
        for name in self.names:
            if name != late:
                self.bid(name, "a/c/x")
        self.world.processes[late].gate.away = False

    def restart(self) -> None:
        name = self.rng.choice(self.names)
        self.world.kill(name)
        self.world.start(name)
        self.copies = []  # one that starts within the lost commits cannot be waited for

    def turn(self, n: int) -> None:
        what = self.rng.choices(("bid", "bill", "loss", "fail over", "restart"), (12, 2, 3, 3, 1))[0]
        if what == "bid":
            self.bid(self.rng.choice(self.names), self.rng.choice(("a/c/x", f"a/new{n // 10}/l")))
        elif what in ("bill", "loss"):
            self.settle(won=what == "bill")
        elif what == "fail over":
            self.fail_over()
        else:
            self.restart()
        self.copies.append(self.world.copy())

    def committed(self) -> int:
        """Micros that all processes together have billed, won or reserved, by their own books."""
        states = [state for each in self.world.processes.values() for state in each.ledger.own_accounts()]
        return sum(
            each.billed_micros + each.won_micros + each.reserved_micros for each in states if each.account_id == "a"
        )


@pytest.mark.parametrize("seed", [3, 10, 19])
def test_random_losses_overspend_and_strand_nothing(world: Any, seed: int) -> None:
    """The balance is never passed, each bill is taken, and in the end what was not billed can be spent."""
    balance = 2000
    world.funded(balance, "one", "two", "three")
    market = Market(world, seed)
    for n in range(30):
        market.turn(n)
        assert market.committed() <= balance
    while market.bids:
        market.settle(won=False)
    world.step()
    world.step()
    world.check()
    assert [billed(process, "a") for process in world.processes.values()] == [market.n_billed] * 3
    if market.n_billed < balance:
        world.processes["one"].win(balance - market.n_billed)
    world.check()


def test_a_fence_ends_the_wait_for_one_that_is_gone(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    before = world.copy()
    one.win(100)
    world.step()
    two.gate.away = True
    world.lose(before)
    world.step()
    world.step()
    assert one.bid(300) == [None]
    operators.fence_holder(one.authority, two.ledger.holder.name, "ann", "gone")
    world.step()
    one.win(300)
