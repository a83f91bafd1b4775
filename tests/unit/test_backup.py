"""Backups: consistent beside a writer, verified, whole or absent; a restored ledger is fenced and forgets no bill."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import AlreadyExistsError, DataError, NotFoundError, PreconditionError, StoreError
from headrace.events.log import EventLog, NewEvent
from headrace.events.migrations import LATEST
from headrace.events.store import DATABASE, Store
from headrace.ledger.ledger import Ledger, NoticeOutcome, NoticeType, Reason
from headrace.operations.backup import back_up, back_up_and_keep, verify
from headrace.operations.restore import SEQUENCE_GAP, restore

NOW = 1_700_000_000_000
LINE = "acme/spring/shoes"


class Shop:
    """A log and a ledger with one funded line item in a data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.store = Store(data / DATABASE)
        self.log = EventLog(self.store)
        self.ledger = Ledger(data, self.store, clock_ms=lambda: NOW)
        assert self.ledger.try_acquire()

    def fund(self) -> None:
        self.ledger.fund("deposit-1", "acme", 1_000_000)
        self.ledger.set_account(LINE)

    def bid(self, cpm: int) -> tuple[str | None, int]:
        number = np.array([self.ledger.account_number(LINE)], np.int32)
        tokens, reasons = self.ledger.reserve(number, np.array([cpm], np.int64), ["adx"], NOW)
        return tokens[0], int(reasons[0])

    def won(self, cpm: int) -> str:
        token, reason = self.bid(cpm)
        assert reason == Reason.OK
        assert token is not None
        return token

    def notify(self, kind: NoticeType, token: str, cpm: int) -> int:
        return int(self.ledger.notify([kind], [token], [cpm], NOW)[0])

    def buy(self, n: int, first: int = 0) -> None:
        self.log.append([NewEvent(f"e{first + i}", "u1", "", 3, "i1", NOW) for i in range(n)])

    def line(self):  # type: ignore[no-untyped-def]
        self.ledger.flush()
        return next(state for state in self.ledger.accounts() if state.account_id == LINE)

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "data")
    shop.fund()
    shop.buy(3)
    yield shop
    shop.close()


def test_a_backup_beside_a_running_writer_is_consistent_and_private(shop: Shop, tmp_path: Path) -> None:
    over = threading.Event()

    def write() -> None:
        n = 3
        while not over.is_set():
            shop.buy(2, n)
            n += 2

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifests = [back_up(shop.data, tmp_path / f"backup-{i}") for i in range(3)]
    finally:
        over.set()
        writer.join()
    for i, manifest in enumerate(manifests):
        folder = tmp_path / f"backup-{i}"
        assert verify(folder) == manifest
        assert {path.name for path in folder.iterdir()} == {DATABASE, "ledger.keys", "manifest.json", "manifest.sha256"}
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert folder.stat().st_mode & 0o777 == 0o700
        with closing(sqlite3.connect(folder / DATABASE)) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchone() == (manifest.event_sequence,)
        assert manifest.event_sequence % 2 == 1, "half of a commit"
        assert manifest.schema_version == LATEST


def test_the_money_of_bids_before_and_after_a_backup_is_told_after_a_restore(shop: Shop, tmp_path: Path) -> None:
    billed_before, open_before = shop.won(10_000), shop.won(20_000)
    assert shop.notify(NoticeType.BILLING, billed_before, 10_000) == NoticeOutcome.ACCEPTED
    shop.ledger.flush()
    back_up(shop.data, tmp_path / "backup")
    same_lease = shop.won(30_000)
    new_lease = shop.won(500_000_000)
    assert shop.notify(NoticeType.WIN, same_lease, 30_000) == NoticeOutcome.ACCEPTED
    shop.close()

    restored = restore(tmp_path / "backup", tmp_path / "again")
    assert restored.moved_to is None
    again = Shop(tmp_path / "again")
    try:
        assert again.bid(1_000)[1] == Reason.FENCED
        assert again.notify(NoticeType.BILLING, billed_before, 10_000) == NoticeOutcome.DUPLICATE
        assert again.notify(NoticeType.BILLING, open_before, 20_000) == NoticeOutcome.ACCEPTED
        assert again.notify(NoticeType.BILLING, same_lease, 30_000) == NoticeOutcome.ACCEPTED
        assert again.notify(NoticeType.BILLING, new_lease, 400_000_000) == NoticeOutcome.LATE
        again.ledger.check_invariant()
        assert again.line().billed_micros == 60
        assert again.line().late_micros == 400_000
        rows = again.store.read("SELECT token FROM ledger_reconciliation")
        assert rows == [(new_lease,)]
        reason = again.store.read("SELECT after FROM ledger_audit WHERE action = 'fence'")[0][0]
        assert reason.startswith("restored from the backup of ")
        again.ledger.unfence("ann", "reconciled")
        assert again.bid(1_000)[1] == Reason.OK
        again.ledger.check_invariant()
    finally:
        again.close()


def test_events_after_a_restore_take_numbers_that_were_never_given(shop: Shop, tmp_path: Path) -> None:
    back_up(shop.data, tmp_path / "backup")
    shop.buy(5, 3)
    shop.close()
    restore(tmp_path / "backup", tmp_path / "again")
    again = Shop(tmp_path / "again")
    try:
        assert again.log.log_id == shop.log.log_id
        assert again.log.sequence() == 3
        again.buy(1, 100)
        assert again.log.sequence() == 3 + SEQUENCE_GAP + 1
    finally:
        again.close()


def test_a_reservation_file_from_before_is_not_believed(shop: Shop, tmp_path: Path) -> None:
    back_up(shop.data, tmp_path / "backup")
    token = shop.won(10_000)
    left = (shop.data / "ledger.reservations").read_bytes()
    shop.close()
    restore(tmp_path / "backup", tmp_path / "again")
    (tmp_path / "again" / "ledger.reservations").write_bytes(left)
    again = Shop(tmp_path / "again")
    try:
        assert again.bid(1_000)[1] == Reason.FENCED
        assert again.notify(NoticeType.BILLING, token, 10_000) == NoticeOutcome.LATE
        again.ledger.check_invariant()
    finally:
        again.close()


def test_a_restore_moves_what_is_there_aside_only_when_told_and_never_under_a_server(
    shop: Shop, tmp_path: Path
) -> None:
    back_up(shop.data, tmp_path / "backup")
    with pytest.raises(AlreadyExistsError, match="--move-old"):
        restore(tmp_path / "backup", shop.data)
    with pytest.raises(PreconditionError, match="stop it first"):
        restore(tmp_path / "backup", shop.data, move_old=True)
    shop.close()
    restored = restore(tmp_path / "backup", shop.data, move_old=True)
    assert restored.moved_to is not None
    assert (restored.moved_to / "ledger.reservations").exists()
    assert {path.name for path in shop.data.iterdir()} == {DATABASE, "ledger.keys"}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_bad_input_a_backup_that_is_damaged(shop: Shop, tmp_path: Path) -> None:
    for name in (DATABASE, "ledger.keys", "manifest.json"):
        backup = tmp_path / f"broken-{name}"
        back_up(shop.data, backup)
        raw = bytearray((backup / name).read_bytes())
        raw[len(raw) // 2] ^= 1
        (backup / name).write_bytes(raw)
        with pytest.raises(DataError, match=name):
            restore(backup, tmp_path / "again")
    (backup / DATABASE).unlink()
    with pytest.raises(DataError, match=r"manifest|No such file"):
        restore(backup, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_bad_input_no_backup_no_data_and_a_later_version(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="headrace backup made"):
        restore(tmp_path, tmp_path / "again")
    with pytest.raises(NotFoundError, match=DATABASE):
        back_up(tmp_path / "nowhere", tmp_path / "backup")
    shop.store.write(lambda connection: connection.execute(f"PRAGMA user_version = {LATEST + 1}"))
    with pytest.raises(StoreError, match="later version"):
        back_up(shop.data, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_backup_replaces_only_a_backup_and_only_when_told(shop: Shop, tmp_path: Path) -> None:
    target, other = tmp_path / "backup", tmp_path / "mine"
    first = back_up(shop.data, target)
    shop.buy(1, 50)
    with pytest.raises(AlreadyExistsError, match="--overwrite"):
        back_up(shop.data, target)
    assert back_up(shop.data, target, overwrite=True).event_sequence == first.event_sequence + 1
    other.mkdir()
    (other / "thesis.txt").write_text("dear")
    with pytest.raises(AlreadyExistsError):
        back_up(shop.data, other, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "data", "mine"]


def test_the_newest_are_kept(shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "backups"
    root.mkdir()
    (root / "notes").mkdir()
    made = [back_up_and_keep(shop.data, root, 2) for _ in range(3)]
    assert sorted(path.name for path in root.iterdir()) == [made[1].name, made[2].name, "notes"]


def test_a_process_that_stood_by_does_not_bid_past_the_fence_from_the_old_books(shop: Shop, tmp_path: Path) -> None:
    store = Store(shop.data / DATABASE)
    standby = Ledger(shop.data, store, clock_ms=lambda: NOW)
    try:
        assert not standby.try_acquire()
        back_up(shop.data, tmp_path / "backup")
        shop.close()
        restore(tmp_path / "backup", shop.data, move_old=True)
        with pytest.raises(StoreError, match="replaced"):
            standby.try_acquire()
        assert not standby.owned
        with pytest.raises(StoreError, match="replaced"):
            store.write(lambda connection: connection.execute("CREATE TABLE kept(n INTEGER)"))
        again = Shop(shop.data)  # nobody is in its way
        assert again.bid(1_000)[1] == Reason.FENCED
        again.close()
    finally:
        standby.close()
        store.close()
