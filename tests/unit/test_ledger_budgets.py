"""Budgets of a life and of a day, their edits, deposits and refunds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import InvalidRequestError, PreconditionError, StoreError
from headrace.ledger.ledger import NoticeOutcome, Reason

NOW = 1_800_000_000_000
WIN, BILL, LOSS = 1, 2, 3
LINE = "adv/camp/line"


def test_a_small_budget_is_spent_to_the_last_micro(desks: Any, tmp_path: Path) -> None:
    desk = desks.Desk(tmp_path).fill(1_003)
    _, reasons = desk.try_reserve(*[7_000] * 200)
    assert reasons.count(Reason.OK) == 143
    assert desk.line().reserved_micros == 1_001
    assert desk.try_reserve(2_000)[1] == [Reason.OK]
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.close()


def test_idle_leases_of_others_are_recalled(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", lifetime_micros=1_000)
    desk.reserve(1_000)
    other = desk.ledger.set_account("adv/camp/other").account_number
    _, reasons = desk.ledger.reserve(np.array([other], np.int32), np.array([999_000], np.int64), ["x"], NOW)
    assert reasons[0] == Reason.OK
    assert desk.line("adv/camp").reserved_micros == 1_000


def test_a_budget_of_zero_refuses(desk: Any) -> None:
    desk.ledger.set_account(LINE, lifetime_micros=0)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.ledger.set_account(LINE, lifetime_micros=None, daily_micros=0)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]


def test_an_unfunded_advertiser_refuses(desks: Any, tmp_path: Path) -> None:
    desk = desks.Desk(tmp_path)
    desk.ledger.set_account(LINE)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.close()


def test_outside_the_flight_refuses(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", flight_start_ms=NOW - 10, flight_end_ms=NOW)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    assert desk.ledger.spendable(np.array([desk.ledger.account_number(LINE)], np.int32))[0] == 0
    desk.ledger.set_account("adv/camp", flight_end_ms=NOW + 1)
    desk.reserve(1_000)


def test_a_cut_below_what_is_committed_binds_at_once(desk: Any) -> None:
    tokens = desk.reserve(*[100_000] * 5)
    state = desk.ledger.set_account(LINE, lifetime_micros=200)
    assert (state.budget_in_force_micros, state.reserved_micros, state.lease_unused_micros) == (500, 500, 0)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    for token in tokens[:4]:
        desk.notify(LOSS, token)
    assert desk.line().budget_in_force_micros == 200
    assert desk.try_reserve(100_000)[1] == [Reason.OK]
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]


def test_the_daily_budget_is_of_the_local_day_of_the_reservation(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", daily_micros=100, time_zone="America/New_York")
    desk.now = 1_762_056_000_000  # 2025-11-02 00:00 in New York, a day of 25 hours
    token = desk.reserve(100_000)[0]
    desk.now += 25 * 3_600_000 - 1
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    desk.now += 1
    desk.reserve(100_000)
    assert desk.notify(LOSS, token) == NoticeOutcome.ACCEPTED
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET], "what an old day gets back is not today's"
    desk.now -= 1
    desk.reserve(100_000)
    assert desk.line().reserved_micros == 200


def test_a_zone_changed_mid_day(desk: Any) -> None:
    desk.ledger.set_account("adv/camp", daily_micros=100, time_zone="UTC")
    desk.reserve(60_000)
    desk.ledger.set_account("adv/camp", time_zone="Pacific/Honolulu")
    desk.reserve(100_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    desk.ledger.set_account("adv/camp", time_zone="UTC")
    desk.reserve(40_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]


def test_funds_are_idempotent_and_refunds_bounded(desk: Any) -> None:
    desk.ledger.fund("deposit", "adv", 1_000_000)
    assert desk.line("adv").budget_in_force_micros == 1_000_000
    with pytest.raises(PreconditionError):
        desk.ledger.fund("deposit", "adv", 5)
    with pytest.raises(PreconditionError):
        desk.ledger.fund("euros", "adv", 5, "EUR")
    desk.reserve(400_000_000)
    with pytest.raises(PreconditionError, match="at most 600000"):
        desk.ledger.fund("refund", "adv", -600_001)
    assert desk.ledger.fund("refund", "adv", -600_000).budget_in_force_micros == 400_000
    assert desk.ledger.fund("refund", "adv", -600_000).budget_in_force_micros == 400_000
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]


@pytest.mark.parametrize("bad", ["", "a//b", "a/b/c/d", "x" * 65, "/a"])
def test_bad_account_ids(desk: Any, bad: str) -> None:
    with pytest.raises(InvalidRequestError):
        desk.ledger.set_account(bad)


def test_bad_settings_and_requests(desk: Any) -> None:
    with pytest.raises(InvalidRequestError):
        desk.ledger.set_account(LINE, lifetime_micros=-1)
    with pytest.raises(InvalidRequestError):
        desk.ledger.set_account(LINE, time_zone="Mars/Olympus")
    with pytest.raises(PreconditionError):
        desk.ledger.set_account(LINE, currency="EUR")
    for cpm in (0, -5, 2**62):
        with pytest.raises(InvalidRequestError):
            desk.try_reserve(cpm)
    with pytest.raises(InvalidRequestError, match="line items"):
        desk.ledger.reserve(np.array([0], np.int32), np.array([1], np.int64), ["x"], NOW)
    with pytest.raises(InvalidRequestError):
        desk.ledger.notify([4], [desk.reserve(1_000)[0]], [None], NOW)
    with pytest.raises(InvalidRequestError):
        desk.ledger.notify([1, 2], ["x"], [None], NOW)


def test_an_edit_is_in_an_audit_that_nobody_changes(desk: Any) -> None:
    desk.ledger.set_account(LINE, lifetime_micros=5, who="ann", why="small test")
    row = desk.store.read("SELECT who, action, subject, why FROM ledger_audit ORDER BY audit_id DESC LIMIT 1")
    assert row == [("ann", "set_account", LINE, "small test")]
    for statement in ("UPDATE ledger_audit SET who = 'eve'", "DELETE FROM ledger_audit"):
        with pytest.raises(StoreError, match="immutable"):
            desk.store.write(lambda connection, statement=statement: connection.execute(statement))
