"""The ledger's promises one by one, by hand-computed tables."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.bidding.budgets import LedgerMode
from headrace.bidding.ledger import Ledger, LedgerConfig, NoticeOutcome, Reason
from headrace.bidding.tokens import TOKEN_LENGTH, TokenKeys
from headrace.errors import (
    InvalidRequestError,
    LedgerError,
    LedgerNotOwnerError,
    NotFoundError,
    PreconditionError,
    StoreError,
    StoreFullError,
)
from headrace.events.store import Store

NOW = 1_800_000_000_000
WIN, BILL, LOSS = 1, 2, 3
DAY = 86_400_000
LINE = "adv/camp/line"


class Desk:
    """A ledger with one line item and a clock to turn."""

    def __init__(self, folder: Path, config: LedgerConfig | None = None) -> None:
        self.folder = folder
        self.now = NOW
        self.config = config
        self.store = Store(folder / "store.db")
        self.ledger = Ledger(folder, self.store, clock_ms=lambda: self.now, config=config)
        assert self.ledger.try_acquire()

    def fill(self, micros: int = 1_000_000) -> Desk:
        self.ledger.fund("deposit", "adv", micros)
        self.ledger.set_account(LINE)
        return self

    def reserve(self, *cpm: int, exchange: str = "x") -> list[str]:
        tokens, reasons = self.try_reserve(*cpm, exchange=exchange)
        assert set(reasons) == {Reason.OK}
        return [token for token in tokens if token is not None]

    def try_reserve(self, *cpm: int, exchange: str = "x") -> tuple[list[str | None], list[int]]:
        number = self.ledger.account_number(LINE)
        tokens, reasons = self.ledger.reserve(
            np.full(len(cpm), number, np.int32), np.array(cpm, np.int64), [exchange] * len(cpm), self.now
        )
        return tokens, reasons.tolist()

    def notify(self, kind: int, token: str, price: int | None = None) -> NoticeOutcome:
        return NoticeOutcome(int(self.ledger.notify([kind], [token], [price], self.now)[0]))

    def line(self, account_id: str = LINE):  # type: ignore[no-untyped-def]
        self.ledger.flush()
        self.ledger.check_invariant()
        return next(state for state in self.ledger.accounts() if state.account_id == account_id)

    def restart(self, *, drain: bool = True) -> None:
        if drain:
            self.ledger.close()
        else:
            self.ledger._owner.release()
            self.ledger._books.native.freeze()
        self.ledger = Ledger(self.folder, self.store, clock_ms=lambda: self.now, config=self.config)
        assert self.ledger.try_acquire()

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path).fill()
    yield made
    made.close()


TABLE = [
    # what is said in order, with prices (None: unknown), what is answered, (billed, won, reserved, late, disputed)
    ([(WIN, 2_000)], "ACCEPTED", (0, 2, 1, 0, 0)),
    ([(BILL, 2_000)], "ACCEPTED", (2, 0, 0, 0, 0)),
    ([(LOSS, None)], "ACCEPTED", (0, 0, 0, 0, 0)),
    ([(WIN, 2_000), (BILL, 2_100)], "ACCEPTED ACCEPTED", (3, 0, 0, 0, 0)),
    ([(BILL, 2_000), (WIN, 2_000)], "ACCEPTED DUPLICATE", (2, 0, 0, 0, 0)),
    ([(WIN, 2_000), (WIN, 2_000)], "ACCEPTED DUPLICATE", (0, 2, 1, 0, 0)),
    ([(BILL, 2_000), (BILL, 3_000)], "ACCEPTED DUPLICATE", (2, 0, 0, 0, 0)),
    ([(LOSS, None), (LOSS, None)], "ACCEPTED DUPLICATE", (0, 0, 0, 0, 0)),
    ([(BILL, 2_000), (LOSS, None)], "ACCEPTED CONFLICT", (2, 0, 0, 0, 0)),
    ([(WIN, 2_000), (LOSS, None)], "ACCEPTED CONFLICT", (0, 2, 1, 0, 0)),
    ([(LOSS, None), (WIN, 2_000)], "ACCEPTED DISPUTED", (0, 0, 0, 0, 2)),
    ([(LOSS, None), (BILL, 2_000)], "ACCEPTED LATE", (0, 0, 0, 2, 0)),
    ([(LOSS, None), (WIN, 2_000), (BILL, 2_500)], "ACCEPTED DISPUTED LATE", (0, 0, 0, 3, 0)),
    ([(LOSS, None), (BILL, 2_000), (BILL, 2_000)], "ACCEPTED LATE DUPLICATE", (0, 0, 0, 2, 0)),
    ([(BILL, 2_501)], "DISPUTED", (0, 0, 3, 0, 3)),
    ([(BILL, None)], "DISPUTED", (0, 0, 3, 0, 3)),
    ([(WIN, None)], "DISPUTED", (0, 0, 3, 0, 3)),
    ([(BILL, 9_000), (BILL, 9_000)], "DISPUTED DUPLICATE", (0, 0, 3, 0, 9)),
    ([(BILL, 9_000), (BILL, 2_000)], "DISPUTED ACCEPTED", (2, 0, 0, 0, 0)),
    ([(BILL, 9_000), (LOSS, None)], "DISPUTED CONFLICT", (0, 0, 3, 0, 9)),
    ([(WIN, 2_000), (BILL, 9_000)], "ACCEPTED DISPUTED", (0, 0, 3, 0, 9)),
    ([(BILL, 0)], "ACCEPTED", (0, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("said", "answered", "amounts"), TABLE)
def test_any_order_of_notices(desk: Desk, said: list[tuple[int, int | None]], answered: str, amounts) -> None:  # type: ignore[no-untyped-def]
    token = desk.reserve(2_500)[0]
    assert [desk.notify(kind, token, price).name for kind, price in said] == answered.split()
    line = desk.line()
    found = (line.billed_micros, line.won_micros, line.reserved_micros, line.late_micros, line.disputed_micros)
    assert found == amounts
    desk.restart(drain=False)
    assert desk.line().billed_micros == amounts[0]
    assert desk.line().disputed_micros == amounts[4]


def test_reserves_up_and_rounds_bills_once_a_lease(desk: Desk) -> None:
    tokens = desk.reserve(*[100] * 30)
    assert desk.line().reserved_micros == 30
    for token in tokens:
        desk.notify(BILL, token, 100)
    assert desk.line().billed_micros == 3


def test_a_small_budget_is_spent_to_the_last_micro(tmp_path: Path) -> None:
    desk = Desk(tmp_path).fill(1_003)
    _, reasons = desk.try_reserve(*[7_000] * 200)
    assert reasons.count(Reason.OK) == 143
    assert desk.line().reserved_micros == 1_001
    assert desk.try_reserve(2_000)[1] == [Reason.OK]
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.close()


def test_idle_leases_of_others_are_recalled(desk: Desk) -> None:
    desk.ledger.set_account("adv/camp", lifetime_micros=1_000)
    desk.reserve(1_000)
    other = desk.ledger.set_account("adv/camp/other").account_number
    _, reasons = desk.ledger.reserve(np.array([other], np.int32), np.array([999_000], np.int64), ["x"], NOW)
    assert reasons[0] == Reason.OK
    assert desk.line("adv/camp").reserved_micros == 1_000


def test_a_budget_of_zero_refuses(desk: Desk) -> None:
    desk.ledger.set_account(LINE, lifetime_micros=0)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.ledger.set_account(LINE, lifetime_micros=None, daily_micros=0)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]


def test_an_unfunded_advertiser_refuses(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.ledger.set_account(LINE)
    assert desk.try_reserve(1)[1] == [Reason.BUDGET]
    desk.close()


def test_outside_the_flight_refuses(desk: Desk) -> None:
    desk.ledger.set_account("adv/camp", flight_start_ms=NOW - 10, flight_end_ms=NOW)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    assert desk.ledger.spendable(np.array([desk.ledger.account_number(LINE)], np.int32))[0] == 0
    desk.ledger.set_account("adv/camp", flight_end_ms=NOW + 1)
    desk.reserve(1_000)


def test_a_cut_below_what_is_committed_binds_at_once(desk: Desk) -> None:
    tokens = desk.reserve(*[100_000] * 5)
    state = desk.ledger.set_account(LINE, lifetime_micros=200)
    assert (state.budget_in_force_micros, state.reserved_micros, state.lease_unused_micros) == (500, 500, 0)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    for token in tokens[:4]:
        desk.notify(LOSS, token)
    assert desk.line().budget_in_force_micros == 200
    assert desk.try_reserve(100_000)[1] == [Reason.OK]
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]


def test_the_daily_budget_is_of_the_local_day_of_the_reservation(desk: Desk) -> None:
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


def test_a_zone_changed_mid_day(desk: Desk) -> None:
    desk.ledger.set_account("adv/camp", daily_micros=100, time_zone="UTC")
    desk.reserve(60_000)
    desk.ledger.set_account("adv/camp", time_zone="Pacific/Honolulu")
    desk.reserve(100_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]
    desk.ledger.set_account("adv/camp", time_zone="UTC")
    desk.reserve(40_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BUDGET]


def test_hold_mode_keeps_and_reports_stranded_money(desk: Desk) -> None:
    token = desk.reserve(5_000)[0]
    desk.now += 29 * DAY
    desk.ledger.tick(desk.now)
    assert desk.line().stranded_micros == 0
    desk.now += 2 * DAY
    desk.ledger.tick(desk.now)
    line = desk.line()
    assert (line.reserved_micros, line.stranded_micros) == (5, 5)
    assert desk.notify(BILL, token, 5_000) == NoticeOutcome.REFUSED
    assert desk.store.read("SELECT outcome, price_cpm_micros FROM ledger_reconciliation") == [(7, 5_000)]
    assert desk.ledger.close_reservation(token, "ann", "bill file of May", 4_000) == NoticeOutcome.ACCEPTED
    assert (desk.line().billed_micros, desk.line().reserved_micros) == (4, 0)
    assert desk.store.read("SELECT who, why FROM ledger_audit WHERE action = 'close'") == [("ann", "bill file of May")]
    assert desk.ledger.close_reservation(token, "ann", "again") == NoticeOutcome.CONFLICT


def test_expire_mode_gives_back_and_keeps_late_bills_apart(desk: Desk) -> None:
    desk.ledger.set_account("adv/camp", mode=LedgerMode.EXPIRE, expire_after_ms=1_000)
    first, second, won = desk.reserve(5_000, 5_000, 5_000)
    desk.notify(WIN, won, 5_000)
    desk.now += 1_000
    desk.ledger.tick(desk.now)
    line = desk.line()
    assert (line.reserved_micros, line.won_micros) == (0, 5)
    assert desk.notify(BILL, first, 4_000) == NoticeOutcome.LATE
    assert desk.notify(BILL, first, 4_000) == NoticeOutcome.DUPLICATE
    assert desk.notify(WIN, second, 4_000) == NoticeOutcome.LATE
    assert desk.notify(LOSS, second) == NoticeOutcome.ACCEPTED
    assert desk.line().late_micros == 4
    assert desk.store.read("SELECT count(*) FROM ledger_reconciliation")[0][0] == 2


@pytest.mark.parametrize("clock", [-240_000, 240_000])
def test_a_sender_whose_clock_is_off_neither_ends_nor_prolongs_a_reservation(desk: Desk, clock: int) -> None:
    desk.ledger.set_account("adv/camp", mode=LedgerMode.EXPIRE, expire_after_ms=60_000)
    number = np.array([desk.ledger.account_number(LINE)], np.int32)
    (token,), _ = desk.ledger.reserve(number, np.array([5_000], np.int64), ["x"], desk.now + clock)
    assert token is not None
    desk.now += 59_000
    desk.ledger.tick(desk.now)
    assert desk.line().reserved_micros == 5
    desk.now += 2_000
    desk.ledger.tick(desk.now)
    assert desk.line().reserved_micros == 0
    assert desk.notify(BILL, token, 5_000) == NoticeOutcome.LATE


def test_a_token_of_a_restart_ago_still_settles(desk: Desk) -> None:
    tokens = desk.reserve(*[3_000] * 4)
    for drain, token in zip((True, False, True, False), tokens, strict=True):
        desk.restart(drain=drain)
        assert desk.line().reserved_micros > 0
        assert desk.notify(BILL, token, 3_000) == NoticeOutcome.ACCEPTED
    assert desk.line().billed_micros == 12


def test_a_lost_reservation_file_commits_whole_leases(desk: Desk) -> None:
    token, other = desk.reserve(5_000, 5_000)
    leased = desk.line().reserved_micros + desk.line().lease_unused_micros
    (desk.folder / "ledger.reservations").unlink()
    desk.restart(drain=False)
    assert desk.line().reserved_micros == leased
    assert desk.notify(BILL, token, 5_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(LOSS, other) == NoticeOutcome.ACCEPTED
    assert desk.line().reserved_micros == leased - 10
    bodies, _, _ = TokenKeys(desk.folder / "ledger.keys").verify([token])
    desk.ledger.close_lease(int(bodies["lease"][0]), "ann", "the bill file is complete")
    assert desk.line().reserved_micros == 0
    desk.restart(drain=False)
    assert (desk.line().billed_micros, desk.line().reserved_micros) == (5, 0)
    with pytest.raises(NotFoundError):
        desk.ledger.close_lease(12345, "ann", "no such lease")


def test_a_torn_reservation_file_is_not_trusted(desk: Desk) -> None:
    desk.reserve(5_000)
    path = desk.folder / "ledger.reservations"
    content = bytearray(path.read_bytes())
    content[56 + 8] ^= 1
    path.write_bytes(content)
    leased = desk.line().reserved_micros + desk.line().lease_unused_micros
    desk.restart(drain=False)
    assert desk.line().reserved_micros == leased


def test_brakes_hold_over_a_restart(desk: Desk) -> None:
    for exchange, advertiser in (("x", ""), ("", "adv"), ("", "")):
        desk.ledger.brake(exchange, advertiser, True, "runaway", "ann")
        assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
        assert desk.try_reserve(1_000, exchange="y")[1] == [Reason.OK if exchange else Reason.BRAKE]
        desk.restart()
        assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
        desk.ledger.brake(exchange, advertiser, False, "over", "ann")
        desk.reserve(1_000)
    with pytest.raises(NotFoundError):
        desk.ledger.brake("", "nobody", True, "typo")
    with pytest.raises(InvalidRequestError):
        desk.ledger.brake("x", "adv", True, "both")


def test_a_brake_of_another_process_is_seen_at_the_next_tick(desk: Desk) -> None:
    desk.reserve(1_000)
    other = Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)
    other.brake("", "adv", True, "from beside", "bob")
    desk.now += 200
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]


def test_maximum_bid_and_spend_rate(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LedgerConfig(max_bid_cpm_micros=10_000, max_micros_per_minute=25)).fill()
    assert desk.try_reserve(10_001, 10_000)[1] == [Reason.MAX_BID, Reason.OK]
    tokens = desk.reserve(*[10_000] * 3)
    for token in tokens[:2]:
        desk.notify(BILL, token, 10_000)
    desk.reserve(1_000)
    desk.notify(WIN, tokens[2], 10_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
    desk.restart(drain=False)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
    desk.ledger.brake("", "adv", False, "checked", "ann")
    desk.now += 60_000
    desk.reserve(1_000)
    desk.close()


def test_the_fence_stays_until_taken_away(desk: Desk) -> None:
    desk.ledger.fence("restored", "ann")
    desk.restart()
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]
    desk.ledger.unfence("ann", "reconciled with the exchange's bill")
    desk.reserve(1_000)


def test_a_restored_backup_comes_up_fenced(desk: Desk, tmp_path: Path) -> None:
    desk.reserve(1_000)
    desk.ledger.flush()
    backup = tmp_path / "backup.db"
    with sqlite3.connect(desk.store.path) as source, sqlite3.connect(backup) as target:
        source.backup(target)
    source.close()
    target.close()
    token = desk.reserve(900_000_000)[0]
    desk.ledger._owner.release()
    desk.ledger._books.native.freeze()
    desk.store.close()
    for left in desk.folder.glob("store.db*"):
        left.unlink()
    backup.rename(desk.store.path)
    desk.store = Store(desk.store.path)
    desk.ledger = Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)
    assert desk.ledger.try_acquire()
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]
    assert desk.notify(BILL, token, 900_000_000) == NoticeOutcome.LATE


def test_a_notice_of_an_unknown_lease_fences(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = Desk(tmp_path_factory.mktemp("elsewhere")).fill()
    token = elsewhere.reserve(1_000)[0]
    elsewhere.close()
    (desk.folder / "ledger.keys").write_bytes((elsewhere.folder / "ledger.keys").read_bytes())
    desk.restart()
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.LATE
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]


def test_forged_and_malformed_tokens(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    assert len(token) == TOKEN_LENGTH
    flipped = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    assert desk.notify(BILL, flipped, 1_000) == NoticeOutcome.FORGED
    for bad in ("", "x", token[:-1], token + "A", "é" * 100, "*" * 100, "A" * 100):
        assert desk.notify(BILL, bad, 1_000) == NoticeOutcome.REFUSED
    mixed = desk.ledger.notify([BILL, BILL, BILL], ["bad", token, flipped], [1, 1_000, 1], desk.now)
    assert mixed.tolist() == [NoticeOutcome.REFUSED, NoticeOutcome.ACCEPTED, NoticeOutcome.FORGED]
    assert desk.line().billed_micros == 1


def test_an_absurd_price_is_refused_and_kept(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    assert desk.notify(BILL, token, 2**62) == NoticeOutcome.REFUSED
    assert desk.store.read("SELECT count(*) FROM ledger_reconciliation") == [(1,)]


def test_keys_are_private_and_rotate(desk: Desk) -> None:
    path = desk.folder / "ledger.keys"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    token = desk.reserve(1_000)[0]
    desk.ledger.close()
    assert TokenKeys(path).rotate() == 2
    desk.restart()
    new = desk.reserve(1_000)[0]
    assert [desk.notify(BILL, text, 1_000) for text in (token, new)] == [NoticeOutcome.ACCEPTED] * 2
    path.write_text("{}")
    with pytest.raises(LedgerError, match="no key file"):
        TokenKeys(path)


def test_a_rate_is_frozen_in_the_token(desk: Desk) -> None:
    number = desk.ledger.account_number(LINE)
    tokens, _ = desk.ledger.reserve(
        np.array([number], np.int32), np.array([2_000], np.int64), ["x"], NOW, np.array([500_000], np.int64)
    )
    assert tokens[0] is not None
    assert desk.notify(BILL, tokens[0], 4_000) == NoticeOutcome.ACCEPTED
    assert desk.line().billed_micros == 2


def test_funds_are_idempotent_and_refunds_bounded(desk: Desk) -> None:
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
def test_bad_account_ids(desk: Desk, bad: str) -> None:
    with pytest.raises(InvalidRequestError):
        desk.ledger.set_account(bad)


def test_bad_settings_and_requests(desk: Desk) -> None:
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


def test_a_bid_that_never_left_gives_its_money_back(desk: Desk) -> None:
    token = desk.reserve(900_000_000)[0]
    desk.ledger.release_reservations([token, "junk"])
    assert desk.line().reserved_micros == 0
    desk.reserve(1_000_000_000)
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.LATE


def test_only_the_owner_moves_money_and_notices_wait_for_it(desk: Desk) -> None:
    token, other = desk.reserve(1_000, 1_000)
    second = Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)
    assert not second.try_acquire()
    number = np.array([second.account_number(LINE)], np.int32)
    assert second.reserve(number, np.array([1_000], np.int64), ["x"], NOW)[1].tolist() == [Reason.NOT_OWNER]
    with pytest.raises(LedgerNotOwnerError):
        second.close_reservation(token, "ann", "not here")
    assert second.notify([BILL, BILL], [token, "bad"], [1_000, 1], NOW).tolist() == [1, 7]
    desk.ledger.tick(desk.now)
    assert desk.line().billed_micros == 1
    second.notify([BILL], [other], [1_000], NOW)
    desk.ledger.close()
    assert second.try_acquire()
    second.tick(desk.now)
    assert second.accounts()[2].billed_micros == 2
    second.close()
    desk.restart()


def test_an_edit_is_in_an_audit_that_nobody_changes(desk: Desk) -> None:
    desk.ledger.set_account(LINE, lifetime_micros=5, who="ann", why="small test")
    row = desk.store.read("SELECT who, action, subject, why FROM ledger_audit ORDER BY audit_id DESC LIMIT 1")
    assert row == [("ann", "set_account", LINE, "small test")]
    for statement in ("UPDATE ledger_audit SET who = 'eve'", "DELETE FROM ledger_audit"):
        with pytest.raises(StoreError, match="immutable"):
            desk.store.write(lambda connection, statement=statement: connection.execute(statement))


def win_until_full(desk: Desk, tokens: list[str]) -> None:
    for _ in range(100):
        desk.ledger.notify([WIN] * 50, tokens[-50:], [900] * 50, desk.now)
        tokens += desk.reserve(*[1_000] * 50)


def test_a_full_disk_refuses_reservations_and_loses_nothing(desk: Desk) -> None:
    tokens = desk.reserve(*[1_000] * 50)
    desk.notify(BILL, tokens[0], 1_000)
    pages = desk.store.read("PRAGMA page_count")[0][0]
    desk.store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFullError):
        win_until_full(desk, tokens)
    assert desk.try_reserve(1_000)[1] == [Reason.JOURNAL_UNAVAILABLE]
    before = desk.ledger.accounts()
    with pytest.raises(StoreFullError):
        desk.notify(BILL, tokens[-1], 500)
    assert desk.ledger.accounts() == before
    desk.store._writer.execute("PRAGMA max_page_count = 1000000")
    desk.now += 1_000
    assert desk.try_reserve(1_000)[1] == [Reason.OK]
    held = desk.line().reserved_micros + desk.line().won_micros + desk.line().billed_micros
    assert held == len(tokens) + 1, "money of an open reservation was lost or doubled"
    assert desk.notify(BILL, tokens[-1], 500) == NoticeOutcome.ACCEPTED


def test_a_corrupt_journal_is_named(desk: Desk) -> None:
    desk.reserve(1_000)
    desk.ledger.flush()
    desk.store.write(lambda connection: connection.execute("UPDATE ledger_journal SET records = x'0102'"))
    desk.ledger._owner.release()
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)


def test_no_room_for_the_reservation_file(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("headrace.bidding.ledger_core.attach", full)
    desk.restart(drain=False)
    assert desk.try_reserve(1_000)[1] == [Reason.JOURNAL_UNAVAILABLE]
    monkeypatch.undo()
    desk.now += 1_000
    desk.reserve(1_000)


def test_settled_leases_leave_memory_and_come_back_for_late_notices(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LedgerConfig(snapshot_records=10)).fill()
    tokens = desk.reserve(*[1_500] * 40)
    for token in tokens[:39]:
        desk.notify(BILL, token, 1_500)
    desk.notify(LOSS, tokens[39])
    desk.now += 2 * DAY
    desk.reserve(1_000)
    desk.ledger.tick(desk.now)
    desk.ledger.flush()
    desk.ledger.tick(desk.now)
    desk.ledger.flush()
    desk.ledger._condense(desk.now).result()
    assert desk.store.read("SELECT count(*) FROM ledger_leases")[0][0] >= 1
    before = desk.line()
    assert desk.notify(BILL, tokens[0], 1_500) == NoticeOutcome.DUPLICATE
    assert desk.notify(BILL, tokens[39], 1_500) == NoticeOutcome.LATE
    desk.restart(drain=False)
    after = desk.line()
    assert (after.billed_micros, after.late_micros) == (before.billed_micros, 2)
    assert desk.notify(BILL, tokens[39], 1_500) == NoticeOutcome.DUPLICATE
    desk.close()


def test_many_threads_at_once(desk: Desk) -> None:
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                tokens = desk.reserve(*[2_000] * 25)
                outcomes = desk.ledger.notify([BILL] * 25, tokens, [2_000] * 25, desk.now)
                assert set(outcomes.tolist()) == {NoticeOutcome.ACCEPTED}
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert desk.line().billed_micros == 4 * 20 * 25 * 2
