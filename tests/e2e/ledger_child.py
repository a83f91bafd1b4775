"""Processes for the crash tests: each reserves, settles and records without end, until the test kills it.

Run without arguments it serves forks, so that a process starts in milliseconds: each line on stdin is
`FOLDER SEED ACKS SAFE`, the answer on stdout is the new process's id. What was answered stands in the file ACKS:
`ready`, `open TOKEN CPM`, `settle TOKEN TYPE OUTCOME PRICE` or `event N`, a line each.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
from pathlib import Path

import numpy as np

from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig, Reason
from headrace.ledger.tokens import TokenKeys

NOW = 1_800_000_000_000
LEAVES = ("a/c/x", "a/c/y")
BALANCE = 3_000_000
SCHEMA = "CREATE TABLE IF NOT EXISTS acknowledged(n INTEGER PRIMARY KEY) STRICT;"


class Life:
    """One process's work on the ledger of a folder."""

    def __init__(self, folder: Path, seed: int, acks: Path, safe: bool) -> None:
        self.rng = random.Random(seed)
        self.acks = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.store = Store(folder / "store.db", SCHEMA)
        if not safe:
            self.store._writer.execute("PRAGMA synchronous = OFF")
        self.now = NOW + seed * 1000
        self.ledger = Ledger(folder, self.store, clock_ms=lambda: self.now, config=LedgerConfig(snapshot_records=400))
        self.keys = TokenKeys(folder / "ledger.keys")
        self.live: list[str] = []
        assert self.ledger.try_acquire()
        self.ledger.fund("deposit", "a", BALANCE)
        for leaf in LEAVES:
            self.ledger.set_account(leaf)
        self.numbers = [self.ledger.account_number(leaf) for leaf in LEAVES]

    def say(self, lines: list[str]) -> None:
        os.write(self.acks, "".join(lines).encode())

    def run(self) -> None:
        first = int(self.store.read("SELECT ifnull(max(n), 0) FROM acknowledged")[0][0])
        self.say(["ready\n"])
        for n in range(first + 1, sys.maxsize):
            self.now += self.rng.randrange(50)
            self.reserve()
            if self.rng.random() < 0.7:
                self.settle()
            if self.rng.random() < 0.3:
                self.record(n)

    def reserve(self) -> None:
        size = self.rng.randrange(1, 24)
        accounts = np.array([self.rng.choice(self.numbers) for _ in range(size)], np.int32)
        cpm = np.array([self.rng.randrange(1, 90_000) for _ in range(size)], np.int64)
        tokens, reasons = self.ledger.reserve(accounts, cpm, ["x"] * size, self.now)
        assert set(reasons.tolist()) <= {Reason.OK, Reason.BUDGET}
        taken = [(token, amount) for token, amount in zip(tokens, cpm.tolist(), strict=True) if token is not None]
        self.say([f"open {token} {amount}\n" for token, amount in taken])
        self.live.extend(token for token, _ in taken)

    def settle(self) -> None:
        self.rng.shuffle(self.live)
        tokens = [self.live.pop() for _ in range(min(len(self.live), self.rng.randrange(1, 30)))]
        if not tokens:
            return
        bodies, _, _ = self.keys.verify(tokens)
        kinds = [self.rng.choice((1, 2, 3, 3)) for _ in tokens]
        prices = [self.rng.randrange(0, int(cpm * 1.05) + 1) for cpm in bodies["cpm"].tolist()]
        outcomes = self.ledger.notify(kinds, tokens, prices, self.now).tolist()
        rows = zip(tokens, kinds, outcomes, prices, strict=True)
        self.say([f"settle {token} {kind} {outcome} {price}\n" for token, kind, outcome, price in rows])
        self.live.extend(token for token in tokens if self.rng.random() < 0.3)

    def record(self, n: int) -> None:
        self.store.write(lambda connection: connection.execute("INSERT INTO acknowledged VALUES (?)", (n,)))
        self.say([f"event {n}\n"])


def serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        folder, seed, acks, safe = line.split()
        child = os.fork()
        if child == 0:
            Life(Path(folder), int(seed), Path(acks), safe == "1").run()
        print(child, flush=True)


if __name__ == "__main__":
    serve()
