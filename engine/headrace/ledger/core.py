"""The ledger's moving parts: who owns it, what it reserves, how notices settle, and what happens by time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.errors import HeadraceError, LedgerError, LedgerNotOwnerError, StoreError
from headrace.events.store import Store
from headrace.ledger.books import Books
from headrace.ledger.budgets import put_brake, put_fence
from headrace.ledger.exchanges import Exchanges, number_exchanges
from headrace.ledger.journal import Extra, Journal, Query, archived_lease, create_tables
from headrace.ledger.notices import PENDING_AT_ONCE, NoticeBatch, keep_apart, needs_apart, read_notices
from headrace.ledger.recovery import LedgerConfig, attach, ledger_id, load_view, open_keys, recover
from headrace.ledger.reservations import Reason, Reservations
from headrace.ledger.sql import Sql
from headrace.locks import OwnerLock
from headrace.types import Int8, Int32, Int64

TICK_MS = 200
VIEW_MS = 1000
RETIRE_MS = 3600 * 1000
ATTEMPTS = 8
"""Leases that one batch asks for in turn before a budget that others keep taking counts as used up."""


class LedgerCore:
    """Owns the native ledger, its journal and its reservation file; tokens and operators' calls are built on it."""

    def __init__(self, data_dir: Path, store: Store, clock_ms: Callable[[], int], config: LedgerConfig) -> None:
        self.config = config
        data_dir.mkdir(parents=True, exist_ok=True)
        self._store = store
        self._query: Query = store.read
        self._clock_ms = clock_ms
        self._owner = OwnerLock(data_dir / "ledger.lock")
        self._reservations = data_dir / "ledger.reservations"
        self._lock = threading.RLock()
        self._journal = Journal(store, clock_ms)
        self._owned = False
        self._failure: Exception = StoreError("the ledger has not been acquired")
        self._retry_at = self._ticked_at = self._viewed_at = self._first_lease = 0
        self._condensed: Future[int] = Future()
        self._condensed.set_result(0)
        store.write(create_tables)
        self._ledger_id = store.write(ledger_id)
        self._keys = open_keys(store, data_dir / "ledger.keys", clock_ms())
        self._books = self._view()

    # -- ownership

    @property
    def owned(self) -> bool:
        """Whether this process reserves and settles."""
        return self._owned

    def try_acquire(self) -> bool:
        """Become the owner unless another process is; recovers the state. True when this process owns the ledger.

        Raises LedgerError when the journal cannot be read, StoreError when it is not that of the folder any more.
        """
        with self._lock:
            if not self._owned:
                self._store.check_place()  # the lock of a restored folder is no leave to bid from the old one's books
                if not self._owner.try_acquire():
                    return False
                self._owned = True
                try:
                    self._recover()
                except BaseException:
                    self._owned = False
                    self._owner.release()
                    raise
            return True

    def release(self) -> None:
        """Stop reserving, return leases, record open reservations, let the next owner in."""
        with self._lock:
            if not self._owned:
                return
            native = self._books.native
            native.set_closed(Reason.NOT_OWNER)
            try:
                if not self._journal.broken:
                    for number, row in self._books.rows.items():
                        if row.parent < 0:
                            native.recall(number)
                    native.record_open()
                    self._commit(self._books).result()
                    self._condense(self._clock_ms()).result()
            except HeadraceError as error:
                self._failure = error  # the next owner recovers as after a kill
            finally:
                self._resign()

    def _resign(self) -> None:
        self._books.native.freeze()
        self._journal.broken = True
        self._owned = False
        self._owner.release()

    def close(self) -> None:
        """Release; the store stays open, it is the caller's."""
        self.release()

    def _need_owner(self) -> None:
        if not self._owned:
            raise LedgerNotOwnerError("the ledger", "owned by another process", "this one to own it", "ask the owner")

    def _recover(self) -> None:
        """Rebuild the state from the tables and the reservation file, as at a start. The caller holds the lock."""
        self._books.native.freeze()
        now_ms = self._clock_ms()
        try:
            recovered = self._store.write(lambda link: recover(link, self._reservations, self.config, now_ms))
            attach(recovered, self._reservations, self._ledger_id)
            self._journal.open(recovered.epoch)
        except LedgerError:
            raise
        except HeadraceError as error:
            self._failure = error
            self._retry_at = now_ms + self.config.retry_ms
            self._books = self._view()
            return
        self._first_lease = recovered.first_lease
        recovered.books.native.set_closed(self._closed(recovered.books))
        self._books = recovered.books

    def _view(self) -> Books:
        """The state for reading only."""
        self._viewed_at = now_ms = self._clock_ms()
        books = load_view(self._query, self.config, now_ms)
        books.native.freeze()
        return books

    def _working(self) -> bool:
        """Whether the journal can be written, after another attempt when one is due."""
        if not self._journal.broken:
            return True
        with self._lock:
            due = not self._retry_at - self.config.retry_ms <= self._clock_ms() < self._retry_at
            if self._owned and not self._owner.intact():
                self._resign()
            elif self._owned and self._journal.broken and due:
                self._recover()
            return not self._journal.broken

    def _refresh(self) -> None:
        """Take over changed settings; the owner's come into force at once."""
        with self._lock:
            if not self._owned or self._journal.broken:
                self._books.native.freeze()  # whoever still holds it must reserve nothing that recovery does not see
                self._books = self._view()
                return
            self._take_settings(self._books, self._clock_ms())
            self._commit(self._books)

    def _take_settings(self, books: Books, now_ms: int) -> None:
        books.refresh(self._query)
        books.ensure_days(now_ms)
        books.native.set_closed(self._closed(books))

    def _closed(self, books: Books) -> Reason:
        """Why nothing at all is reserved; OK where it is."""
        return Reason.FENCED if books.fenced else Reason.OK

    # -- the journal

    def _commit(self, books: Books, ticket: int = 0, extra: Extra | None = None) -> Future[int]:
        """Commit all records so far; then the money that the ticket's records set free may be used again."""
        native = books.native

        def then(sequence: int) -> None:
            if ticket:
                native.confirm(ticket)
            if sequence:
                native.mark_committed(sequence)

        return self._journal.submit(native.take_records, then, extra)

    def flush(self) -> None:
        """Wait until all that this owner did so far is committed. Raises StoreError when it cannot be."""
        self._commit(self._books).result()

    def _condense(self, now_ms: int) -> Future[int]:
        """Write a snapshot of the state, move finished leases out of memory, drop journal rows past the window."""
        native = self._books.native
        with self._lock:
            retired = native.retirable(now_ms - RETIRE_MS)
            leases = [(lease, now_ms, native.lease_records(lease)) for lease in retired]
            native.forget(retired)
            oldest_ms = now_ms - self.config.billing_window_ms
            self._condensed = self._journal.condense(native.snapshot, leases, oldest_ms)
            return self._condensed

    # -- reserve

    def take(self, accounts: Int32, cpm: Int64, exchanges: Int32, now_ms: int) -> Reservations:
        """Reserve without building tokens.

        accounts : (n,) int32 account numbers of line items.
        cpm : (n,) int64, micros per thousand impressions, > 0; ceil(cpm / 1000) micros are reserved.
        exchanges : (n,) int32 codes of `exchange_codes`.
        """
        n = len(accounts)
        reasons = np.full(n, 7, np.int8)  # NEED_LEASE; an enum member costs 6 us here
        columns = Reservations(reasons, np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int32))
        if not self._owned:
            reasons[:] = Reason.NOT_OWNER
            return columns
        self._tick_when_due(self._clock_ms())  # what requests say of the time ends no reservation
        if not self._working():
            reasons[:] = Reason.JOURNAL_UNAVAILABLE
            return columns
        books = self._books
        if not books.days_hold(now_ms):
            with self._lock:
                books.ensure_days(now_ms)
        self._take(books, accounts, cpm, exchanges, now_ms, columns)
        return columns

    def _take(
        self, books: Books, accounts: Int32, cpm: Int64, exchanges: Int32, now_ms: int, columns: Reservations
    ) -> None:
        for _ in range(ATTEMPTS):
            todo = books.native.reserve(accounts, cpm, exchanges, now_ms, self._clock_ms(), *columns)
            if todo == 0:
                return
            committed = self._lease(books, now_ms)
            if todo == 1:
                return
            try:
                committed.result()
            except Exception as error:
                self._failure = error
                columns.reasons[columns.reasons == Reason.NEED_LEASE] = Reason.JOURNAL_UNAVAILABLE
                return
        columns.reasons[columns.reasons == Reason.NEED_LEASE] = Reason.BUDGET

    def _lease(self, books: Books, now_ms: int) -> Future[int]:
        """Grant the leases asked for; they may be used once their records are committed."""
        native = books.native
        granted: list[int] = []

        def take() -> bytes:
            granted.extend(native.plan(now_ms, max(now_ms * 1024, self._first_lease)))
            return native.take_records()

        def then(sequence: int) -> None:
            native.activate(granted)
            if sequence:
                native.mark_committed(sequence)

        return self._journal.submit(take, then)

    def exchange_codes(self, names: Sequence[str]) -> Int32:
        """Dense numbers of exchanges' names for `take`, (n,) int32; they hold until the next brake or recovery.

        The owner gives a name that it meets for the first time a number of its own, and waits for that commit.
        """
        books = self._books
        if self._owned and not (books.exchanges.full or self._journal.broken):
            new = set(names).difference(books.exchanges.numbers)
            if new:
                self._number(books, sorted(new))
        return books.exchange_codes(names)

    def _number(self, books: Books, names: Sequence[str]) -> None:
        with suppress(HeadraceError):  # the next commit fails, too, and says so; until then the number is 0: not known
            numbers = self._store.write(lambda connection: number_exchanges(connection, names))
            books.know_exchanges(Exchanges(numbers))

    # -- settle

    def _apply(self, batch: NoticeBatch, now_ms: int, extra: Extra | None = None) -> None:
        """Settle a batch; returns after the commit. Raises StoreError when there was none."""
        if not self._working():
            raise self._failure
        rows = batch.rows
        with self._lock:
            books = self._books
            outcomes = np.zeros(len(rows), np.int8)
            ticket = self._settle(books, batch, rows, now_ms, outcomes)
            batch.outcomes[rows] = outcomes
            tripped = [books.rows[root].account_id for root in books.native.take_tripped()]

            def more(connection: Sql, sequence: int) -> None:
                keep_apart(connection, batch, now_ms)
                for advertiser_id in tripped:
                    put_brake(connection, "", advertiser_id, True, (now_ms, "ledger", "spent too much in one minute"))
                if extra is not None:
                    extra(connection, sequence)

            wanted = more if extra is not None or tripped or needs_apart(batch) else None
            committed = self._commit(books, ticket, wanted)
        committed.result()
        if tripped:
            self._refresh()
        if books.native.take_unknown_lease() and not books.fenced:
            self._fence("a valid notice names a lease that the store does not know", "ledger", "found at settlement")

    def _settle(self, books: Books, batch: NoticeBatch, rows: npt.NDArray[np.intp], now_ms: int, outcomes: Int8) -> int:
        bodies = batch.bodies[rows]
        for lease in set(bodies["lease"].tolist()):
            if not books.native.has_lease(lease):
                records = self._archived(lease)
                if records is not None:
                    books.native.restore(records)
        try:
            return books.native.settle(
                batch.types[rows],
                np.ascontiguousarray(bodies["account"], np.int32),
                np.ascontiguousarray(bodies["lease"], np.int64),
                np.ascontiguousarray(bodies["serial"], np.int64),
                np.ascontiguousarray(bodies["day"], np.int32),
                np.ascontiguousarray(bodies["cpm"], np.int64),
                batch.prices[rows],
                books.exchanges.tags(bodies["exchange"]),
                now_ms,
                outcomes,
            )
        except (RuntimeError, OverflowError) as error:
            self._journal.broken = True
            self._failure = StoreError(f"notices cannot be settled now: {error}", hint="send them again")
            raise self._failure from error

    def _archived(self, lease: int) -> bytes | None:
        """The records of a lease that has left memory; it may be on its way to the disk just now."""
        with suppress(HeadraceError):
            self._condensed.result()
        return archived_lease(self._query, lease)

    # -- time

    def tick(self, now_ms: int) -> None:
        """What the owner does by time: expiry, changed settings, notices left by others, snapshots.

        Call it a few times a second. Does nothing in a process that does not own the ledger.
        """
        with self._lock:
            working = self._pass(now_ms)
        if working:
            self._apply_pending(now_ms)

    def _pass(self, now_ms: int) -> bool:
        """What needs no waiting for the disk; the caller holds the lock. Whether this process settles."""
        self._ticked_at = now_ms
        if self._owned and not self._owner.intact():
            self._resign()
        if not self._owned or not self._working():
            return False
        books = self._books
        self._take_settings(books, now_ms)
        self._commit(books, books.native.expire(self._heard_until(now_ms)))
        if self._journal.n_records > self.config.snapshot_records:
            self._condense(now_ms)
        return True

    def _heard_until(self, now_ms: int) -> int:
        """The moment up to which all notices are known here: what has none by then may expire."""
        return now_ms

    def _tick_when_due(self, now_ms: int) -> None:
        if abs(now_ms - self._ticked_at) < TICK_MS or not self._lock.acquire(blocking=False):
            return
        try:
            self._pass(now_ms)
        finally:
            self._lock.release()

    def _fence(self, reason: str, who: str, why: str) -> None:
        self._store.write(lambda connection: put_fence(connection, reason, (self._clock_ms(), who, why)))
        self._refresh()

    def _apply_pending(self, now_ms: int) -> None:
        """Settle what came to processes that did not own the ledger."""
        rows = self._store.read(
            "SELECT notice_id, notice_type, token, price_cpm_micros, time_ms FROM ledger_notices_pending "
            "ORDER BY notice_id LIMIT ?",
            (PENDING_AT_ONCE,),
        )
        if not rows:
            return
        _, types, tokens, prices, came_ms = zip(*rows, strict=True)
        oldest_ms = np.array(came_ms, np.int64) - self.config.billing_window_ms
        batch = read_notices(self._keys, types, tokens, prices, oldest_ms)
        self._apply(
            batch,
            now_ms,
            lambda connection, _: connection.execute(
                "DELETE FROM ledger_notices_pending WHERE notice_id <= ?", (rows[-1][0],)
            ),
        )
