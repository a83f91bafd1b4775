"""Ledgers that spend one budget together, over both authorities: reported purchases reach whoever made the bid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headrace.authority.actions import put_in_outbox
from headrace.bidding.actions import ActionOutcome, Actions, name_of
from headrace.bidding.settings import BiddingConfig
from headrace.decisions.batch import Action

ACCEPTED, DUPLICATE = ActionOutcome.ACCEPTED, ActionOutcome.DUPLICATE


class Pacer:
    """Hears of actions."""

    def __init__(self) -> None:
        self.heard_actions = 0
        self.learned: list[tuple[int, int]] = []

    def learn_delays(self, reports: Any) -> None:
        assert not reports

    def learn_actions(self, actions: Any) -> None:
        self.learned += [(action.n, action.worth_micros) for action in actions]
        self.heard_actions = actions[-1].number


def desk(process: Any) -> Any:
    """What takes in reports at a process, what its pacer learned, and what was put on record."""
    pacer, record = Pacer(), []
    recorder: Any = SimpleNamespace(acted=record.extend)
    config = BiddingConfig(actions="reported")
    taken_by: Any = pacer
    actions = Actions(
        process.store, process.ledger, taken_by, config, lambda: process.world.now_ms, recorder, put_in_outbox
    )
    process.ledger.on_actions = actions.report

    def report(token: str, name: str = "order", n: int = 1) -> ActionOutcome:
        return ActionOutcome(int(actions.report([Action(name_of(name), token, process.world.now_ms, n, 7)])[0]))

    return SimpleNamespace(report=report, pacer=pacer, record=record)


@pytest.fixture
def two(world: Any) -> tuple[Any, Any]:
    return world.funded(1000, "one", "two")


def test_an_action_at_another_process_counts_once_where_the_bid_was_made(world: Any, two: tuple[Any, Any]) -> None:
    one, other = (desk(process) for process in two)
    token = two[0].win(100)
    assert [other.report(token, n=3) for _ in range(3)] == [ACCEPTED] * 3
    assert one.report(token, n=3) == ACCEPTED
    world.step()
    assert one.report(token, n=3) == DUPLICATE
    assert one.pacer.learned == [(3, 7)]
    assert [action.token for action in one.record] == [token]
    assert (other.pacer.learned, other.record) == ([], [])
    assert two[0].gate.database.read(lambda sql: sql.execute("SELECT 1 FROM authority_actions").fetchall()) == []
    assert two[1].store.read("SELECT 1 FROM authority_action_outbox") == []


def test_actions_wait_for_a_holder_that_is_dead(world: Any, two: tuple[Any, Any]) -> None:
    token = two[0].win(100)
    world.kill("one")
    two[1].gate.away = True
    assert desk(two[1]).report(token) == ACCEPTED  # kept here at first
    two[1].gate.away = False
    world.step()
    (back,) = world.start("one")  # takes nothing in before somebody learns from it
    one = desk(back)
    world.step()
    assert one.report(token) == DUPLICATE
    assert one.pacer.learned == [(1, 7)]


def test_an_action_that_came_in_time_is_not_too_old_when_its_holder_is_back(world: Any, two: tuple[Any, Any]) -> None:
    token = two[0].win(100)
    world.kill("one")
    assert desk(two[1]).report(token) == ACCEPTED
    world.step()
    world.now_ms += BiddingConfig().action_window_ms
    (back,) = world.start("one")
    one = desk(back)
    world.step()
    assert one.report(token, "another") == ActionOutcome.TOO_OLD
    assert one.pacer.learned == [(1, 7)]


def test_a_token_of_a_holder_that_has_just_come_is_no_forgery(world: Any, two: tuple[Any, Any]) -> None:
    other = desk(two[1])
    (three,) = world.start("three")
    three.bid(1)
    world.seconds += 2
    three.step()
    token = three.bid(1)[0]
    assert token is not None
    assert other.report(token[:-4] + "AAAA") == ActionOutcome.FORGED
    assert other.report(token) == ACCEPTED
