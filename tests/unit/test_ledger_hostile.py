"""What a hostile or unlucky caller may do to the books: nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace import _native
from headrace.audit.auditor import audit, balances, compare_stated
from headrace.audit.stated import stated_by_engine
from headrace.audit.trail import open_store
from headrace.errors import InvalidRequestError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.days import local_day, time_zone
from headrace.ledger.ledger import LedgerConfig, NoticeOutcome, Reason
from headrace.ledger.reservations import Reservations
from headrace.ledger.tokens import TokenKeys

WIN, BILL, LOSS = 1, 2, 3
HOUR = 3_600_000
DAY = 24 * HOUR
LINE = "adv/camp/line"
EAST = "Pacific/Kiritimati"  # 14 hours ahead: at noon in London it is tomorrow there


@pytest.fixture
def open_desk(tmp_path: Path, desks: Any) -> Iterator[Callable[..., Any]]:
    made: list[Any] = []

    def make(**settings: int) -> Any:
        made.append(desks.Desk(tmp_path, LedgerConfig(**settings), database="headrace.db").fill())
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("forged", ["A" * 99 + "=", "A" * 98 + "==", "=" * 100, "A" * 50 + "=" * 50])
def test_padding_in_one_token_leaves_the_others_alone(open_desk: Callable[..., Any], forged: str) -> None:
    desk = open_desk()
    first, second = desk.reserve(1_000, 1_000)
    for tokens in ([first, forged], [forged, first], [forged, second, "short"]):
        outcomes = desk.ledger.notify([BILL] * len(tokens), tokens, [1_000] * len(tokens), desk.now).tolist()
        good = NoticeOutcome.DUPLICATE if tokens[0] == forged and first in tokens else NoticeOutcome.ACCEPTED
        assert outcomes == [good if token in (first, second) else NoticeOutcome.REFUSED for token in tokens], (
            "one forged token and the notices of others are not heard"
        )
    assert desk.line().billed_micros == 2


def test_a_new_time_zone_is_known_before_its_account_reserves(
    open_desk: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = open_desk()
    number = np.full(1, desk.ledger.account_number(LINE), np.int32)
    reserved_on: list[int] = []
    ensure_days = desk.ledger._books.ensure_days

    def reserve_in_between(now_ms: int) -> None:
        """Another thread's bid, after the account has its zone and before the days are looked at."""
        if not reserved_on:
            days_held = np.zeros(1, np.int32)
            columns = Reservations(np.full(1, 7, np.int8), np.zeros(1, np.int64), np.zeros(1, np.int64), days_held)
            cpm, exchanges = np.array([1_000], np.int64), np.zeros(1, np.int32)
            desk.ledger._take(desk.ledger._books, number, cpm, exchanges, desk.now, columns)
            reserved_on.extend(days_held.tolist())
        ensure_days(now_ms)

    monkeypatch.setattr(desk.ledger._books, "ensure_days", reserve_in_between)
    desk.ledger.set_account(LINE, time_zone=EAST)
    assert reserved_on == [local_day(time_zone(EAST), desk.now)[0]]


def test_an_account_in_a_zone_without_a_day_is_refused() -> None:
    native = _native.Ledger(8, 1_000_000, 0, 0, HOUR)
    with pytest.raises(ValueError, match="zone"):
        native.put_account(0, -1, [-1, -1, 0], [0, 0], 3, 0, 0)


@pytest.mark.parametrize("after_ms", [-1, 10**11 + 1, 2**63 - 1])
def test_a_time_to_expire_that_overflows_is_refused(open_desk: Callable[..., Any], after_ms: int) -> None:
    desk = open_desk()
    with pytest.raises(InvalidRequestError, match="expire_after_ms"):
        desk.ledger.set_account(LINE, mode=LedgerMode.EXPIRE, expire_after_ms=after_ms)


def test_what_time_passed_by_is_still_stranded(open_desk: Callable[..., Any]) -> None:
    desk = open_desk()
    desk.ledger.set_account(LINE, mode=LedgerMode.EXPIRE)
    disputed, won, _ = desk.reserve(10_000, 10_000, 10_000)
    assert desk.notify(WIN, disputed, 99_000) == NoticeOutcome.DISPUTED
    assert desk.notify(WIN, won, 3_000) == NoticeOutcome.ACCEPTED
    for passed_ms in (2 * HOUR, 40 * DAY):
        desk.now += passed_ms
        desk.ledger.tick(desk.now)
    line = desk.line()
    assert (line.won_micros, line.reserved_micros, line.stranded_micros) == (3, 17, 17)
    before_ms = desk.now - desk.ledger.config.billing_window_ms
    with open_store(desk.store.path) as trail:
        found = audit(trail)
        compare_stated(found, stated_by_engine(trail, desk.now), balances(found, before_ms), "the engine")
    assert found.differences == []


@pytest.mark.parametrize("told", [0, 9_000])
def test_the_breaker_sees_what_is_billed_above_the_win(open_desk: Callable[..., Any], told: int) -> None:
    desk = open_desk(max_micros_per_minute=40)
    tokens = desk.reserve(*[10_000] * 5)
    for token in tokens:
        desk.notify(WIN, token, told)
    for token in tokens[:4]:
        desk.notify(BILL, token, 10_000)
    assert desk.try_reserve(1_000)[1] == ([Reason.OK] if told == 0 else [Reason.BRAKE])
    desk.notify(BILL, tokens[4], 10_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]


@pytest.mark.parametrize("kind", [LOSS, BILL])
@pytest.mark.parametrize("drain", [True, False])
def test_a_notice_of_a_bid_taken_back_takes_no_money_of_another(
    open_desk: Callable[..., Any], kind: int, drain: bool
) -> None:
    desk = open_desk()
    taken_back, kept = desk.reserve(2_000, 2_000)
    desk.ledger.release_reservations([taken_back])
    desk.ledger.set_account(LINE, lifetime_micros=2)  # its lease goes back
    said = desk.notify(kind, taken_back, 2_000)
    assert said == (NoticeOutcome.DUPLICATE if kind == LOSS else NoticeOutcome.LATE)
    desk.restart(drain=drain)
    assert desk.line().reserved_micros == 2
    assert desk.notify(BILL, kept, 2_000) == NoticeOutcome.ACCEPTED


def test_a_brake_just_while_its_exchange_is_looked_up_holds(open_desk: Callable[..., Any]) -> None:
    desk = open_desk()
    books = desk.ledger._books

    class Numbers(dict[str, int]):
        def get(self, name: str, default: int = 0) -> int:  # type: ignore[override]
            """Another thread's brake comes after this bid has looked."""
            found = super().get(name, default)
            if not self:
                desk.ledger.brake(name, "", True, "test")
            return found

    books._braked_numbers = Numbers()
    desk.try_reserve(1_000, exchange="adx")
    assert desk.try_reserve(1_000, exchange="adx")[1] == [Reason.BRAKE]


def test_a_token_of_another_tenant_is_not_its_own(open_desk: Callable[..., Any], tmp_path: Path) -> None:
    desk = open_desk()
    (own,) = desk.reserve(1_000)
    body = desk.ledger._keys.verify([own])[0]
    (other,) = TokenKeys(tmp_path / "other.keys").issue(body)
    assert desk.ledger.own_tokens([other, own, "none"]) == [own]


def test_a_win_after_a_loss_is_closed_by_hand(open_desk: Callable[..., Any]) -> None:
    desk = open_desk()
    token = desk.reserve(10_000)[0]
    assert [desk.notify(LOSS, token), desk.notify(WIN, token, 5_000)] == [
        NoticeOutcome.ACCEPTED,
        NoticeOutcome.DISPUTED,
    ]
    assert desk.ledger.close_reservation(token, "ann", "they paid", 5_000) == NoticeOutcome.CONFLICT
    assert desk.line().disputed_micros == 5
    closed = [desk.ledger.close_reservation(token, "ann", "their mistake") for _ in range(2)]
    assert closed == [NoticeOutcome.ACCEPTED, NoticeOutcome.DUPLICATE]
    desk.restart(drain=False)
    assert desk.line().disputed_micros == 0
    with open_store(desk.store.path) as trail:
        found = audit(trail)
        compare_stated(found, stated_by_engine(trail, desk.now), balances(found, 0), "the engine")
    assert found.differences == []


def test_claims_beyond_what_can_be_counted_are_refused_one_by_one() -> None:
    native = _native.Ledger(1, 10_000, 0, 0, HOUR)
    native.put_account(0, -1, [-1, -1, 10_000], [0, 0], -1, 0, 0)
    native.put_account(1, 0, [-1, -1, 0], [0, 0], -1, 0, 0)
    native.put_account(2, 1, [-1, -1, 0], [0, 0], -1, 0, 0)
    n, leaf = 1_100, 2
    accounts, cpm, exchanges = np.full(n, leaf, np.int32), np.full(n, 1_000, np.int64), np.zeros(n, np.int32)
    leases, serials, days = np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int32)
    reasons = np.full(n, Reason.NEED_LEASE, np.int8)
    while native.reserve(accounts, cpm, exchanges, 1, 1, reasons, leases, serials, days) == 2:
        native.activate(native.plan(1, 1))
    assert set(reasons.tolist()) == {Reason.OK}
    outcomes, absurd = np.zeros(n, np.int8), np.full(n, 2**63 - 1, np.int64)
    absurd[-1] = 1_000  # a right bill beside them
    kinds, tags = np.full(n, BILL, np.int8), np.zeros(n, np.uint16)
    native.settle(kinds, accounts, leases, serials, days, cpm, absurd, tags, 2, outcomes)
    n_disputed = (2**63 - 1) // -(-(2**63 - 1) // 1_000)
    refused = [NoticeOutcome.REFUSED] * (n - 1 - n_disputed)
    assert outcomes.tolist() == [NoticeOutcome.DISPUTED] * n_disputed + refused + [NoticeOutcome.ACCEPTED]
    assert native.first_violation() == -1
