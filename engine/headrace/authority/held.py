"""A ledger that spends what an authority allots to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar, Unpack

import numpy as np

from headrace.authority import operators
from headrace.authority.authority import Authority
from headrace.authority.holder import Holder
from headrace.authority.mirror import create_tables
from headrace.authority.notices import COLUMNS, Forwarded
from headrace.decisions.batch import Action
from headrace.errors import AuthorityUnreachableError, LedgerNotOwnerError
from headrace.events.store import Store
from headrace.ledger.books import AccountState, Books
from headrace.ledger.budgets import SettingsPatch, check_entry, put_accounts, put_brake, put_fence
from headrace.ledger.journal import Extra, get_meta, last_sequence
from headrace.ledger.ledger import Ledger
from headrace.ledger.notices import NoticeBatch, NoticeOutcome, NoticeType, read_notices
from headrace.ledger.recovery import LedgerConfig
from headrace.ledger.reservations import Reason, Reservations
from headrace.ledger.sql import Sql
from headrace.ledger.tokens import Bodies
from headrace.types import Bool, Int8, Int32, Int64

T = TypeVar("T")

BUDGET = int(Reason.BUDGET)  # an enum member costs 6 us in a comparison with an array

Settled = Callable[[Sequence[int], Sequence[str], Sequence[int | None], Sequence[int | None]], object]
"""Hears of notices that came by way of the authority: types, tokens, prices and minimums to win in CPM micros."""

MINUTE_MS = 60_000

Acted = Callable[[Sequence[Action], Sequence[int]], object]
"""Takes in reported purchases that came by way of the authority, and when each came; returns once they are kept."""


class HeldLedger(Ledger):
    """One of several ledgers that spend the same budgets, each with a data directory and a store of its own.

    Accounts, brakes, the authority's fence and campaigns are set at the authority and copied from it; an edit raises
    AuthorityUnreachableError where it is not reached. It reserves nothing before it has registered. ``holder`` keeps it
    in step; the other parameters are those of `Ledger`.
    """

    shared = True

    def __init__(
        self,
        data_dir: Path,
        store: Store,
        *,
        clock_ms: Callable[[], int],
        authority: Authority,
        config: LedgerConfig | None = None,
    ) -> None:
        super().__init__(data_dir, store, clock_ms=clock_ms, config=config)
        store.write(create_tables)
        self.authority = authority
        self.on_settled: Settled | None = None
        self.on_actions: Acted | None = None
        self.holder = Holder(self, store, f"{self._ledger_id:016x}")

    # -- what the holder needs

    @property
    def books(self) -> Books:
        """The state in use; another object after every recovery."""
        return self._books

    def now_ms(self) -> int:
        """The present moment."""
        return self._clock_ms()

    @property
    def stranded_before_ms(self) -> int:
        """What was reserved before this moment is stranded."""
        return self._clock_ms() - self.config.billing_window_ms

    @property
    def journal_sequence(self) -> int:
        """The last sequence of the journal."""
        return last_sequence(self._store.read)

    @property
    def waits_for_reconciliation(self) -> bool:
        """Whether this ledger's own fence is engaged: it may have spent what it does not know of."""
        return bool(get_meta(self._store.read, "fenced"))

    def take_copy(self, job: Callable[[Sql], T]) -> T:
        """Write a copy of settings to the store and take them over."""
        result = self._store.write(job)
        self._refresh()
        return result

    def key_secrets(self, keys: Collection[int]) -> dict[int, str]:
        """Hexadecimal secrets by id, of those of these keys that are here."""
        return self._keys.secrets_of(keys)

    def take_keys(self, secrets_of: Mapping[int, str], current: int) -> None:
        """Know these signing keys and sign with one of them."""
        self._keys.take_over(secrets_of, current)

    def reconsider(self) -> None:
        """Look anew at whether anything may be reserved."""
        with self._lock:
            if self._owned:
                self._books.native.set_closed(self._closed(self._books))

    def settle_forwarded(self, notices: Sequence[Forwarded]) -> None:
        """Settle notices of own tokens that came to other processes; returns after the commit.

        They count as of when they came, not as of now: for the billing window, and for what is spent in one minute.
        """
        now_ms = self._clock_ms()
        came = [notice._replace(time_ms=min(notice.time_ms, now_ms)) for notice in notices]
        came.sort(key=lambda notice: notice.time_ms)
        for _, some in groupby(came, lambda notice: notice.time_ms // MINUTE_MS):
            self._settle_of_minute(list(some))

    def _settle_of_minute(self, notices: Sequence[Forwarded]) -> None:
        types = [notice.notice_type for notice in notices]
        tokens = [notice.token for notice in notices]
        prices = [_known(notice.price_cpm_micros) for notice in notices]
        oldest_ms = np.array([notice.time_ms for notice in notices], np.int64) - self.config.billing_window_ms
        batch = read_notices(self._keys, types, tokens, prices, oldest_ms)
        self._apply(batch, notices[-1].time_ms)
        self.outcomes.add(batch.outcomes)
        good = np.flatnonzero(batch.outcomes == NoticeOutcome.ACCEPTED).tolist()
        if self.on_settled is not None and good:
            minimums = [_known(notices[row].minimum_cpm_micros) for row in good]
            columns = [types[row] for row in good], [tokens[row] for row in good], [prices[row] for row in good]
            self.on_settled(*columns, minimums)

    def _heard_until(self, now_ms: int) -> int:
        return min(now_ms, self.holder.heard_ms)

    # -- reserve

    def _closed(self, books: Books) -> Reason:
        return super()._closed(books) or (Reason.OK if self.holder.may_bid(books) else Reason.AUTHORITY)

    def take(self, accounts: Int32, cpm: Int64, exchanges: Int32, now_ms: int) -> Reservations:
        """See `LedgerCore.take`; what is refused here and may be allotted yet is asked for behind this call's back."""
        columns = super().take(accounts, cpm, exchanges, now_ms)
        self.holder.n_asked += len(accounts)
        refused = columns.reasons == BUDGET
        if refused.any():
            self._ask_for(accounts, cpm, refused, now_ms, columns.reasons)
        return columns

    def _ask_for(self, accounts: Int32, cpm: Int64, refused: Bool, now_ms: int, reasons: Int8) -> None:
        wanted = accounts[refused]
        self.holder.need(wanted.tolist(), (-(-cpm[refused] // 1000)).tolist(), now_ms)
        if not self.holder.reachable:
            more = self.holder.left_elsewhere(wanted, now_ms)
            reasons[np.flatnonzero(refused)[more]] = Reason.AUTHORITY

    def expect(self, accounts: Int32) -> None:
        """See `Ledger.expect`: something is asked of the authority for each, so that its first bid finds money."""
        self.holder.expect(accounts)

    # -- settle

    def notify(
        self,
        types: Sequence[int] | Int8,
        tokens: Sequence[str],
        prices_cpm: Sequence[int | None] | Int64,
        now_ms: int,
        minimums_cpm: Sequence[int | None] | Int64 | None = None,
    ) -> Int8:
        """See `Ledger.notify`; a notice of another holder's token is kept for it, and ACCEPTED."""
        outcomes = super().notify(types, tokens, prices_cpm, now_ms, minimums_cpm)
        if self._keys.take_unknown() and self.holder.learn_keys():  # of a holder that has just come
            again = np.flatnonzero(outcomes == NoticeOutcome.FORGED).tolist()
            named = [tokens[row] for row in again]
            outcomes[again] = super().notify(
                [int(types[row]) for row in again],
                named,
                [prices_cpm[row] for row in again],
                now_ms,
                None if minimums_cpm is None else [minimums_cpm[row] for row in again],
            )
        return outcomes

    def read_tokens(self, tokens: Sequence[str]) -> tuple[Bodies, Bool, Bool]:
        """See `Ledger.read_tokens`; keys of holders that have just come are read first."""
        read = super().read_tokens(tokens)
        return super().read_tokens(tokens) if self._keys.take_unknown() and self.holder.learn_keys() else read

    def homes_of(self, bodies: Bodies) -> list[str]:
        """See `Ledger.homes_of`."""
        own, holders = self.holder.name, self.holder.key_holders
        homes = (holders.get(key, own) for key in bodies["key"].tolist())
        return ["" if home == own else home for home in homes]

    def _apply(self, batch: NoticeBatch, now_ms: int, extra: Extra | None = None) -> None:
        foreign = [
            (row, holder)
            for row, key in zip(batch.rows.tolist(), batch.bodies["key"][batch.rows].tolist(), strict=True)
            if (holder := self.holder.key_holders.get(key, self.holder.name)) != self.holder.name
        ]
        if not foreign:
            return super()._apply(batch, now_ms, extra)
        if batch.types.max() > NoticeType.LOSS:
            raise LedgerNotOwnerError(f"the holder {foreign[0][1]} reserved this", hint="close it there")
        letters = [
            Forwarded(holder, int(batch.types[row]), batch.tokens[row], *_told(batch, row), now_ms)
            for row, holder in foreign
        ]
        batch.outcomes[[row for row, _ in foreign]] = NoticeOutcome.ACCEPTED

        def more(connection: Sql, sequence: int) -> None:
            connection.executemany(
                f"INSERT INTO authority_outbox({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",
                [tuple(letter) for letter in letters],
            )
            if extra is not None:
                extra(connection, sequence)

        return super()._apply(batch, now_ms, more)

    # -- reports

    def spendable(self, account_numbers: Int32, now_ms: int | None = None) -> Int64:
        """This holder's part of what each account may still spend: what is allotted to it and not used, and its part of
        what else is left over all holders; (n,) int64 micros."""
        moment = self._clock_ms() if now_ms is None else now_ms
        self._on_day(moment)
        return self.holder.spendable(moment)[account_numbers]

    def own_accounts(self) -> list[AccountState]:
        """See `Ledger.own_accounts`."""
        return super().accounts()

    def accounts(self) -> list[AccountState]:
        """Every node's amounts over all holders: this one's now, the others' as they last told the authority."""
        own = super().accounts()
        others = self.holder.others()
        return [_sum(state, others[state.account_number]) if state.account_number in others else state for state in own]

    # -- settings

    def catch_up(self) -> None:
        """Read what others have set at the authority. Raises AuthorityUnreachableError."""
        self.holder.copy_settings()

    def set_account(
        self, account_id: str, *, who: str = "api", why: str = "", **settings: Unpack[SettingsPatch]
    ) -> AccountState:
        """See `Ledger.set_account`."""
        self.set_accounts({account_id: settings}, who=who, why=why)
        return self._state_of(account_id)

    def set_accounts(
        self,
        patches: Mapping[str, SettingsPatch],
        *,
        who: str = "api",
        why: str = "",
        also: Callable[[Sql], object] | None = None,
    ) -> None:
        """See `Ledger.set_accounts`; ``also`` writes to the authority's tables."""
        by = self._clock_ms(), who, why
        operators.edit(self.authority, lambda sql: put_accounts(sql, patches, by, also))
        self.catch_up()

    def fund(
        self, entry_id: str, advertiser_id: str, amount_micros: int, currency: str = "USD", *, who: str = "api"
    ) -> AccountState:
        """See `Ledger.fund`; a refund waits some seconds for what other holders give back."""
        check_entry(entry_id, advertiser_id, amount_micros)
        operators.fund(self.authority, entry_id, advertiser_id, amount_micros, currency, who)
        self.catch_up()
        return self._state_of(advertiser_id)

    def brake(self, exchange: str, advertiser: str, engaged: bool, reason: str, who: str = "api") -> None:
        """See `Ledger.brake`. It stops this process at once, the others through the authority, which hears of it later
        where it is not reached."""
        by = (self._clock_ms(), who, reason)
        if engaged:
            super().brake(exchange, advertiser, engaged, reason, who)
        try:
            operators.edit(self.authority, lambda sql: put_brake(sql, exchange, advertiser, engaged, by))
        except AuthorityUnreachableError as error:
            hint = "this process is braked, the others once it is reached" if engaged else "nothing was released"
            raise AuthorityUnreachableError(error.what, hint=hint) from error
        self.catch_up()

    def fence(self, reason: str, who: str = "api") -> None:
        """Stop bidding of all holders until `unfence`; of this one alone where the authority is not reached."""
        try:
            self._fence_all(reason or "fenced", who, reason)
        except AuthorityUnreachableError as error:
            super().fence(reason, who)
            raise AuthorityUnreachableError(error.what, hint="this process alone is fenced") from error

    def unfence(self, who: str, why: str) -> None:
        """Lift the authority's fence and this ledger's own."""
        self._fence_all("", who, why)
        super().unfence(who, why)

    def _fence_all(self, reason: str, who: str, why: str) -> None:
        by = (self._clock_ms(), who, why)
        operators.edit(self.authority, lambda sql: put_fence(sql, reason, by))
        self.catch_up()

    def _state_of(self, account_id: str) -> AccountState:
        number = self.account_number(account_id)
        return next(state for state in self.accounts() if state.account_number == number)

    # -- ownership

    def try_acquire(self) -> bool:
        """See `Ledger.try_acquire`; the new owner registers with the authority, at once where it is reached."""
        was_owned = self._owned
        owned = super().try_acquire()
        if owned and not was_owned:
            self.holder.step_quietly()
        return owned

    def close(self) -> None:
        """Release, and let go of the authority; the store stays open."""
        super().close()
        self.authority.close()

    def release(self) -> None:
        """Stop reserving, give back what is not used, let the next owner in."""
        was_owned = self._owned
        super().release()
        if was_owned:
            self.holder.leave()


def _told(batch: NoticeBatch, row: int) -> tuple[int, int]:
    """A notice's price and minimum to win as they came, -1 where not known."""
    price, minimum = batch.told[row], batch.minimums[row]
    return -1 if price is None else int(price), -1 if minimum is None else int(minimum)


def _known(micros: int) -> int | None:
    return None if micros < 0 else micros


def _sum(state: AccountState, others: Sequence[int]) -> AccountState:
    billed, won, reserved, unused, late, disputed, stranded = others
    whole = replace(
        state,
        billed_micros=state.billed_micros + billed,
        won_micros=state.won_micros + won,
        reserved_micros=state.reserved_micros + reserved,
        lease_unused_micros=state.lease_unused_micros + unused,
        late_micros=state.late_micros + late,
        disputed_micros=state.disputed_micros + disputed,
        stranded_micros=state.stranded_micros + stranded,
    )
    return replace(whole, budget_in_force_micros=max(state.budget_in_force_micros, whole.committed_micros))
