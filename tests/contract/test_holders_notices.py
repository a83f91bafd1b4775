"""Ledgers that spend one budget together, over both authorities: notices and signing keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.errors import LedgerNotOwnerError
from headrace.ledger.ledger import NoticeOutcome, NoticeType

NOW = 1_800_000_000_000


def test_a_notice_at_another_process_is_settled_once_by_the_holder(world: Any) -> None:
    one, two = world.funded(1000, "one", "two")
    heard: list[Any] = []
    one.ledger.on_settled = lambda *columns: heard.append(columns)
    token = one.win(100)
    for _ in range(3):
        assert two.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.ACCEPTED
    world.step()
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    assert one.ledger.spent(number).tolist() == [80]
    assert two.ledger.spent(number).tolist() == [0]
    assert one.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.DUPLICATE
    assert heard == [([NoticeType.BILLING], [token], [80_000])]
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
    assert keys["key"].tolist() == [1000, 1002]
