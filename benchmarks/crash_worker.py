"""The bidder of the crash stress: reserves and settles in batches until somebody kills it.

Run without arguments it serves forks, so that a process starts in milliseconds: each line on stdin is the arguments of
`Life` as JSON, the answer on stdout is the new process's id. Beside its ledger a life keeps three files that nobody
takes back, kill or power loss: `bids` (tokens that left), `progress` and `problems`.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import numpy as np
from crash_market import LOSS, Bids, notices_of, read_bids

from headrace.authority import operators
from headrace.authority.authority import Authority
from headrace.authority.held import HeldLedger
from headrace.authority.settings import AuthorityConfig
from headrace.errors import AuthorityUnreachableError, PreconditionError
from headrace.events.store import DATABASE, Store
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, Reason
from headrace.ledger.tokens import TOKEN_LENGTH

START_MS = 1_800_000_000_000
DAY_MS = 86_400_000
DAYS = 25
END_MS = START_MS + (DAYS + 1) * DAY_MS
"""When the clock stops: no notice leaves the billing window."""
BATCH = 512
DELAY = 3
"""Batches between a bid and its notices."""
PROGRESS = struct.Struct("<qqq")
"""Operations, bytes of `bids` whose notices were answered, simulated ms."""
HOLD = ("hold/steady/x", "hold/steady/y")
EDITED = ("hold/edited/z",)
EXPIRE = ("expire/ttl/w",)
LINES = (*HOLD, *EDITED, *EXPIRE)
TTL_MS = 6 * 3_600_000
CONFIG = LedgerConfig(snapshot_records=200_000, lease_max_micros=2_000_000, expire_after_ms=TTL_MS)
FINE = {NoticeOutcome.ACCEPTED, NoticeOutcome.DUPLICATE}


class Life:
    """One process's work on the ledger of a folder.

    folder : of the ledger.   beside : of the files that stay.   step_ms : simulated time of an operation.
    daily : micros that the lines of HOLD may spend a day, together.
    authority : URL of who allots the budgets that this one spends with others, whose files lie beside its own; empty:
        it is on its own.
    """

    def __init__(
        self, folder: str, beside: str, seed: int, step_ms: float, daily: int, batch: int = BATCH, authority: str = ""
    ) -> None:
        self.dice = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.beside, self.batch, self.daily = Path(beside), batch, daily
        self.step_ms, self.authority = step_ms, authority
        flags = os.O_RDWR | os.O_CREAT
        self.bids = os.open(self.beside / "bids", flags | os.O_APPEND, 0o600)
        os.ftruncate(self.bids, os.fstat(self.bids).st_size // TOKEN_LENGTH * TOKEN_LENGTH)  # a kill may cut one off
        self.progress = os.open(self.beside / "progress", flags, 0o600)
        before = os.pread(self.progress, PROGRESS.size, 0)
        self.operations, self.answered, self.now = PROGRESS.unpack(before) if before else (0, 0, START_MS)
        if self.dice.random() < 0.02:
            self.now -= self.dice.randrange(3_600_000)  # a clock that was set back
        self.waiting: deque[tuple[Bids, int]] = deque()
        self.store = Store(Path(folder) / DATABASE)
        self.ledger = self.open_ledger(Path(folder))
        self.numbers = np.array([self.ledger.account_number(line) for line in LINES], np.int32)

    def open_ledger(self, folder: Path) -> Ledger:
        if self.authority:
            allots = Authority(AuthorityConfig(url=self.authority, name=self.beside.name))
            ledger: Ledger = HeldLedger(folder, self.store, clock_ms=lambda: self.now, authority=allots, config=CONFIG)
        else:
            ledger = Ledger(folder, self.store, clock_ms=lambda: self.now, config=CONFIG)
        assert ledger.try_acquire()
        self.in_step(ledger)
        ledger.check_invariant()
        while True:
            with suppress(AuthorityUnreachableError):  # killed a moment ago; it comes back
                set_up(ledger, self.daily)
                return ledger
            time.sleep(0.02)

    def in_step(self, ledger: Ledger) -> None:
        """Ask for money, give some back, hear of edits, where there is an authority."""
        if isinstance(ledger, HeldLedger):
            with suppress(AuthorityUnreachableError):  # another process holds its database for too long
                ledger.holder.step()

    def run(self) -> None:
        """Until the end of this process."""
        self.catch_up()
        while True:
            self.turn()

    def turn(self) -> None:
        """One batch: bids leave, the notices of earlier ones are answered, an operator does something."""
        before = self.operations
        self.in_step(self.ledger)
        self.reserve()
        if len(self.waiting) > DELAY:
            bids, end = self.waiting.popleft()
            self.settle(bids, np.flatnonzero(bids.told & ~bids.late))
            self.answered = end
        self.now = min(self.now + int(self.step_ms * (self.operations - before)), END_MS)
        if self.dice.random() < 0.05:
            self.operate()
        os.pwrite(self.progress, PROGRESS.pack(self.operations, self.answered, self.now), 0)

    def catch_up(self) -> None:
        """After a kill: what waited is told again, and of some block of long ago all of it, the very late included."""
        size = os.fstat(self.bids).st_size // TOKEN_LENGTH * TOKEN_LENGTH
        self.tell_again(self.answered, min(size, self.answered + 20 * self.batch * TOKEN_LENGTH), late=False)
        self.answered = size
        n = size // TOKEN_LENGTH
        if n:
            first = self.dice.randrange(n) * TOKEN_LENGTH
            self.tell_again(first, min(size, first + self.batch * TOKEN_LENGTH), late=True)
        if self.authority:
            self.tell_of_others()

    def tell_of_others(self) -> None:
        """Notices of another process's bids, which come to this one by some chance."""
        paths = [path for path in sorted(self.beside.parent.glob("*/bids")) if path.parent != self.beside]
        if not paths:
            return
        with self.dice.choice(paths).open("rb") as file:
            n = os.fstat(file.fileno()).st_size // TOKEN_LENGTH
            file.seek(self.dice.randrange(n + 1) * TOKEN_LENGTH)
            bids = read_bids(file.read(self.batch * TOKEN_LENGTH))
        said = notices_of(bids, np.flatnonzero(bids.told), self.dice)
        if said.types:
            self.ledger.notify(said.types, said.tokens, said.prices, self.now)
            self.operations += len(said.types)

    def tell_again(self, start: int, end: int, late: bool, untold: bool = False) -> None:
        bids = read_bids(os.pread(self.bids, end - start, start))
        for first in range(0, len(bids.tokens), 4 * self.batch):
            rows = np.arange(first, min(first + 4 * self.batch, len(bids.tokens)))
            self.settle(bids, rows[(untold | bids.told[rows]) & (late | ~bids.late[rows])])

    def settle_all(self) -> None:
        """As at the end of a month, when the exchange's bill has come: every bid's end is told, the untold included."""
        size = os.fstat(self.bids).st_size
        block = 100_000 * TOKEN_LENGTH
        for start in range(0, size, block):
            self.tell_again(start, min(size, start + block), late=True, untold=True)

    def reserve(self) -> None:
        n = self.batch
        accounts = self.numbers[self.rng.integers(0, len(LINES), n)]
        cpm = self.rng.integers(1, 100_000, n)
        tokens, reasons = self.ledger.reserve(accounts, cpm, ["adx"] * n, self.now)
        away = {Reason.AUTHORITY} if self.authority else set()  # its database was held by another process for too long
        if not set(reasons.tolist()) <= {Reason.OK, Reason.BUDGET, Reason.BRAKE} | away:
            self.complain(f"reserve answered {set(reasons.tolist())}")
        left = "".join(token for token in tokens if token).encode()
        os.write(self.bids, left)
        self.operations += n
        self.waiting.append((read_bids(left), os.lseek(self.bids, 0, os.SEEK_END)))

    def settle(self, bids: Bids, rows: np.ndarray) -> None:
        said = notices_of(bids, rows, self.dice)
        if not said.types:
            return
        outcomes = self.ledger.notify(said.types, said.tokens, said.prices, self.now).tolist()
        self.operations += len(outcomes)
        known = []
        for kind, token, honest, outcome in zip(said.types, said.tokens, said.honest, outcomes, strict=True):
            if honest and outcome not in FINE and not self.may_be_late(token, outcome):
                self.complain(f"{kind} of {token} was answered {outcome}")
            elif honest and outcome in FINE and len(known) < 3:
                known.append(token)
        if known:  # a loss that contradicts a bill moves nothing
            outcomes = self.ledger.notify([LOSS] * len(known), known, [-1] * len(known), self.now).tolist()
            self.operations += len(known)
            if not set(outcomes) <= {NoticeOutcome.CONFLICT, NoticeOutcome.DUPLICATE}:
                self.complain(f"losses after bills were answered {outcomes}")

    def may_be_late(self, token: str, outcome: int) -> bool:
        """Bills of what time released, on the lines of expire mode."""
        if outcome != NoticeOutcome.LATE:
            return False
        return bool(read_bids(token.encode()).bodies["account"][0] == self.numbers[-1])

    def operate(self) -> None:
        """An operator's edit, deposit, refund, brake, or a tick."""
        with suppress(AuthorityUnreachableError):
            self.operate_once()
        self.operations += 1

    def operate_once(self) -> None:
        choice = self.dice.randrange(6)
        if choice == 0:
            self.ledger.set_account("hold/edited", lifetime_micros=self.dice.randrange(self.daily, 8 * self.daily))
        elif choice == 1:
            self.ledger.fund(f"top{self.dice.random()}", "hold", self.daily)
        elif choice == 2:
            with suppress(PreconditionError):  # mostly of more than is left: what is committed stays
                self.ledger.fund(f"back{self.dice.random()}", "hold", -self.dice.randrange(1, 12 * self.daily))
        elif choice == 3:
            self.ledger.brake("", "hold", self.dice.random() < 0.2, "stress")
        else:
            self.ledger.tick(self.now)

    def complain(self, text: str) -> None:
        with (self.beside / "problems").open("a") as file:
            file.write(text + "\n")


def set_up(ledger: Ledger, daily: int) -> None:
    """The accounts of the stress; nothing where they are there already."""
    ledger.fund("first", "hold", 20 * daily)
    ledger.fund("first-ttl", "expire", 26 * daily)
    ledger.set_account("hold/steady", daily_micros=daily)
    ledger.set_account("expire/ttl", mode=LedgerMode.EXPIRE, daily_micros=daily)
    for line in LINES:
        ledger.set_account(line)
    ledger.set_account(HOLD[0], daily_micros=daily * 2 // 3)


def serve() -> None:
    operators.REFUND_PATIENCE_S = 0.1  # a refund waits for what others give back, and the dead ones give nothing
    with suppress(ImportError):
        import psycopg  # noqa: F401  # once, before the forks
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            os.environ.update(asked.pop("environment", {}))
            last = asked.pop("last", False)
            life = Life(**asked)
            if last:
                life.settle_all()
                life.in_step(life.ledger)
                life.ledger.tick(life.now)
                life.ledger.close()
                life.store.close()
                os._exit(0)
            life.run()
        print(child, flush=True)


if __name__ == "__main__":
    serve()
