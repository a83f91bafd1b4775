"""What goes between a holder and the authority beside money: brakes, and what is told of other holders' tokens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from headrace.authority import mirror
from headrace.authority.actions import drop_actions, read_outbox, send_actions, waiting_actions
from headrace.authority.mirror import Brake
from headrace.authority.notices import COLUMNS, Forwarded, drop_notices, send_notices, waiting_notices
from headrace.authority.operators import edit
from headrace.errors import AuthorityUnreachableError, HeadraceError
from headrace.events.store import Store
from headrace.ledger.budgets import put_brake
from headrace.ledger.notices import NoticeType

if TYPE_CHECKING:
    from headrace.authority.held import HeldLedger

AT_ONCE = 1000
"""Notices, or actions, that one call takes."""

_log = logging.getLogger("headrace.authority")


class Post:
    """Carries what waits, either way; what is refused is said in the log, and holds up nothing else.

    name : the holder's.   Not thread-safe: called under the holder's lock.
    """

    def __init__(self, ledger: HeldLedger, store: Store, name: str) -> None:
        self._ledger, self._store, self._authority, self._name = ledger, store, ledger.authority, name
        self._refused: set[Brake] = set()

    def send(self) -> None:
        """Tell the authority of own brakes, and what is told of others' tokens. Raises AuthorityUnreachableError."""
        for brake in mirror.own_brakes(self._store.read):
            if brake not in self._refused:
                self._send_brake(brake)
        rows = self._store.read(
            f"SELECT notice_id, {COLUMNS} FROM authority_outbox ORDER BY notice_id LIMIT ?", (AT_ONCE,)
        )
        if rows:
            send_notices(self._authority, [Forwarded(*row[1:]) for row in rows])
            last = rows[-1][0]
            self._store.write(lambda sql: sql.execute("DELETE FROM authority_outbox WHERE notice_id <= ?", (last,)))
        letters = read_outbox(self._store.read, AT_ONCE)
        if letters:
            send_actions(self._authority, [letter for _, letter in letters])
            sent = letters[-1][0]
            self._store.write(lambda sql: sql.execute("DELETE FROM authority_action_outbox WHERE number <= ?", (sent,)))

    def _send_brake(self, brake: Brake) -> None:
        exchange, advertiser, reason, who, since_ms = brake
        try:
            edit(self._authority, lambda sql: put_brake(sql, exchange, advertiser, True, (since_ms, who, reason)))
        except AuthorityUnreachableError:
            raise
        except HeadraceError as error:  # an authority that was restored may not know the advertiser
            self._refused.add(brake)
            _log.error(
                "a brake stays on this process alone, exchange=%s advertiser=%s: %s", exchange, advertiser, error
            )

    def reconsider(self) -> None:
        """Tell of refused brakes once more: settings have changed."""
        self._refused.clear()

    def receive(self) -> bool:
        """Settle notices that came to other processes; whether there may be more. Raises AuthorityUnreachableError."""
        waiting = waiting_notices(self._authority, self._name, AT_ONCE)
        good = [notice for _, notice in waiting if NoticeType.WIN <= notice.notice_type <= NoticeType.LOSS]
        for number, notice in waiting:
            if not NoticeType.WIN <= notice.notice_type <= NoticeType.LOSS:
                _log.error("notice %d is of a type that nobody here knows, and is dropped: %s", number, notice)
        self._ledger.settle_forwarded(good)
        drop_notices(self._authority, self._name, [number for number, _ in waiting])
        return len(waiting) == AT_ONCE

    def receive_actions(self) -> None:
        """Take in purchases that were reported to other processes. Raises AuthorityUnreachableError."""
        take_in = self._ledger.on_actions
        if take_in is None:  # whoever learns from them is not there yet
            return
        waiting = waiting_actions(self._authority, self._name, AT_ONCE)
        take_in([letter.action for _, letter in waiting], [letter.came_ms for _, letter in waiting])
        drop_actions(self._authority, self._name, [number for number, _ in waiting])
