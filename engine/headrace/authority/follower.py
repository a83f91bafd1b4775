"""How one holder follows what operators set at its authority, and tells it again what it has lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from headrace.authority import mirror, views
from headrace.authority.authority import Amounts
from headrace.authority.grants import Change
from headrace.authority.history import Stamp
from headrace.authority.registration import Committed, Memory, SigningKey
from headrace.authority.views import Total
from headrace.events.store import Store
from headrace.ledger.budgets import AccountRow

if TYPE_CHECKING:
    from headrace.authority.held import HeldLedger

Row = TypeVar("Row", Change, Amounts, Total)


class Follower:
    """Copies settings into a holder's store, and translates account numbers, which a loss of commits sets apart.

    name : the holder's.   ``key_holders`` : whose signing key each key id is.
    """

    def __init__(self, ledger: HeldLedger, store: Store, name: str) -> None:
        self.key_holders = mirror.key_holders(store.read)
        self._ledger, self._store, self._authority, self._name = ledger, store, ledger.authority, name
        self._home: dict[int, int] = {}
        self._away: dict[int, int] = {}
        self._same = False

    @property
    def authority_id(self) -> str:
        """The number of the authority that the store is a copy of; empty: of none yet."""
        return mirror.copied(self._store.read)[0]

    @property
    def stamp(self) -> Stamp:
        """The state of the settings that the store has."""
        return mirror.copied(self._store.read)[1]

    def copy(self, authority_id: str, anew: bool) -> bool:
        """Copy what was set since the last time, or all.

        False, and nothing is copied, where the authority has lost the state that the store has: register first.
        """
        _, stamp, sequence = mirror.copied(self._store.read)
        since = (Stamp(), 0) if anew or not self._home else (stamp, sequence)
        settings = views.settings_since(self._authority, *since)
        if settings.whole and not anew and stamp != Stamp():
            return False
        if settings.whole:
            self._home = {}
        home = self._ledger.take_copy(lambda sql: mirror.copy(sql, authority_id, settings, self._home))
        self._home |= home
        self._away = {here: there for there, here in self._home.items()}
        alike = all(here == there for there, here in home.items()) and (settings.whole or self._same)
        self._same = alike and len(self._home) > len(self._ledger.books.rows)
        # before the secrets: a notice that another thread verifies with one must find whose it is
        self.key_holders = mirror.key_holders(self._store.read)
        keys = [key for key in settings.keys if self.key_holders[key.key_id] == key.holder]
        own = [key.key_id for key in keys if key.holder == self._name]
        if own:
            self._ledger.take_keys({key.key_id: key.secret for key in keys}, own[-1])
        return True

    def memory(self, epoch: int, number: int, committed: Iterable[Committed]) -> Memory:
        """What the authority may have lost; see `Memory`."""
        query, books = self._store.read, self._ledger.books
        paths: dict[str, AccountRow] = {}
        for account_id, _, _ in committed:
            names = account_id.split("/")
            for depth in range(1, len(names) + 1):
                above = "/".join(names[:depth])
                paths.setdefault(above, books.rows[books.numbers[above]])
        known = mirror.keys_known(query)
        secrets_of = self._ledger.key_secrets(known)
        brakes, fence = mirror.stops_known(query)
        return Memory(
            epoch=epoch,
            number=number,
            stamp=self.stamp,
            accounts=sorted(paths.values(), key=lambda row: row.account_id.count("/")),
            keys=[SigningKey(key, known[key][0], secret, known[key][1]) for key, secret in secrets_of.items()],
            brakes=brakes,
            fence=fence,
            fenced=self._ledger.waits_for_reconciliation,
        )

    def known(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Those of the rows whose accounts the authority has."""
        return rows if self._same else [row for row in rows if row.account in self._away]

    def abroad(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Such rows with the authority's account numbers."""
        return rows if self._same else [row._replace(account=self._away[row.account]) for row in rows]

    def home(self, rows: Sequence[Row]) -> Sequence[Row]:
        """The authority's rows with this store's account numbers, without those of accounts that are not copied yet."""
        if self._same:
            return rows
        return [row._replace(account=self._home[row.account]) for row in rows if row.account in self._home]

    def numbers(self, accounts: Iterable[int]) -> list[int]:
        """This store's numbers of the authority's accounts, without those that are not copied yet."""
        return [self._home[account] for account in accounts if account in self._home]
