"""Ledgers that spend one budget together, over both authorities: limits, refunds, brakes and fences reach all."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from headrace.authority import operators
from headrace.errors import AuthorityUnreachableError, PreconditionError
from headrace.ledger.ledger import Reason


def test_edits_reach_every_process(world: Any) -> None:
    one, two = world.funded(10_000, "one", "two")
    two.ledger.set_account("a/c/x", daily_micros=50)
    two.ledger.fund("more", "a", 5000)
    one.step()
    states = {state.account_id: state for state in one.ledger.accounts()}
    assert states["a"].budget_in_force_micros == 15_000
    assert one.bid(60) == [None]
    one.win(50)
    assert one.ledger.account_number("a/c/x") == two.ledger.account_number("a/c/x")


def test_a_cut_below_what_is_committed_binds_and_unused_money_goes_back(world: Any) -> None:
    one, two = world.funded(10_000, "one", "two")
    one.win(2000)
    two.ledger.set_account("a/c", lifetime_micros=2500)
    world.step()
    world.step()
    world.check()
    assert one.bid(501) == [None]
    world.step()
    assert two.bid(501) == [None]
    one.win(250)
    two.win(250)
    world.check()


def test_a_refund_takes_what_others_do_not_use(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(100)
    two.win(100)
    monkeypatch.setattr(operators.time, "sleep", lambda _: world.step(0.2))
    one.ledger.fund("back", "a", -800)
    world.check()
    assert one.bid(1) == [None]
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 0.0)
    with pytest.raises(PreconditionError, match="at most 0 micros"):
        one.ledger.fund("back too", "a", -1)


def test_brakes_and_fences_reach_every_process(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(10)
    two.win(10)
    one.ledger.brake("", "", True, "stop", "ann")
    assert one.bid(1) == [None]
    two.step()
    assert two.bid(1) == [None]
    assert two.reasons.tolist() == [Reason.BRAKE]
    two.ledger.brake("", "", False, "go", "ann")
    one.step()
    one.win(1)
    two.ledger.fence("look first", "ann")
    one.step()
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.FENCED]
    one.ledger.unfence("ann", "looked")
    two.step()
    two.win(1)


def test_a_brake_engaged_while_the_authority_is_away_is_told_later(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(10)
    one.gate.away = True
    with pytest.raises(AuthorityUnreachableError, match="this process is braked"):
        one.ledger.brake("", "a", True, "stop", "ann")
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.BRAKE]
    with pytest.raises(AuthorityUnreachableError, match="nothing was released"):
        one.ledger.brake("", "a", False, "go", "ann")
    one.gate.away = False
    world.step()
    assert two.brakes() == [("", "a")]
    two.ledger.brake("", "a", False, "go", "ann")
    world.step()
    assert one.brakes() == []
    one.win(1)


def test_edits_without_the_authority_say_so_and_change_nothing(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    one.gate.away = True
    with pytest.raises(AuthorityUnreachableError):
        one.ledger.set_account("a/c/x", lifetime_micros=1)
    with pytest.raises(AuthorityUnreachableError):
        one.ledger.fund("more", "a", 5)
    with pytest.raises(AuthorityUnreachableError, match="alone is fenced"):
        one.ledger.fence("look", "ann")
    assert one.ledger.fenced
    assert not two.ledger.fenced
    one.gate.away = False
    one.ledger.unfence("ann", "looked")
    assert not one.ledger.fenced
    one.win(10)


def test_a_brake_that_the_authority_refuses_holds_up_no_other(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An authority restored from before an advertiser's first deposit knows nothing that could be braked."""
    one, two = world.funded(1000, "one", "two")
    one.ledger.fund("other", "z", 5)
    one.gate.away = True
    for exchange, advertiser in (("", "z"), ("adx", "")):
        with pytest.raises(AuthorityUnreachableError):
            one.ledger.brake(exchange, advertiser, True, "stop", "ann")
    two.authority.database.write(
        lambda sql: sql.execute("UPDATE ledger_accounts SET account_id = 'lost' WHERE account_id = 'z'")
    )
    one.gate.away = False
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            one.step()
    assert caplog.text.count("a brake stays on this process alone") == 2  # once more since the other brake came in
    two.step()
    assert two.brakes() == [("adx", "")]
    assert ("", "z") in one.brakes()
    one.win(1)
    two.authority.database.write(
        lambda sql: sql.execute("UPDATE ledger_accounts SET account_id = 'z' WHERE account_id = 'lost'")
    )
    two.ledger.fund("again", "z", 5)
    world.step()
    assert sorted(two.brakes()) == [("", "z"), ("adx", "")]
