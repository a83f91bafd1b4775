"""Restarts, lost and torn files, full disks, and what left memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import LedgerError, NotFoundError, StoreError, StoreFullError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, Reason
from headrace.ledger.tokens import TokenKeys

WIN, BILL, LOSS = 1, 2, 3
DAY = 86_400_000


def test_a_token_of_a_restart_ago_still_settles(desk: Any) -> None:
    tokens = desk.reserve(*[3_000] * 4)
    for drain, token in zip((True, False, True, False), tokens, strict=True):
        desk.restart(drain=drain)
        assert desk.line().reserved_micros > 0
        assert desk.notify(BILL, token, 3_000) == NoticeOutcome.ACCEPTED
    assert desk.line().billed_micros == 12


def test_a_lost_reservation_file_commits_whole_leases(desk: Any) -> None:
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


def test_a_torn_reservation_file_is_not_trusted(desk: Any) -> None:
    desk.reserve(5_000)
    path = desk.folder / "ledger.reservations"
    content = bytearray(path.read_bytes())
    content[56 + 8] ^= 1
    path.write_bytes(content)
    leased = desk.line().reserved_micros + desk.line().lease_unused_micros
    desk.restart(drain=False)
    assert desk.line().reserved_micros == leased


def test_a_restored_backup_comes_up_fenced(desk: Any, tmp_path: Path) -> None:
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


def win_until_full(desk: Any, tokens: list[str]) -> None:
    for _ in range(100):
        desk.ledger.notify([WIN] * 50, tokens[-50:], [900] * 50, desk.now)
        tokens += desk.reserve(*[1_000] * 50)


def test_a_full_disk_refuses_reservations_and_loses_nothing(desk: Any) -> None:
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


def test_a_corrupt_journal_is_named(desk: Any) -> None:
    desk.reserve(1_000)
    desk.ledger.flush()
    desk.store.write(lambda connection: connection.execute("UPDATE ledger_journal SET records = x'0102'"))
    desk.ledger._owner.release()
    with pytest.raises(LedgerError, match="cannot be read"):
        Ledger(desk.folder, desk.store, clock_ms=lambda: desk.now)


def test_no_room_for_the_reservation_file(desk: Any) -> None:
    token, other = desk.reserve(1_000, 2_000)
    in_the_way = desk.folder / "ledger.reservations.new"
    in_the_way.mkdir()  # where the system refuses to make the file
    desk.restart(drain=False)
    assert desk.try_reserve(1_000)[1] == [Reason.JOURNAL_UNAVAILABLE]
    with pytest.raises(StoreError, match=r"ledger\.reservations\.new"):
        desk.notify(BILL, token, 1_000)
    in_the_way.rmdir()
    desk.now += 1_000
    desk.reserve(3_000)
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(LOSS, other) == NoticeOutcome.ACCEPTED
    assert (desk.line().billed_micros, desk.line().reserved_micros) == (1, 3)


def test_settled_leases_leave_memory_and_come_back_for_late_notices(desks: Any, tmp_path: Path) -> None:
    desk = desks.Desk(tmp_path, LedgerConfig(snapshot_records=10)).fill()
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
