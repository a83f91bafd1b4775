"""What notices do to reservations, by hand-computed tables."""

from __future__ import annotations

import os
import stat
import threading
from typing import Any

import numpy as np
import pytest

from headrace.errors import LedgerError, LedgerNotOwnerError
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.ledger import Ledger, NoticeOutcome, Reason
from headrace.ledger.tokens import TOKEN_LENGTH, TokenKeys

NOW = 1_800_000_000_000
WIN, BILL, LOSS = 1, 2, 3
DAY = 86_400_000
LINE = "adv/camp/line"


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
def test_any_order_of_notices(desk: Any, said: list[tuple[int, int | None]], answered: str, amounts: Any) -> None:
    token = desk.reserve(2_500)[0]
    assert [desk.notify(kind, token, price).name for kind, price in said] == answered.split()
    line = desk.line()
    found = (line.billed_micros, line.won_micros, line.reserved_micros, line.late_micros, line.disputed_micros)
    assert found == amounts
    desk.restart(drain=False)
    assert desk.line().billed_micros == amounts[0]
    assert desk.line().disputed_micros == amounts[4]


def test_reserves_up_and_rounds_bills_once_a_lease(desk: Any) -> None:
    tokens = desk.reserve(*[100] * 30)
    assert desk.line().reserved_micros == 30
    for token in tokens:
        desk.notify(BILL, token, 100)
    assert desk.line().billed_micros == 3


def test_hold_mode_keeps_and_reports_stranded_money(desk: Any) -> None:
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


def test_expire_mode_gives_back_and_keeps_late_bills_apart(desk: Any) -> None:
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
def test_a_sender_whose_clock_is_off_neither_ends_nor_prolongs_a_reservation(desk: Any, clock: int) -> None:
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


def test_a_notice_of_an_unknown_lease_fences(desks: Any, desk: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = desks.Desk(tmp_path_factory.mktemp("elsewhere")).fill()
    token = elsewhere.reserve(1_000)[0]
    elsewhere.close()
    (desk.folder / "ledger.keys").write_bytes((elsewhere.folder / "ledger.keys").read_bytes())
    desk.restart()
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.LATE
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]


def test_forged_and_malformed_tokens(desk: Any) -> None:
    token = desk.reserve(1_000)[0]
    assert len(token) == TOKEN_LENGTH
    flipped = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    assert desk.notify(BILL, flipped, 1_000) == NoticeOutcome.FORGED
    for bad in ("", "x", token[:-1], token + "A", "é" * 100, "*" * 100, "A" * 100):
        assert desk.notify(BILL, bad, 1_000) == NoticeOutcome.REFUSED
    mixed = desk.ledger.notify([BILL, BILL, BILL], ["bad", token, flipped], [1, 1_000, 1], desk.now)
    assert mixed.tolist() == [NoticeOutcome.REFUSED, NoticeOutcome.ACCEPTED, NoticeOutcome.FORGED]
    assert desk.line().billed_micros == 1


def test_an_absurd_price_is_refused_and_kept(desk: Any) -> None:
    token = desk.reserve(1_000)[0]
    assert desk.notify(BILL, token, 2**62) == NoticeOutcome.REFUSED
    assert desk.store.read("SELECT count(*) FROM ledger_reconciliation") == [(1,)]


def test_keys_are_private_and_rotate(desk: Any) -> None:
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


def test_a_rate_is_frozen_in_the_token(desk: Any) -> None:
    number = desk.ledger.account_number(LINE)
    tokens, _ = desk.ledger.reserve(
        np.array([number], np.int32), np.array([2_000], np.int64), ["x"], NOW, np.array([500_000], np.int64)
    )
    assert tokens[0] is not None
    assert desk.notify(BILL, tokens[0], 4_000) == NoticeOutcome.ACCEPTED
    assert desk.line().billed_micros == 2


def test_a_bid_that_never_left_gives_its_money_back(desk: Any) -> None:
    token = desk.reserve(900_000_000)[0]
    desk.ledger.release_reservations([token, "junk"])
    assert desk.line().reserved_micros == 0
    desk.reserve(1_000_000_000)
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.LATE


def test_only_the_owner_moves_money_and_notices_wait_for_it(desk: Any) -> None:
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


def test_many_threads_at_once(desk: Any) -> None:
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
