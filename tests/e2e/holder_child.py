"""Bidding processes of the crash tests that share one budget: each bids and settles without end, until it is killed.

Run without arguments it serves forks: each line on stdin is `FOLDER URL SEED EPOCH_S`, the answer on stdout is the new
process's id. All folders lie side by side; a process appends its tokens to `FOLDER/tokens`, a line each, and sends
notices of any process's tokens, more than once and in any order. Clocks run `SPEED` times as fast from EPOCH_S on.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from headrace.authority.authority import Authority
from headrace.authority.held import HeldLedger
from headrace.authority.settings import AuthorityConfig
from headrace.errors import HeadraceError
from headrace.events.store import Store
from headrace.ledger.ledger import LedgerConfig

START_MS = 1_800_000_000_000
SPEED = 20_000
LEAVES = ("a/c/x", "a/c/y", "a/d/z")


class Life:
    """One process's work until its end."""

    def __init__(self, folder: Path, url: str, seed: int, epoch_s: float) -> None:
        self.rng, self.folder, self.epoch_s = random.Random(seed), folder, epoch_s
        folder.mkdir(exist_ok=True)
        self.tokens = os.open(folder / "tokens", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.store = Store(folder / "store.db")
        config = LedgerConfig(snapshot_records=300, billing_window_ms=900 * 86_400_000)
        authority = Authority(
            AuthorityConfig(url=url, name=folder.name, timeout_ms=60_000, poll_ms=20, slice_max_micros=4000)
        )
        self.ledger = HeldLedger(folder, self.store, clock_ms=self.now_ms, authority=authority, config=config)
        assert self.ledger.try_acquire()
        self.ledger.holder.start()
        self.numbers = [self.ledger.account_number(leaf) for leaf in LEAVES]
        self.known: list[str] = []
        self.read_to: dict[Path, int] = {}

    def now_ms(self) -> int:
        return START_MS + round((time.monotonic() - self.epoch_s) * 1000 * SPEED)

    def run(self) -> None:
        while True:
            self.reserve()
            if self.rng.random() < 0.6:
                self.settle()

    def reserve(self) -> None:
        size = self.rng.randrange(1, 8)
        accounts = np.array([self.rng.choice(self.numbers) for _ in range(size)], np.int32)
        cpm = np.array([self.rng.randrange(1, 90_000) for _ in range(size)], np.int64)
        tokens, _ = self.ledger.reserve(accounts, cpm, ["x"] * size, self.now_ms())
        taken = [token for token in tokens if token is not None]
        os.write(self.tokens, "".join(f"{token}\n" for token in taken).encode())
        if not taken:
            time.sleep(0.002)

    def settle(self) -> None:
        for path in self.folder.parent.glob("*/tokens"):
            with path.open("rb") as file:
                file.seek(self.read_to.get(path, 0))
                whole = file.read().rpartition(b"\n")[0]
            self.read_to[path] = self.read_to.get(path, 0) + (len(whole) + 1 if whole else 0)
            self.known += whole.decode().split()
        if not self.known:
            return
        tokens = [self.rng.choice(self.known[-400:]) for _ in range(self.rng.randrange(1, 12))]
        tokens.append(tokens[0][:-3] + "abc")  # forged
        kinds = [self.rng.choice((1, 2, 3, 3)) for _ in tokens]
        prices = [self.rng.randrange(0, 90_000) for _ in tokens]
        try:
            self.ledger.notify(kinds, tokens, prices, self.now_ms())
        except HeadraceError as error:
            print(error, file=sys.stderr)


def serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    for line in sys.stdin:
        folder, url, seed, epoch_s = line.split()
        child = os.fork()
        if child == 0:
            Life(Path(folder), url, int(seed), float(epoch_s)).run()
        print(child, flush=True)


if __name__ == "__main__":
    serve()
