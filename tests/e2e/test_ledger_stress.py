"""Seven threads at one ledger on a failing disk: nothing acknowledged is lost, nothing held is unbacked."""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import LedgerError, OverloadedError, PreconditionError, StoreError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, NoticeType

ROUNDS = int(os.environ.get("HEADRACE_STRESS_ROUNDS", "150"))
LINES = ["acme/c/x", "acme/c/y", "acme/d/z"]
START_MS = 1_800_000_000_000
EXPECTED = (StoreError, OverloadedError, PreconditionError, LedgerError)


class FailingStore(Store):
    """A store whose device is full for a share of its jobs, before or after they ran."""

    share = 0.0
    dice = random.Random(1)

    def _run_one(self, function: Callable[..., Any], future: Future[Any], done: list[Any]) -> None:
        self._maybe_fail(self.share)
        super()._run_one(function, future, done)
        self._maybe_fail(self.share / 4)

    def _maybe_fail(self, share: float) -> None:
        if self.dice.random() < share:
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error


class Stress:
    """What the threads do to one ledger, and what they were told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FailingStore(folder / "headrace.db")
        ticks = itertools.count()
        self.clock = lambda: START_MS + next(ticks)
        self.config = LedgerConfig(snapshot_records=60, retry_ms=1, lease_max_micros=3000)
        self.ledger = self.open()
        self.ledger.fund("deposit", "acme", 5_000_000)
        for line in LINES:
            self.ledger.set_account(line)
        self.numbers = [self.ledger.account_number(line) for line in LINES]
        self.lock = threading.Lock()
        self.open_tokens: list[str] = []
        self.settled: dict[str, tuple[int, int]] = {}
        self.problems: list[str] = []

    def open(self) -> Ledger:
        ledger = Ledger(self.folder, self.store, clock_ms=self.clock, config=self.config)
        assert ledger.try_acquire()
        return ledger

    def reserve(self, dice: random.Random) -> None:
        n = dice.randrange(1, 20)
        accounts = np.array([dice.choice(self.numbers) for _ in range(n)], np.int32)
        cpm = np.array([dice.randrange(100, 60_000) for _ in range(n)], np.int64)
        tokens, _ = self.ledger.reserve(accounts, cpm, ["x"] * n, self.clock())
        with self.lock:
            self.open_tokens += [token for token in tokens if token]

    def notify(self, dice: random.Random) -> None:
        with self.lock:
            dice.shuffle(self.open_tokens)
            n = min(len(self.open_tokens), dice.randrange(1, 25))
            tokens = [self.open_tokens.pop() for _ in range(n)]
        if not tokens:
            self.reserve(dice)
            return
        said = [
            (dice.choice((NoticeType.WIN, NoticeType.BILLING, NoticeType.LOSS)), dice.randrange(100)) for _ in tokens
        ]
        self.say(tokens, said, {NoticeOutcome.ACCEPTED, NoticeOutcome.DUPLICATE})
        with self.lock:
            self.settled |= dict(zip(tokens, said, strict=True))

    def repeat(self, dice: random.Random) -> None:
        with self.lock:
            tokens = dice.sample(sorted(self.settled), min(len(self.settled), 5))
            said = [self.settled[token] for token in tokens]
        if tokens:
            self.say(tokens, said, {NoticeOutcome.DUPLICATE})

    def say(self, tokens: list[str], said: list[tuple[int, int]], expected: set[NoticeOutcome]) -> None:
        """Notify until it is acknowledged; a first try may have been committed without our hearing of it."""
        kinds, prices = zip(*said, strict=True)
        while True:
            try:
                outcomes = self.ledger.notify(kinds, tokens, prices, self.clock())
                break
            except EXPECTED:
                continue
        if not set(outcomes.tolist()) <= expected:
            self.problems.append(f"{said} were answered {outcomes.tolist()}")

    def tick(self, dice: random.Random) -> None:
        self.ledger.tick(self.clock())

    def edit(self, dice: random.Random) -> None:
        name = dice.choice([*LINES, "acme/c", "acme"])
        choice = dice.randrange(5)
        if choice == 0:
            self.ledger.set_account(name, lifetime_micros=dice.choice([None, dice.randrange(5_000_000)]))
        elif choice == 1:
            self.ledger.set_account(dice.choice(LINES), daily_micros=dice.choice([None, dice.randrange(1_000_000)]))
        elif choice == 2:
            self.ledger.fund(str(dice.random()), "acme", dice.randrange(1, 50_000))
        elif choice == 3:
            self.ledger.fund(str(dice.random()), "acme", -dice.randrange(1, 500_000))
        else:
            self.ledger.check_invariant()

    def work(self, act: Callable[[random.Random], None], seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(ROUNDS):
            try:
                act(dice)
            except EXPECTED:
                continue
            except Exception as error:  # anything else is a finding
                self.problems.append(repr(error))
                return

    def run(self) -> None:
        acts = [self.reserve, self.reserve, self.notify, self.notify, self.repeat, self.tick, self.edit]
        threads = [threading.Thread(target=self.work, args=(act, seed)) for seed, act in enumerate(acts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def sums(self, ledger: Ledger) -> dict[str, tuple[int, ...]]:
        return {
            state.account_id: (state.billed_micros, state.won_micros, state.reserved_micros, state.late_micros)
            for state in ledger.accounts()
        }


@pytest.fixture(params=[0.0, 0.02, 0.08], ids=lambda share: f"full {share:.0%}")
def stress(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stress]:
    stress = Stress(tmp_path)
    FailingStore.share = request.param
    yield stress
    FailingStore.share = 0.0
    stress.store.close()


def until_committed(act: Callable[[], object]) -> None:
    for _ in range(100):
        try:
            act()
            return
        except EXPECTED:
            continue
    raise AssertionError("the ledger does not recover although the disk works again")


def test_nothing_acknowledged_is_lost_and_nothing_held_is_unbacked(stress: Stress) -> None:
    stress.run()
    assert stress.problems == []
    assert len(stress.settled) > 100
    FailingStore.share = 0.0
    until_committed(lambda: stress.ledger.tick(stress.clock()))
    until_committed(stress.ledger.flush)
    stress.ledger.check_invariant()
    before = stress.sums(stress.ledger)

    # as after a kill: nothing is drained
    stress.ledger._books.native.freeze()
    stress.ledger._owner.release()
    again = stress.open()
    again.flush()
    again.check_invariant()
    assert stress.sums(again) == before
    for token, (kind, price) in stress.settled.items():
        assert again.notify([kind], [token], [price], stress.clock())[0] == NoticeOutcome.DUPLICATE
    wins = [(token, price) for token, (kind, price) in stress.settled.items() if kind == NoticeType.WIN]
    ends = [(token, NoticeType.BILLING, price) for token, price in wins]
    ends += [(token, NoticeType.LOSS, -1) for token in stress.open_tokens]
    tokens, kinds, prices = zip(*ends, strict=True)
    outcomes = again.notify(kinds, tokens, prices, stress.clock())
    assert set(outcomes.tolist()) == {NoticeOutcome.ACCEPTED}
    again.flush()
    _, won, reserved, _ = stress.sums(again)["acme"]
    assert (won, reserved) == (0, 0)
    again.close()
