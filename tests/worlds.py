"""Several bidding processes over one authority, each a ledger with a holder but without a thread, and their time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from headrace.authority import operators
from headrace.authority.authority import Authority
from headrace.authority.held import HeldLedger
from headrace.authority.schema import LIFE
from headrace.authority.settings import AuthorityConfig
from headrace.errors import AuthorityUnreachableError
from headrace.events.store import Store
from headrace.ledger.journal import set_meta
from headrace.ledger.ledger import LedgerConfig, NoticeOutcome, NoticeType

NOW = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
LEAVES = ("a/c/x", "a/c/y")


class Gate:
    """A database that can be out of reach, that hangs, or whose answers get lost after the commit."""

    def __init__(self, database: Any) -> None:
        self.database, self.away, self.loses = database, False, False
        self.around: Callable[[], Callable[[], None]] | None = None
        self.hanging, self.answers = threading.Event(), threading.Event()
        self.answers.set()

    def _run(self, call: Any, job: Any) -> Any:
        if not self.answers.is_set():
            self.hanging.set()
            self.answers.wait()
        if self.away:
            raise AuthorityUnreachableError("the authority is away")
        result = call(job)
        if self.loses:
            raise AuthorityUnreachableError("the answer is lost")
        return result

    def write(self, job: Any) -> Any:
        after = self.around() if self.around is not None else None
        result = self._run(self.database.write, job)
        if after is not None:
            after()
        return result

    def read(self, job: Any) -> Any:
        return self._run(self.database.read, job)

    def close(self) -> None:
        self.database.close()


class Process:
    """What one bidding process has: a folder, a store, a ledger and its holder, without a thread."""

    def __init__(self, world: World, name: str, away: bool = False, **settings: Any) -> None:
        self.world, self.name = world, name
        self.authority = world.authority(name)
        self.gate = self.authority.database = Gate(self.authority.database)
        self.gate.away = away
        folder = world.folder / name
        self.store = Store(folder / "store.db")
        config = LedgerConfig(**{"billing_window_ms": 90 * DAY_MS, **settings})
        self.ledger = HeldLedger(
            folder, self.store, clock_ms=lambda: world.now_ms, authority=self.authority, config=config
        )
        self.ledger.holder._seconds = lambda: world.seconds
        world.opened.append(self)
        assert self.ledger.try_acquire()

    def step(self) -> None:
        with suppress(AuthorityUnreachableError):
            self.ledger.holder.step()
        self.ledger.tick(self.world.now_ms)

    def bid(self, micros: int, leaf: str = "a/c/x", n: int = 1) -> list[str | None]:
        number = self.ledger.account_number(leaf)
        tokens, self.reasons = self.ledger.reserve(
            np.full(n, number, np.int32), np.full(n, micros * 1000, np.int64), ["x"] * n, self.world.now_ms
        )
        return tokens

    def win(self, micros: int, leaf: str = "a/c/x") -> str:
        """Bid until it is taken, as traffic does."""
        for _ in range(4):
            token = self.bid(micros, leaf)[0]
            if token is not None:
                return token
            self.world.step()
        raise AssertionError(f"{self.name} gets no {micros} micros: {self.reasons}")

    def tell(
        self, kind: NoticeType, token: str, micros: int | None = None, minimum: int | None = None
    ) -> NoticeOutcome:
        price, least = (None if amount is None else amount * 1000 for amount in (micros, minimum))
        return NoticeOutcome(int(self.ledger.notify([kind], [token], [price], self.world.now_ms, [least])[0]))

    def brakes(self) -> list[Any]:
        return self.store.read("SELECT exchange, advertiser_id FROM ledger_brakes")

    def die(self) -> None:
        """Stop as kill -9 does: nothing is given back, nothing told."""
        self.ledger._resign()
        self.store.close()
        self.authority.close()


class World:
    """Some processes over one authority, and their time."""

    def __init__(self, folder: Path, url: str, losses: ModuleType) -> None:
        self.folder, self.url, self._losses = folder, url, losses
        self.now_ms, self.seconds = NOW, 0.0
        self.processes: dict[str, Process] = {}
        self.opened: list[Process] = []

    def start(self, *names: str) -> list[Process]:
        for name in names:
            process = self.processes.get(name) or self.process(name)
            process.step()
        return [self.processes[name] for name in names]

    def funded(self, balance: int, *names: str, **limits: Any) -> list[Process]:
        started = self.start(*names)
        started[0].ledger.fund("deposit", "a", balance)
        for leaf in LEAVES:
            started[0].ledger.set_account(leaf, **limits)
        self.step()
        return started

    def step(self, seconds: float = 1.1) -> None:
        """Let time pass, then each process do what is to do, twice: what one gives back the other may take."""
        self.now_ms += round(seconds * 1000)
        self.seconds += seconds
        for _ in range(2):
            for process in self.processes.values():
                process.step()

    def process(self, name: str, away: bool = False, **settings: Any) -> Process:
        """Start one without a step; away: it does not reach the authority."""
        self.processes[name] = Process(self, name, away, **settings)
        return self.processes[name]

    def kill(self, name: str) -> None:
        self.processes.pop(name).die()

    def check(self) -> None:
        """Everything balances, in each ledger and at the authority, and no ledger has more than it was allotted."""
        with closing(self.authority()) as authority:
            operators.check_books(authority)
            assert operators.over_limits(authority) == []
        for process in self.processes.values():
            process.ledger.check_invariant()
            books, allotted = process.ledger.books, self.allotted_by_id(process)
            rows = books.native.leaf_days().reshape(-1, 3).tolist()
            named = [(books.rows[leaf].account_id, day, micros) for leaf, day, micros in rows]
            folded = {leaf: micros for (leaf, day), micros in allotted.items() if day == LIFE}
            assert all(micros <= allotted.get((leaf, day), folded.get(leaf, 0)) for leaf, day, micros in named)

    def authority(self, name: str = "") -> Authority:
        config = AuthorityConfig(url=self.url, name=name, timeout_ms=60_000)
        return Authority(config, clock_ms=lambda: self.now_ms)

    def allotted(self, process: Process) -> dict[tuple[int, int], int]:
        """What the authority has allotted to a process, by line item and day."""
        query = "SELECT account, day, allotted FROM authority_allotments WHERE holder = ?"
        rows = process.gate.database.read(lambda sql: sql.execute(query, (process.ledger.holder.name,)).fetchall())
        return {(row[0], row[1]): row[2] for row in rows}

    def allotted_by_id(self, process: Process) -> dict[tuple[str, int], int]:
        """The same by account id, by which processes agree after the authority lost commits, too."""
        query = "SELECT account_number, account_id FROM ledger_accounts"
        names = dict(process.gate.database.read(lambda sql: sql.execute(query).fetchall()))
        return {(names[leaf], day): micros for (leaf, day), micros in self.allotted(process).items()}

    def copy(self) -> Any:
        """What the authority holds now, for `lose`."""
        return self._losses.copy_of(self.url)

    def lose(self, copied: Any) -> None:
        """Let the authority lose all its commits since a copy."""
        self._losses.put_back(self.url, copied)

    def fail_over(self, copied: Any) -> None:
        """The same, and another server answers from now on: all have to connect anew."""
        self.lose(copied)
        with closing(self.authority()) as authority:
            authority.database.write(lambda sql: set_meta(sql, "place", "another server"))
        for process in self.processes.values():
            process.gate.close()

    def close(self) -> None:
        for process in self.processes.values():
            process.gate.away = process.gate.loses = False
            process.gate.answers.set()
            process.ledger.close()
        for process in self.opened:  # closing again is of no matter
            process.store.close()
            process.authority.close()
