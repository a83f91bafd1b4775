"""A failover that loses an authority's last commits, over both databases: no micro is spent twice or left behind."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headrace.authority import operators
from headrace.errors import PreconditionError
from headrace.ledger.ledger import NoticeOutcome, NoticeType

ACCEPTED = NoticeOutcome.ACCEPTED


def billed(process: Any, account_id: str) -> int:
    return {state.account_id: int(state.billed_micros) for state in process.ledger.accounts()}[account_id]


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


@pytest.mark.parametrize("seed", [3, 10])
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
