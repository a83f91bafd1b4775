"""A ledger with one line item and a clock to turn, for tests.

Tests get this module by the fixture ``desks``, since test folders are no packages.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headrace.events.store import Store
from headrace.ledger.ledger import AccountState, Ledger, LedgerConfig, NoticeOutcome, Reason

NOW = 1_800_000_000_000
LINE = "adv/camp/line"


class Desk:
    """A ledger with one line item and a clock to turn."""

    def __init__(self, folder: Path, config: LedgerConfig | None = None, *, database: str = "store.db") -> None:
        self.folder = folder
        self.now = NOW
        self.config = config
        self.store = Store(folder / database)
        self.ledger = Ledger(folder, self.store, clock_ms=lambda: self.now, config=config)
        assert self.ledger.try_acquire()

    def fill(self, micros: int = 1_000_000) -> Desk:
        self.ledger.fund("deposit", "adv", micros)
        self.ledger.set_account(LINE)
        return self

    def reserve(self, *cpm: int, exchange: str = "x") -> list[str]:
        tokens, reasons = self.try_reserve(*cpm, exchange=exchange)
        assert set(reasons) == {Reason.OK}
        return [token for token in tokens if token is not None]

    def try_reserve(self, *cpm: int, exchange: str = "x") -> tuple[list[str | None], list[int]]:
        number = self.ledger.account_number(LINE)
        tokens, reasons = self.ledger.reserve(
            np.full(len(cpm), number, np.int32), np.array(cpm, np.int64), [exchange] * len(cpm), self.now
        )
        return tokens, reasons.tolist()

    def notify(self, kind: int, token: str, price: int | None = None) -> NoticeOutcome:
        return NoticeOutcome(int(self.ledger.notify([kind], [token], [price], self.now)[0]))

    def line(self, account_id: str = LINE) -> AccountState:
        self.ledger.flush()
        self.ledger.check_invariant()
        return next(state for state in self.ledger.accounts() if state.account_id == account_id)

    def restart(self, *, drain: bool = True) -> None:
        if drain:
            self.ledger.close()
        else:
            self.ledger._owner.release()
            self.ledger._books.native.freeze()
        self.ledger = Ledger(self.folder, self.store, clock_ms=lambda: self.now, config=self.config)
        assert self.ledger.try_acquire()

    def close(self) -> None:
        self.ledger.close()
        self.store.close()
