"""The money ledger: reserves before a bid, settles by notices, and never loses a micro that it answered for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from headrace.counters import Counts
from headrace.errors import InvalidRequestError, LedgerError, NotFoundError, PreconditionError
from headrace.events.store import Store
from headrace.ledger.books import AccountState, Books
from headrace.ledger.budgets import (
    SettingsPatch,
    audit,
    balance_of,
    check_entry,
    find_account,
    put_account,
    put_accounts,
    put_brake,
    put_fund,
)
from headrace.ledger.core import VIEW_MS
from headrace.ledger.fates import FatesLedger
from headrace.ledger.journal import query_of
from headrace.ledger.notices import (
    MAX_CPM_MICROS,
    NoticeOutcome,
    NoticeType,
    checked_rates,
    queue_notices,
    read_notices,
    whole,
)
from headrace.ledger.recovery import LedgerConfig
from headrace.ledger.reservations import Reason, Reservations
from headrace.ledger.sql import Sql
from headrace.ledger.tokens import BODY, SAME_CURRENCY
from headrace.types import Int8, Int32, Int64

__all__ = ["AccountState", "Ledger", "LedgerConfig", "NoticeOutcome", "NoticeType", "Reason", "Reservations"]


class Ledger(FatesLedger):
    """One ledger over one store and one data directory; many processes may open it, one at a time owns it.

    ``shared`` : whether its accounts are those of an authority that other ledgers spend from, too.

    data_dir : holds ledger.lock, ledger.keys and ledger.reservations.
    clock_ms : the present moment, ms since 1970 UTC, for what has no `now_ms` of its own.

    Attribute `outcomes` counts notices by outcome. Thread-safe. Call `try_acquire` and `tick` a few times a second.
    """

    shared = False

    def __init__(
        self, data_dir: Path, store: Store, *, clock_ms: Callable[[], int], config: LedgerConfig | None = None
    ) -> None:
        super().__init__(data_dir, store, clock_ms, config or LedgerConfig())
        self.outcomes = Counts(len(NoticeOutcome) + 1)

    # -- reserve

    def reserve(
        self,
        account_numbers: Int32,
        amounts_cpm: Int64,
        exchanges: Sequence[str],
        now_ms: int,
        rates_micros: Int64 | None = None,
    ) -> tuple[list[str | None], Int8]:
        """Reserve money for bids, each from its whole path or not at all.

        account_numbers : (n,) int32, line items.
        amounts_cpm : (n,) int64, micros of the account's currency per thousand impressions, 1 to 10**15.
        exchanges : n names.
        rates_micros : (n,) int64, micros of the account's currency for one unit of the exchange's, frozen in the token;
            None: the same currency.

        Returns n tokens (None where refused) and (n,) int8 of `Reason`. Waits for a commit only when a lease is used up
        sooner than it could be renewed. Raises InvalidRequestError.
        """
        accounts = np.ascontiguousarray(account_numbers, np.int32)
        cpm = np.ascontiguousarray(whole("amounts_cpm", amounts_cpm), np.int64)
        numbers, amounts = accounts.tolist(), cpm.tolist()
        self._check_reserve(numbers, amounts, exchanges)
        rates = SAME_CURRENCY if rates_micros is None else checked_rates(rates_micros)
        if self._owned:
            self._tick_when_due(self._clock_ms())  # before the codes: a new brake gives its exchange one
        columns = self.take(accounts, cpm, self.exchange_codes(exchanges), now_ms)
        try:
            return self._tokens(columns, accounts, cpm, exchanges, rates, now_ms), columns.reasons
        except BaseException:
            taken = columns.reasons == Reason.OK
            self._give_back(columns.leases[taken], columns.serials[taken])
            raise

    def _tokens(
        self,
        columns: Reservations,
        accounts: Int32,
        cpm: Int64,
        exchanges: Sequence[str],
        rates: Int64 | int,
        now_ms: int,
    ) -> list[str | None]:
        n, books = len(accounts), self._books
        bodies = np.empty(n, BODY)
        bodies["account"], bodies["cpm"], bodies["rate"], bodies["issued_ms"] = accounts, cpm, rates, now_ms
        bodies["lease"], bodies["serial"], bodies["day"] = columns.leases, columns.serials, columns.days
        every = books.every_currency
        one_currency = len(every) == 1  # as nearly always; the lookups would cost as much as a signature
        bodies["currency"] = next(iter(every)) if one_currency else [books.currencies[at] for at in accounts.tolist()]
        one_exchange = exchanges and exchanges.count(exchanges[0]) == n
        hash_of = books.exchange_hash
        bodies["exchange"] = hash_of(exchanges[0]) if one_exchange else [hash_of(name) for name in exchanges]
        if not any(columns.reasons.tolist()):
            return list(self._keys.issue(bodies))
        tokens: list[str | None] = [None] * n
        rows = np.flatnonzero(columns.reasons == Reason.OK)
        for row, token in zip(rows.tolist(), self._keys.issue(bodies[rows]), strict=True):
            tokens[row] = token
        return tokens

    def _check_reserve(self, numbers: list[int], amounts: list[int], exchanges: Sequence[str]) -> None:
        sizes = len(numbers), len(amounts), len(exchanges)
        if len(set(sizes)) > 1:
            raise InvalidRequestError("reservations", sizes, "as many accounts as amounts and exchanges")
        if amounts and not (min(amounts) >= 1 and max(amounts) <= MAX_CPM_MICROS):
            raise InvalidRequestError("amounts_cpm", (min(amounts), max(amounts)), f"1 to {MAX_CPM_MICROS}")
        if self._owned and not self._books.leaves.issuperset(numbers):
            unknown = sorted(set(numbers) - self._books.leaves)
            raise InvalidRequestError("account_numbers", unknown, "numbers of line items")

    def expect(self, accounts: Int32) -> None:
        """Hear which line items will be bid for, (n,) int32. A ledger on its own has nothing to prepare for them."""

    def own_tokens(self, tokens: Sequence[str]) -> list[str]:
        """Those that were signed with a key of this ledger."""
        _, malformed, forged = self._keys.verify(tokens)
        return [tokens[row] for row in np.flatnonzero(~(malformed | forged)).tolist()]

    def release_reservations(self, tokens: Sequence[str]) -> None:
        """Give back the money of bids that never left the process. Anything but a live token is ignored."""
        if not self._owned:
            return
        bodies, malformed, forged = self._keys.verify(tokens)
        good = bodies[~(malformed | forged)]
        self._give_back(good["lease"], good["serial"])

    def _give_back(self, leases: npt.NDArray[Any], serials: npt.NDArray[Any]) -> None:
        leases, serials = np.ascontiguousarray(leases, np.int64), np.ascontiguousarray(serials, np.int64)
        books = self._books
        ticket = books.native.release(leases, serials, self._clock_ms())
        if ticket:
            self._commit(books, ticket)

    # -- settle

    def notify(
        self,
        types: Sequence[int] | Int8,
        tokens: Sequence[str],
        prices_cpm: Sequence[int | None] | Int64,
        now_ms: int,
        minimums_cpm: Sequence[int | None] | Int64 | None = None,
    ) -> Int8:
        """Settle notices: (n,) int8 of `NoticeOutcome`, after the commit.

        prices_cpm : what is paid, micros per thousand impressions; None or -1: not known.
        minimums_cpm : likewise, the lowest bids that would have won: no money, but carried along to who bid.

        In a process that does not own the ledger the notices are kept for the owner and ACCEPTED.
        Raises InvalidRequestError, and StoreError when nothing was committed: send them again.
        """
        oldest_ms = now_ms - self.config.billing_window_ms
        batch = read_notices(self._keys, types, tokens, prices_cpm, oldest_ms, minimums_cpm=minimums_cpm)
        if self._owned:
            self._tick_when_due(now_ms)
            self._apply(batch, now_ms)
        else:
            self._store.write(lambda connection: queue_notices(connection, batch, prices_cpm, now_ms))
            batch.outcomes[batch.rows] = NoticeOutcome.ACCEPTED
        self.outcomes.add(batch.outcomes)
        return batch.outcomes

    def close_reservation(self, token: str, who: str, why: str, price_cpm: int | None = None) -> NoticeOutcome:
        """End a held reservation by hand: as lost, or as billed at a price up to what it reserved. Audited.

        Raises LedgerNotOwnerError, StoreError.
        """
        return self.close_reservations([token], who, why, [price_cpm])[0]

    def close_reservations(
        self, tokens: Sequence[str], who: str, why: str, prices_cpm: Sequence[int | None]
    ) -> list[NoticeOutcome]:
        """`close_reservation` for many in one commit, each audited: all of them or none."""
        self._need_owner()
        now_ms = self._clock_ms()
        kinds = [NoticeType.CLOSE_LOST if price is None else NoticeType.CLOSE_BILLED for price in prices_cpm]
        batch = read_notices(self._keys, kinds, tokens, prices_cpm, 0, highest=NoticeType.CLOSE_BILLED)

        def write_audit(connection: Sql, _: int) -> None:
            for kind, token, price in zip(kinds, tokens, prices_cpm, strict=True):
                audit(connection, now_ms, who, "close", token, ("", f"{kind.name} {price}"), why)

        self._apply(batch, now_ms, write_audit)
        return [NoticeOutcome(outcome) for outcome in batch.outcomes.tolist()]

    def close_lease(self, lease_id: int, who: str, why: str) -> None:
        """Give back what a lease holds for reservations lost with the power; audited.

        Raises NotFoundError when it holds nothing, LedgerNotOwnerError, StoreError.
        """
        self._need_owner()
        now_ms = self._clock_ms()
        with self._lock:
            if not self._working():
                raise self._failure
            if not self._books.native.close_pool(lease_id):
                raise NotFoundError("lease_id", lease_id, "a lease that holds money of unknown reservations")
            committed = self._commit(
                self._books,
                extra=lambda connection, _: audit(
                    connection, now_ms, who, "close_lease", str(lease_id), ("", "returned"), why
                ),
            )
        committed.result()

    # -- reports

    def spendable(self, account_numbers: Int32, now_ms: int | None = None) -> Int64:
        """What each account may still reserve, leases included: (n,) int64 micros; 0 outside its flight.

        now_ms : the moment whose budget day counts; left out: now.
        """
        moment = self._clock_ms() if now_ms is None else now_ms
        return self._on_day(moment).spendable(account_numbers, moment)

    def spent(self, account_numbers: Int32) -> Int64:
        """What each account was billed and has won, in all: (n,) int64 micros."""
        return self._books.spent(account_numbers, today=False)

    def spent_today(self, account_numbers: Int32, now_ms: int | None = None) -> Int64:
        """The same of reservations of the budget day of a moment, the present one when left out: (n,) int64 micros."""
        moment = self._clock_ms() if now_ms is None else now_ms
        return self._on_day(moment).spent(account_numbers, today=True)

    def _on_day(self, now_ms: int) -> Books:
        books = self._books
        if self._owned and not books.days_hold(now_ms):
            with self._lock:
                books.ensure_days(now_ms)
        return books

    def accounts(self) -> list[AccountState]:
        """Every node's amounts, by account number. Beside the owner, as of a second ago at most."""
        if not self._owned and abs(self._clock_ms() - self._viewed_at) >= VIEW_MS:
            self._refresh()
        return self._books.states(self._clock_ms() - self.config.billing_window_ms)

    def own_accounts(self) -> list[AccountState]:
        """The same of this ledger alone, where others spend from the same accounts."""
        return self.accounts()

    def check_invariant(self) -> None:
        """Raise LedgerError where `billed + won + reserved + lease_unused <= budget_in_force` does not hold."""
        number = self._books.native.first_violation()
        if number >= 0:
            raise LedgerError(f"the books do not balance: {self._books.state(number, 0)}")

    # -- settings

    def catch_up(self) -> None:
        """Read what others have set, where accounts are shared. Raises StoreError when that cannot be."""

    def set_account(
        self, account_id: str, *, who: str = "api", why: str = "", **settings: Unpack[SettingsPatch]
    ) -> AccountState:
        """Create or change `advertiser`, `advertiser/campaign` or `advertiser/campaign/line`; audited.

        Absent parents are created. A limit below what is committed binds at once and unused leases go back.
        Raises InvalidRequestError, PreconditionError (another currency), StoreError.
        """
        now_ms = self._clock_ms()
        row = self._store.write(lambda connection: put_account(connection, account_id, settings, now_ms, who, why))
        self._refresh()
        return self._books.state(row.number, now_ms - self.config.billing_window_ms)

    def set_accounts(
        self,
        patches: Mapping[str, SettingsPatch],
        *,
        who: str = "api",
        why: str = "",
        also: Callable[[Sql], object] | None = None,
    ) -> None:
        """`set_account` for many, by account id, and ``also`` in one commit: all of it or nothing."""
        by = self._clock_ms(), who, why
        self._store.write(lambda connection: put_accounts(connection, patches, by, also))
        self._refresh()

    def fund(
        self, entry_id: str, advertiser_id: str, amount_micros: int, currency: str = "USD", *, who: str = "api"
    ) -> AccountState:
        """Book a deposit or credit (> 0) or a refund (< 0) on an advertiser's balance; idempotent by entry id.

        Raises PreconditionError for another currency, a reused entry id, or a refund of committed money;
        LedgerNotOwnerError for a refund where another process owns the ledger.
        """
        check_entry(entry_id, advertiser_id, amount_micros)
        now_ms = self._clock_ms()

        def job(connection: Sql) -> int:
            row = put_account(connection, advertiser_id, {"currency": currency}, now_ms, who, f"entry {entry_id}")
            before = balance_of(query_of(connection), row.number)
            if put_fund(connection, entry_id, row.number, amount_micros, now_ms):
                after = str(before + amount_micros)
                audit(connection, now_ms, who, "fund", advertiser_id, (str(before), after), f"entry {entry_id}")
            return row.number

        number = (
            self._store.write(job) if amount_micros > 0 else self._refund(job, advertiser_id, entry_id, amount_micros)
        )
        self._refresh()
        return self._books.state(number, now_ms - self.config.billing_window_ms)

    def _refund(self, job: Callable[[Sql], int], advertiser_id: str, entry_id: str, amount_micros: int) -> int:
        with self._lock:
            self._need_owner()
            number = self.account_number(advertiser_id)
            if self._store.read("SELECT 1 FROM ledger_funds WHERE entry_id = ?", (entry_id,)):
                return self._store.write(job)
            books, balance = self._books, balance_of(self._query, number)
            # taken away before it is looked at: nobody may be granted it in between
            books.set_balance(number, max(balance + amount_micros, 0))
            try:
                books.native.recall(number)
                committed = books.state(number, 0).committed_micros
                if balance + amount_micros < committed:
                    raise PreconditionError(
                        "amount_micros",
                        amount_micros,
                        f"a refund of at most {max(balance - committed, 0)} micros",
                        "the rest is committed",
                    )
                return self._store.write(job)
            except BaseException:
                books.set_balance(number, balance)
                raise

    def currency(self, advertiser_id: str) -> str | None:
        """The one currency of an advertiser's budget; None for an unknown advertiser."""
        number = self._books.numbers.get(advertiser_id)
        row = self._books.rows[number] if number is not None else find_account(self._query, advertiser_id)
        return None if row is None else row.settings.currency

    def account_number(self, account_id: str) -> int:
        """The account's stable number. Raises NotFoundError."""
        number = self._books.numbers.get(account_id)
        if number is None:
            row = find_account(self._query, account_id)
            if row is None:
                raise NotFoundError("account_id", account_id, "an account that was set")
            number = row.number
        return number

    def brake(self, exchange: str, advertiser: str, engaged: bool, reason: str, who: str = "api") -> None:
        """The kill switch for one exchange, one advertiser or (both empty) everything; survives a restart."""
        by = (self._clock_ms(), who, reason)
        self._store.write(lambda connection: put_brake(connection, exchange, advertiser, engaged, by))
        self._refresh()

    def fence(self, reason: str, who: str = "api") -> None:
        """Stop bidding until `unfence`: for a store restored from a backup."""
        self._fence(reason or "fenced", who, reason)

    @property
    def fenced(self) -> bool:
        """Whether bidding is stopped until `unfence`."""
        return bool(self._books.fenced)

    def unfence(self, who: str, why: str) -> None:
        """Let bidding on again, once the ledger has been reconciled."""
        self._fence("", who, why)
