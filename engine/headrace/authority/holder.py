"""Keeps one ledger in step with its authority: registers, gives back, asks ahead of need, copies settings.

The ledger's journal is the truth of what is committed; what the authority has allotted to this holder is never less.
So the ledger's own allotment is lowered first, then its journal is committed, and only then is the authority told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from headrace.authority import mirror, views
from headrace.authority.authority import Amounts, Claim, Report, View
from headrace.authority.folding import Folding
from headrace.authority.follower import Follower
from headrace.authority.grants import Change
from headrace.authority.post import Post
from headrace.authority.purse import Purse
from headrace.authority.schema import HolderState
from headrace.authority.shares import Shares
from headrace.authority.views import Total
from headrace.counters import Histogram
from headrace.errors import AuthorityUnreachableError, HeadraceError, HolderRefusedError, LostRenewalError
from headrace.events.store import Store
from headrace.ledger.books import Books
from headrace.types import Bool, Int32, Int64

if TYPE_CHECKING:
    from headrace.authority.held import HeldLedger

BEAT_S = 1.0
"""A holder renews at least so often, with nothing to say too."""

GATHER_S = 0.01
"""Once money is needed, what else is needed within this time goes along."""

KEYS_S = 0.25
"""A notice whose key is not known waits so long for the keys that others may have made."""

FORWARD_MS = 2000
"""A notice that came to another process is here by so long after."""

RATE_HALF_LIFE_S = 30.0
CALL_BOUNDS_S = (5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_log = logging.getLogger("headrace.authority")


class Holder:
    """One ledger's side of the authority. `step` does all there is to do now; `start` lets a thread do it.

    name : the ledger's number in hexadecimal.   seconds : a clock that never goes back, and goes on in standby.

    Attributes to read: ``reachable``, ``refused`` (why the authority takes no more calls of this process; empty: it
    does), ``heard_ms`` (notices that came to any process by this moment are settled), ``calls`` (durations of
    renewals, seconds), ``n_failed`` calls, ``epoch``.
    """

    def __init__(self, ledger: HeldLedger, store: Store, name: str, seconds: Callable[[], float] | None = None) -> None:
        self.name = name
        self.reachable = True
        self.refused = ""
        self.epoch = 0
        self.n_asked = 0
        self.heard_ms = 0
        self.calls = Histogram(CALL_BOUNDS_S)
        self.n_failed = 0
        self._ledger, self._store, self._authority = ledger, store, ledger.authority
        self._seconds = seconds or (lambda: time.clock_gettime(time.CLOCK_BOOTTIME))
        self._lock = threading.RLock()
        self._follower = Follower(ledger, store, name)
        self._shares = Shares()
        self._post = Post(ledger, store, name)
        self._folding = Folding(ledger.authority, self._follower, name)
        self._purse = Purse(self._shares, lambda: self._seconds())
        self._authority_id = ""
        self._registered: Books | None = None
        self._contact_s = self._beat_s = self._keys_s = -1e18
        self._number = self._answered = 0
        self._pending: tuple[Claim, Sequence[Change], Report] | None = None
        self._rate, self._rate_s, self._rate_asked = 0.0, self._seconds(), 0
        self._totals_version = self._read_s = -1.0
        self._told: dict[int, Amounts] = {}
        self._wake, self._over = threading.Event(), threading.Event()
        self._stepped = threading.Condition()
        self._n_begun = self._n_ended = 0
        self._thread: threading.Thread | None = None
        self._failing = False

    # -- what the ledger asks

    @property
    def key_holders(self) -> dict[int, str]:
        """Whose signing key each key id is, of all that were ever heard of."""
        return self._follower.key_holders

    def may_bid(self, books: Books) -> bool:
        """Whether these books are registered, and the authority was reached within the isolation time."""
        fresh = self._seconds() - self._contact_s <= self._authority.config.isolation_s
        return books is self._registered and not self.refused and fresh

    def need(self, accounts: Sequence[int], micros: Sequence[int], now_ms: int) -> None:
        """Hear that line items were refused money at a moment; it is asked for soon."""
        if self._purse.need(accounts, micros, now_ms):
            self._wake.set()

    def expect(self, accounts: Int32) -> None:
        """Hear which line items will be bid for, (n,) int32: a first share of each is asked for ahead."""
        self._purse.expect(accounts)
        self._wake.set()

    def left_elsewhere(self, accounts: Int32, now_ms: int) -> Bool:
        """Whether there was money left for line items that is not allotted to this holder, (n,) bool."""
        return self._shares.left(self._ledger.books, accounts, now_ms) > 0

    def spendable(self, now_ms: int) -> Int64:
        """See `HeldLedger.spendable`; of every account by number."""
        return self._shares.spendable(self._ledger.books, now_ms)

    def others(self) -> dict[int, list[int]]:
        """See `Shares.others`."""
        return self._shares.others(self._ledger.books)

    def money(self) -> tuple[int, int]:
        """Micros allotted to this holder and not used of it, over all line items and days that are not settled."""
        return self._purse.sums(self._ledger.books)

    def learn_keys(self) -> bool:
        """Read other holders' keys anew, at most once a second; whether there are new ones.

        A thread that keeps step is left to do it, and not waited for any longer than an authority takes that answers.
        """
        if self._seconds() - self._keys_s < 1.0:
            return False
        self._keys_s, before = self._seconds(), self.key_holders
        if self._thread is not None and self._ledger.owned:
            self._wait_for_step()
        else:
            try:
                self.copy_settings()
            except AuthorityUnreachableError as error:
                _log.warning("keys of other holders cannot be read: %s", error)
        return self.key_holders != before

    def _wait_for_step(self) -> None:
        """Let the thread take a step that begins now, and wait for it for a short while."""
        with self._stepped:
            wanted = self._n_begun + 1
            self._wake.set()
            self._stepped.wait_for(lambda: self._n_ended >= wanted, KEYS_S)

    # -- steps

    def step(self) -> None:
        """Do what is to do now. Raises AuthorityUnreachableError; the next step tries again."""
        with self._lock:
            if not self._ledger.owned or self.refused:
                return
            try:
                self._step()
                self.reachable = True
            except AuthorityUnreachableError:
                self.reachable = False
                self.n_failed += 1
                raise
            except LostRenewalError as error:
                _log.error("the authority has lost what it answered, registering again: %s", error)
                self._registered = None
            except HolderRefusedError as error:
                _log.error("this process bids no more: %s", error)
                self.refused = str(error)
            finally:
                self._ledger.reconsider()

    def step_quietly(self) -> None:
        """`step`, and say in the log what it raises."""
        try:
            self.step()
            if self._failing:
                _log.info("the authority is reached again")
            self._failing = False
        except AuthorityUnreachableError as error:
            if not self._failing:
                _log.error("%s; bidding from what is allotted", error)
            self._failing = True
        except Exception:  # a disk that fails now may work again
            _log.exception("keeping step with the authority failed")

    def _step(self) -> None:
        if self._registered is not self._ledger.books:
            self._register()
        self._post.send()
        looked_ms = self._ledger.now_ms()
        view = self._retry() or self._authority.look(self.name)
        if view.epoch != self.epoch or view.state != HolderState.LIVE:
            self._check_epoch(view)
        if view.settings != self._follower.stamp:
            self.copy_settings()
        self._shares.part = self._part(view)
        self._read(view)
        self._renew(view)
        if not (view.notices and self._post.receive()):
            self.heard_ms = looked_ms - FORWARD_MS
        if view.actions:
            self._post.receive_actions()
        self._folding.step(self._ledger.books, self.epoch, looked_ms, self._seconds())

    def _check_epoch(self, view: View) -> None:
        if view.epoch < self.epoch:
            raise LostRenewalError("epoch", view.epoch, str(self.epoch))
        if view.epoch == self.epoch and view.state == HolderState.UNHEARD:
            raise LostRenewalError("another holder has found that commits are lost")
        raise HolderRefusedError("epoch", self.epoch, f"{view.epoch}: fenced, or registered again elsewhere")

    def _register(self) -> None:
        """Begin an epoch with what is committed; nothing is reserved meanwhile."""
        self._registered = None
        self._ledger.reconsider()
        books = self._ledger.books
        books.native.hold_to_allotments()
        if mirror.holds_money_of_its_own(self._store.read):
            raise HolderRefusedError(
                "this data folder has a ledger of its own", hint="name an empty folder, and fund what is left"
            )
        self._purse.give_back_all(books)
        self._ledger.flush()
        began_s = self._seconds()
        rows = books.native.leaf_days().reshape(-1, 3).tolist()
        committed = [(books.rows[leaf].account_id, day, micros) for leaf, day, micros in rows if micros]
        memory = self._follower.memory(self.epoch, self._answered, committed)
        known, sequence = self._follower.authority_id, self._ledger.journal_sequence
        registration = self._authority.register(self.name, known, sequence, committed, memory)
        if registration.brought_in_micros:
            _log.error("this ledger had committed %d micros more than allotted", registration.brought_in_micros)
        self.epoch, self._number, self._answered, self._pending = registration.epoch, 0, 0, None
        self._authority_id = registration.authority_id
        self.copy_settings(anew=True)
        self._told.clear()
        self._forget_sums()
        allotments = [Total(account, day, micros, 0) for account, day, micros in registration.allotments]
        self._purse.adopt(books, [(row.account, row.day, row.allotted) for row in self._follower.home(allotments)])
        self._contact_s = began_s
        self._registered = books
        self._ledger.reconsider()

    def copy_settings(self, anew: bool = False) -> None:
        """Copy what operators set since the last time. Raises AuthorityUnreachableError.

        anew : all there is, whatever was copied before.
        """
        with self._lock:
            authority = self._follower.authority_id or self._authority_id
            if not authority:
                return  # not registered yet
            if not self._follower.copy(authority, anew) and self._registered is not None:
                _log.error("the authority has lost edits, registering again")
                self._register()
            self._post.reconsider()

    def _part(self, view: View) -> float:
        """This holder's part of the traffic, drawn to an equal one where there is little."""
        live = max(view.live, 1)
        mean = max(view.rates / live, 1.0)
        return min((self._rate + mean) / (max(view.rates, self._rate) + live * mean), 1.0)

    def _read(self, view: View) -> None:
        """Follow the sums and the others' books, at most once a second."""
        if view.totals_version == self._totals_version or self._seconds() - self._read_s < BEAT_S:
            return
        if view.totals_version < self._totals_version:
            self._forget_sums()
        last = int(self._totals_version)
        self._shares.add_totals(self._follower.home(views.totals_since(self._authority, last)))
        named = views.books_since(self._authority, last)
        for holder, amounts in named:
            self._shares.add_books([(holder, row) for row in self._follower.home([amounts])], self.name)
        self._totals_version, self._read_s = view.totals_version, self._seconds()
        self._beat_s = -1e18  # renewed behind it: whatever loses what was read here loses that, and is found out

    def _forget_sums(self) -> None:
        self._shares.forget()
        self._totals_version = -1.0

    # -- renewals

    def _renew(self, view: View) -> None:
        books = self._ledger.books
        self._shares.follow(books)
        beat = self._seconds() - self._beat_s >= BEAT_S
        asked = view._replace(needs=self._follower.numbers(view.needs), wants=self._follower.numbers(view.wants))
        planned, lowered = self._purse.plan(books, asked, beat, self._ledger.now_ms())
        changes = self._follower.known(planned)
        if lowered:
            self._ledger.flush()
        if changes or beat:
            self._number += 1
            self._pending = Claim(self.name, self.epoch, self._number), changes, self._report(beat)
            self._retry()
        if self._purse.asks_on:
            self._wake.set()

    def _retry(self) -> View | None:
        """Send the renewal whose answer is not known yet, until it is."""
        if self._pending is None:
            return None
        claim, changes, report = self._pending
        began_s = self._seconds()
        renewal = self._authority.renew(claim, self._follower.abroad(changes), self._abroad(report))
        self._pending = None
        self._contact_s = began_s
        self._answered = claim.number
        self._told |= {row.account: row for row in report.amounts}
        self.calls.add(self._seconds() - began_s)
        self._purse.take_over(self._ledger.books, changes, renewal.allotted)
        if report.amounts or not changes:
            self._beat_s = began_s
        return renewal.view

    def _report(self, beat: bool) -> Report:
        now_s = self._seconds()
        elapsed_s = max(now_s - self._rate_s, 1e-3)
        asked = self.n_asked
        keep = 0.5 ** (elapsed_s / RATE_HALF_LIFE_S)
        self._rate = self._rate * keep + (asked - self._rate_asked) / elapsed_s * 60.0 * (1.0 - keep)
        self._rate_s, self._rate_asked = now_s, asked
        amounts: list[Amounts] = []
        if beat:
            amounts = [row for row in self._amounts() if self._told.get(row.account) != row]
            self._beat_s = now_s
        return Report(self._ledger.journal_sequence, round(self._rate), amounts)

    def _amounts(self) -> Sequence[Amounts]:
        table = self._ledger.books.native.reports(self._ledger.stranded_before_ms).reshape(-1, 8)
        rows = np.delete(table, 4, axis=1)[self._shares.leaves]
        some = (rows != 0).any(axis=1) | np.isin(self._shares.leaves, np.array([*self._told], np.int32))
        leaves = self._shares.leaves[some].tolist()
        found = [Amounts(leaf, *row) for leaf, row in zip(leaves, rows[some].tolist(), strict=True)]
        return self._follower.known(found)

    def _abroad(self, report: Report) -> Report:
        return report._replace(amounts=self._follower.abroad(report.amounts))

    def leave(self) -> None:
        """Give back what is not used, once the ledger has been released."""
        with self._lock:
            registered, self._registered = self._registered, None
            if registered is None or self.refused:
                return
            try:
                self._retry()
                changes = self._follower.known(self._purse.changes(registered))
                claim = Claim(self.name, self.epoch, self._number + 1)
                report = self._abroad(Report(self._ledger.journal_sequence, 0, self._amounts()))
                self._authority.leave(claim, self._follower.abroad(changes), report)
            except HeadraceError as error:
                _log.warning("what is allotted to this process stays so until it starts again: %s", error)

    # -- the thread

    def start(self) -> None:
        """Step every ``poll_ms``, and at once when money is needed, until `stop`."""
        self._over.clear()
        self._thread = threading.Thread(target=self._run, name="headrace-authority", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; safe to call twice."""
        if self._thread is not None:
            self._over.set()
            self._wake.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        pause_s = self._authority.config.poll_ms / 1000
        while not self._over.is_set():
            self._wake.clear()
            self._n_begun += 1
            self.step_quietly()
            with self._stepped:
                self._n_ended = self._n_begun
                self._stepped.notify_all()
            if self._failing:
                self._over.wait(pause_s)
            elif self._wake.wait(pause_s):
                self._over.wait(min(GATHER_S, pause_s))
