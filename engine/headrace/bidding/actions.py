"""Purchases that are reported of bids: judged, kept once each, handed to the bidder, forgotten by time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum

import numpy as np

from headrace.bidding.pacing.delay import MOST_KEPT
from headrace.bidding.pacing.goals import Counted
from headrace.bidding.pacing.pace import Pacer
from headrace.bidding.settings import BiddingConfig
from headrace.counters import Counts
from headrace.decisions.batch import Action, NoRecorder, Recorder
from headrace.decisions.columns import digest
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.types import Int8

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS bid_actions (
        number INTEGER PRIMARY KEY AUTOINCREMENT, action BLOB NOT NULL UNIQUE, token BLOB NOT NULL,
        account INTEGER NOT NULL, issued_ms INTEGER NOT NULL, came_ms INTEGER NOT NULL, n INTEGER NOT NULL,
        worth_micros INTEGER NOT NULL) STRICT""",
    "CREATE INDEX IF NOT EXISTS bid_actions_token ON bid_actions (token)",
    "CREATE INDEX IF NOT EXISTS bid_actions_issued ON bid_actions (issued_ms)",
)
"""``action`` and ``token`` are digests: nothing that a caller named is kept. ``n`` is below zero where actions were
taken back."""

AT_ONCE = 10_000
"""Actions that are handed to the bidder in one piece."""


class ActionOutcome(IntEnum):
    """As in bidder.proto."""

    ACCEPTED = 1
    DUPLICATE = 2
    CONFLICT = 3
    FORGED = 4
    UNKNOWN = 5
    TOO_OLD = 6
    NOT_WON = 7
    NOT_REPORTED = 8


Forward = Callable[[sqlite3.Connection, Sequence[tuple[str, Action]], int], object]
"""Keeps actions of other ledgers' bids, each with its ledger, to be sent there; and when they came, ms."""


class Actions:
    """Takes in what is reported. Any thread may call.

    pacer : who corrects predictions by them.   recorder : who puts them on record.
    forward : for ledgers that share an authority.

    Attribute ``outcomes`` counts reports by `ActionOutcome`.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        pacer: Pacer,
        config: BiddingConfig,
        clock_ms: Callable[[], int],
        recorder: Recorder | None = None,
        forward: Forward | None = None,
    ) -> None:
        self._store, self._ledger, self._pacer, self._config = store, ledger, pacer, config
        self._clock_ms, self._recorder, self._forward = clock_ms, recorder or NoRecorder(), forward
        self._feeding = threading.Lock()
        self.outcomes = Counts(len(ActionOutcome) + 1)
        store.write(_create)
        self.recall()

    def recall(self) -> None:
        """Tell the pacer how long the reports took that it goes on from; after every `Pacer.restore`."""
        heard = self._pacer.heard_actions
        ((n,),) = self._store.read("SELECT count(*) FROM bid_actions WHERE number <= ?", (heard,))
        query = "SELECT issued_ms, came_ms, n FROM bid_actions WHERE n > 0 AND number <= ? AND number % ? = 0"
        self._pacer.learn_delays(self._store.read(query, (heard, n // MOST_KEPT + 1)))

    def report(self, actions: Sequence[Action], came_ms: Sequence[int] | None = None) -> Int8:
        """Judge n actions and keep those that are good, in one commit; returns n of `ActionOutcome` after it.

        came_ms : when they came to a process that shares the authority, ms; None: now and here.

        Another ledger's are kept for it and ACCEPTED. Raises StoreError when nothing was kept: report them again.
        """
        tokens = [action.token for action in actions]
        bodies, malformed, forged = self._ledger.read_tokens(tokens)
        homes = self._ledger.homes_of(bodies)
        outcomes = np.zeros(len(actions), np.int8)
        own = ~(malformed | forged) & np.array([not home for home in homes], np.bool_)
        lost = np.flatnonzero(own)[self._ledger.lost(bodies[own])]
        accounts, issued = bodies["account"].tolist(), bodies["issued_ms"].tolist()
        known = [bool(home) or self._ledger.knows(at) for home, at in zip(homes, accounts, strict=True)]
        outcomes[lost] = ActionOutcome.NOT_WON
        now_ms = self._clock_ms()
        came = np.minimum(np.array(came_ms if came_ms is not None else [now_ms] * len(actions), np.int64), now_ms)
        outcomes[bodies["issued_ms"] < came - self._config.action_window_ms] = ActionOutcome.TOO_OLD
        outcomes[malformed | ~np.array(known, np.bool_)] = ActionOutcome.UNKNOWN
        outcomes[forged] = ActionOutcome.FORGED
        rows = np.flatnonzero(outcomes == 0).tolist()

        def job(connection: sqlite3.Connection) -> None:
            away = [(homes[row], actions[row]) for row in rows if homes[row]]
            if away and self._forward is not None:
                self._forward(connection, away, now_ms)
            outcomes[[row for row in rows if homes[row]]] = ActionOutcome.ACCEPTED
            for row in rows:
                if not homes[row]:
                    outcomes[row] = _keep(connection, actions[row], accounts[row], issued[row], int(came[row]))

        if rows:
            self._store.write(job)
        self._hear([actions[row] for row in rows if outcomes[row] == ActionOutcome.ACCEPTED and not homes[row]])
        self.outcomes.add(outcomes)
        return outcomes

    def feed(self) -> None:
        """Hand to the bidder what it has not heard of, where this process bids by reported actions."""
        if self._config.actions != "reported" or not self._ledger.owned:
            return
        with self._feeding:
            while rows := self._news(self._pacer.heard_actions):
                self._pacer.learn_actions(rows)

    def forget(self, through: int) -> None:
        """Drop actions of bids that nobody may report of any more, up to a number that the bidder has kept.

        That is after twice the window: a report may have been on its way while this process was down.
        """
        oldest_ms = self._clock_ms() - 2 * self._config.action_window_ms
        last = through if self._config.actions == "reported" else (1 << 63) - 1
        self._store.write(
            lambda connection: connection.execute(
                "DELETE FROM bid_actions WHERE number <= ? AND issued_ms < ?",
                (last, oldest_ms),
            )
        )

    def _hear(self, accepted: Sequence[Action]) -> None:
        if accepted:
            self._recorder.acted(accepted)
            self.feed()

    def _news(self, after: int) -> list[Counted]:
        rows = self._store.read(
            f"SELECT {', '.join(Counted._fields)} FROM bid_actions WHERE number > ? ORDER BY number LIMIT ?",
            (after, AT_ONCE),
        )
        return [Counted(*row) for row in rows]


def name_of(action_id: str) -> str:
    """What an action is known by in the store, hexadecimal; its own name is kept nowhere."""
    return digest(action_id).hex()


def _keep(connection: sqlite3.Connection, action: Action, account: int, issued_ms: int, came_ms: int) -> ActionOutcome:
    name, token = bytes.fromhex(action.action), digest(action.token)
    said = token, action.n, action.worth_micros
    known = connection.execute("SELECT token, n, worth_micros FROM bid_actions WHERE action = ?", (name,)).fetchone()
    if known is not None:
        return ActionOutcome.DUPLICATE if known == said else ActionOutcome.CONFLICT
    if action.n < 0:
        counted = "SELECT coalesce(sum(n), 0) FROM bid_actions WHERE token = ?"
        if connection.execute(counted, (token,)).fetchone()[0] + action.n < 0:
            return ActionOutcome.NOT_REPORTED
    connection.execute(
        f"INSERT INTO bid_actions (action, token, {', '.join(Counted._fields[1:])}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (name, token, account, issued_ms, came_ms, action.n, action.worth_micros),
    )
    return ActionOutcome.ACCEPTED


def _create(connection: sqlite3.Connection) -> None:
    for statement in SCHEMA:
        connection.execute(statement)
