"""Ledgers that spend one budget together, over both authorities: notices and signing keys."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.authority.notices import Forwarded, send_notices
from headrace.errors import LedgerNotOwnerError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.ledger import NoticeOutcome, NoticeType

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000


def test_a_notice_at_another_process_is_settled_once_by_the_holder(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    heard: list[Any] = []
    one.ledger.on_settled = lambda *columns: heard.append(columns)
    token = one.win(100)
    for _ in range(3):
        assert two.tell(NoticeType.BILLING, token, 80, minimum=70) == NoticeOutcome.ACCEPTED
    world.step()
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    assert one.ledger.spent(number).tolist() == [80]
    assert two.ledger.spent(number).tolist() == [0]
    assert one.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.DUPLICATE
    assert heard == [([NoticeType.BILLING], [token], [80_000], [70_000])]
    assert not two.ledger.fenced
    world.step()
    assert {state.account_id: state.billed_micros for state in two.ledger.accounts()}["a"] == 80
    world.check()


def test_notices_of_a_dead_holder_are_kept_until_it_is_back(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(100)
    world.kill("one")
    two.gate.away = True
    assert two.tell(NoticeType.WIN, token, 80) == NoticeOutcome.ACCEPTED  # kept here at first
    two.gate.away = False
    world.step()
    assert [row.notices for row in operators.holders(two.authority) if row.name == "one"] == [1]
    (one,) = world.start("one")
    world.step()
    assert one.tell(NoticeType.WIN, token, 80) == NoticeOutcome.DUPLICATE
    assert [row.notices for row in operators.holders(two.authority)] == [0, 0]


def test_a_notice_of_a_holder_that_has_just_come_is_no_forgery(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    (three,) = world.start("three")
    number = np.array([three.ledger.account_number("a/c/x")], np.int32)
    three.ledger.reserve(number, np.array([1000], np.int64), ["x"], NOW)
    world.seconds += 2
    three.step()
    token = three.bid(1)[0]
    assert token is not None
    assert two.tell(NoticeType.WIN, token, 1) == NoticeOutcome.ACCEPTED
    assert one.tell(NoticeType.WIN, token[:-4] + "AAAA", 1) == NoticeOutcome.FORGED


def test_a_notice_that_comes_while_keys_are_learned_is_not_taken_for_an_own_one(world: Any) -> None:
    """Whoever can verify a token knows whose it is, at each moment: else its lease would be missed, and fence."""
    one, two = world.funded(1000, "one", "two")
    (three,) = world.start("three")
    three.bid(1)
    world.seconds += 2
    three.step()
    token = three.bid(1)[0]
    assert token is not None
    outcomes: list[NoticeOutcome] = []
    take_keys = one.ledger.take_keys

    def taken(*keys: Any) -> None:
        take_keys(*keys)
        outcomes.append(one.tell(NoticeType.WIN, token, 1))  # as another thread may at this moment

    one.ledger.take_keys = taken  # type: ignore[method-assign, assignment]
    one.step()
    assert outcomes == [NoticeOutcome.ACCEPTED]
    assert not one.ledger.fenced
    one.step()
    assert [row.notices for row in operators.holders(two.authority) if row.name == "three"] == [1]


def test_a_reservation_is_closed_where_it_was_made(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(100)
    with pytest.raises(LedgerNotOwnerError, match="reserved this"):
        two.ledger.close_reservation(token, "ann", "bill file")
    assert one.ledger.close_reservation(token, "ann", "bill file") == NoticeOutcome.ACCEPTED


def test_keys_are_rotated_through_the_authority(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    old = one.win(10)
    one.authority.rotate_key(one.ledger.holder.name)
    world.step()
    new = one.win(10)
    assert two.tell(NoticeType.WIN, old, 1) == two.tell(NoticeType.WIN, new, 1) == NoticeOutcome.ACCEPTED
    world.step()
    assert one.tell(NoticeType.WIN, old, 1) == one.tell(NoticeType.WIN, new, 1) == NoticeOutcome.DUPLICATE
    keys, _, _ = one.ledger._keys.verify([old, new])
    assert len(set(keys["key"].tolist())) == 2


def test_a_notice_counts_as_of_when_it_came_though_its_holder_was_away(world: Any) -> None:
    one, two = world.process("one", billing_window_ms=HOUR_MS), world.process("two", billing_window_ms=HOUR_MS)
    world.funded(1000, "one", "two")
    token = one.win(100)
    one.gate.away = True
    world.step(HOUR_MS / 1000 - 60)
    assert two.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.ACCEPTED
    world.step(HOUR_MS / 1000)
    one.gate.away = False
    world.step()
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    assert one.ledger.spent(number).tolist() == [80]


def test_nothing_expires_while_notices_may_wait_elsewhere(world: Any) -> None:
    """Most notices of a bid come to other processes: cut off from them, an expired bid would be one that is billed."""
    one, two = world.funded(1000, "one", "two", mode=LedgerMode.EXPIRE, expire_after_ms=60_000)
    billed, silent = one.win(100), one.win(200)
    one.gate.away = True
    world.step(30)
    assert two.tell(NoticeType.BILLING, billed, 80) == NoticeOutcome.ACCEPTED
    world.step(90)
    assert amounts(one).reserved_micros == 300
    one.gate.away = False
    one.step()
    assert (amounts(one).billed_micros, amounts(one).reserved_micros) == (80, 0)
    assert one.tell(NoticeType.BILLING, silent, 80) == NoticeOutcome.LATE
    world.check()


def test_what_was_billed_over_an_hour_is_no_minute_of_too_much(world: Any) -> None:
    world.process("one", max_micros_per_minute=150)
    one, two = world.funded(1000, "one", "two")
    tokens = [one.win(100) for _ in range(5)]
    one.gate.away = True
    for token in tokens:
        assert two.tell(NoticeType.BILLING, token, 100) == NoticeOutcome.ACCEPTED
        world.step(61)
    one.gate.away = False
    world.step()
    assert amounts(one).billed_micros == 500
    assert one.brakes() == []


def test_a_notice_that_nobody_knows_holds_up_no_other(world: Any, caplog: pytest.LogCaptureFixture) -> None:
    one, two = world.funded(1000, "one", "two")
    token, name = one.win(100), one.ledger.holder.name
    send_notices(two.authority, [Forwarded(name, 99, token, -1, -1, NOW), Forwarded(name, 2, token, 80_000, -1, NOW)])
    with caplog.at_level(logging.ERROR):
        world.step()
    assert amounts(one).billed_micros == 80
    assert "of a type that nobody here knows" in caplog.text
    assert [row.notices for row in operators.holders(two.authority)] == [0, 0]


def amounts(process: Any) -> Any:
    process.ledger.flush()  # what is set free counts once that is on disk
    return next(state for state in process.ledger.own_accounts() if state.account_id == "a/c/x")
