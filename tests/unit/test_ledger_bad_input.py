"""Bad input at the ledger, one test a case: the books balance after each, and the auditor finds nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.audit.auditor import audit
from headrace.audit.trail import open_store
from headrace.errors import InvalidRequestError
from headrace.ledger.ledger import NoticeOutcome, Reason

WIN, BILL, LOSS = 1, 2, 3
HOUR, DAY = 3_600_000, 86_400_000
LINE = "adv/camp/line"


@pytest.fixture
def desk(tmp_path: Path, desks: Any) -> Iterator[Any]:
    made = desks.Desk(tmp_path).fill()
    yield made
    made.ledger.flush()
    made.ledger.check_invariant()
    with open_store(made.store.path) as trail:
        found = audit(trail)
    assert found.differences == []
    assert all(found.recount.limits.over(account.number) == 0 for account in found.accounts)
    made.close()


def test_a_price_above_the_bid_is_disputed_and_never_spent(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    assert desk.notify(BILL, token, 5_001) == NoticeOutcome.DISPUTED
    assert (desk.line().billed_micros, desk.line().reserved_micros, desk.line().disputed_micros) == (0, 5, 6)


def test_a_price_of_zero_is_billed_at_nothing(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    assert desk.notify(BILL, token, 0) == NoticeOutcome.ACCEPTED
    assert (desk.line().billed_micros, desk.line().reserved_micros) == (0, 0)


@pytest.mark.parametrize("price", [float("nan"), float("inf"), 1.5, "1"])
def test_a_price_that_is_no_whole_number_settles_nothing(desk: Any, price: Any) -> None:
    token = desk.reserve(5_000)[0]
    with pytest.raises(InvalidRequestError, match="price"):
        desk.notify(BILL, token, price)
    assert desk.line().reserved_micros == 5


@pytest.mark.parametrize("amount", [0, -1, 10**15 + 1])
def test_a_bid_of_no_amount_reserves_nothing(desk: Any, amount: int) -> None:
    with pytest.raises(InvalidRequestError):
        desk.try_reserve(amount)
    assert desk.line().reserved_micros == 0


@pytest.mark.parametrize("amounts", [np.array([np.nan]), np.array([2.5]), np.array([np.inf])])
def test_a_bid_of_nan_or_a_fraction_reserves_nothing(desk: Any, amounts: Any) -> None:
    number = np.array([desk.ledger.account_number(LINE)], np.int32)
    with pytest.raises(InvalidRequestError, match="whole"):
        desk.ledger.reserve(number, amounts, ["x"], desk.now)
    assert desk.line().reserved_micros == 0


@pytest.mark.parametrize("rate", [0, -1, 2**62])
def test_a_rate_that_is_none_reserves_nothing(desk: Any, rate: int) -> None:
    number = np.array([desk.ledger.account_number(LINE)], np.int32)
    with pytest.raises(InvalidRequestError, match="rates"):
        desk.ledger.reserve(number, np.array([1_000]), ["x"], desk.now, np.array([rate]))
    assert desk.line().reserved_micros == 0


@pytest.mark.parametrize("jump", [-40 * DAY, -HOUR, HOUR, 20 * DAY])
def test_a_clock_that_jumps_either_way_moves_no_money(desk: Any, jump: int) -> None:
    desk.ledger.set_account(LINE, daily_micros=100)
    tokens = desk.reserve(*[20_000] * 5)
    desk.now += jump
    desk.ledger.tick(desk.now)
    assert desk.line().reserved_micros == 100
    if abs(jump) >= DAY:
        desk.reserve(50_000)  # another budget day
    assert [desk.notify(BILL, token, 20_000) for token in tokens] == [NoticeOutcome.ACCEPTED] * 5
    desk.now -= jump
    desk.ledger.tick(desk.now)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET], "the day of the bills is used up"
    assert desk.line().billed_micros == 100


def test_a_budget_edited_below_what_is_spent_refuses_and_forgives_nothing(desk: Any) -> None:
    token, held = desk.reserve(300_000, 200_000)
    desk.notify(BILL, token, 300_000)
    state = desk.ledger.set_account(LINE, lifetime_micros=100)
    assert (state.budget_in_force_micros, state.billed_micros, state.reserved_micros) == (500, 300, 200)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.notify(LOSS, held)
    assert desk.line().budget_in_force_micros == 300
    desk.ledger.set_account(LINE, lifetime_micros=301)
    assert desk.try_reserve(1_000, 1_000)[1] == [Reason.OK, Reason.BUDGET]


def test_a_line_deleted_while_reserved_settles_what_it_bid_and_bids_no_more(desk: Any) -> None:
    tokens = desk.reserve(*[5_000] * 3)
    desk.ledger.set_account(LINE, lifetime_micros=0)  # what removing it from its campaign does
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    desk.restart(drain=False)
    assert desk.notify(BILL, tokens[0], 5_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(WIN, tokens[1], 5_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(LOSS, tokens[2]) == NoticeOutcome.ACCEPTED
    line = desk.line()
    assert (line.billed_micros, line.won_micros, line.reserved_micros) == (5, 5, 0)
    assert line.budget_in_force_micros == 10


def test_an_advertisers_zone_changed_mid_day_keeps_each_days_books(desk: Any) -> None:
    desk.ledger.set_account("adv", daily_micros=100, time_zone="UTC")
    first = desk.reserve(100_000)[0]
    desk.ledger.set_account("adv", time_zone="Pacific/Honolulu")  # 10 hours behind: yesterday
    second = desk.reserve(100_000)[0]
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    desk.ledger.set_account("adv", time_zone="UTC")
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    assert desk.notify(LOSS, first) == NoticeOutcome.ACCEPTED
    desk.reserve(100_000)
    assert desk.notify(BILL, second, 100_000) == NoticeOutcome.ACCEPTED
    with open_store(desk.store.path) as trail:
        bounds = audit(trail).recount.limits.days[0]
    assert len(bounds) == 2


def test_a_token_of_a_lease_that_is_rightly_gone_closes_nothing_and_fences_nothing(desk: Any) -> None:
    token = desk.reserve(5_000)[0]
    desk.notify(BILL, token, 5_000)
    desk.now += 2 * DAY
    desk.ledger.tick(desk.now)
    desk.ledger._condense(desk.now).result()
    desk.now += 40 * DAY
    desk.ledger._condense(desk.now).result()
    assert desk.store.read("SELECT count(*) FROM ledger_leases") == [(0,)]
    assert desk.ledger.close_reservation(token, "ann", "bill of long ago", 5_000) == NoticeOutcome.CONFLICT
    assert not desk.ledger.fenced
    desk.reserve(1_000)
