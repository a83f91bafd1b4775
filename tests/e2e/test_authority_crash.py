"""Four processes spend one budget while they are killed at random: never a micro too much, the last one too."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.authority.authority import Authority
from headrace.authority.held import HeldLedger
from headrace.authority.schema import LIFE
from headrace.authority.settings import AuthorityConfig
from headrace.events.store import Store
from headrace.ledger.budgets import put_account
from headrace.ledger.ledger import LedgerConfig

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).with_name("holder_child.py")
N_KILLS = int(os.environ.get("HEADRACE_CRASH_RUNS", "6"))
N_POWER_LOSSES = max(1, N_KILLS // 12)
START_MS = 1_800_000_000_000
NAMES = ("p0", "p1", "p2", "p3")
BALANCE = 40_000
TIMEOUT_MS = 60_000
LATER_MS = START_MS + 400 * 86_400_000


class Forks:
    """Starts processes of holder_child.py and kills them."""

    def __init__(self, folder: Path, url: str, environment: dict[str, str] | None = None) -> None:
        self.folder, self.url, self.epoch_s = folder, url, time.monotonic()
        self.running: dict[str, int] = {}
        self.server = subprocess.Popen(
            [sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})},
        )

    def start(self, name: str, seed: int) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(f"{self.folder / name} {self.url} {seed} {self.epoch_s}\n")
        self.server.stdin.flush()
        self.running[name] = int(self.server.stdout.readline())

    def kill(self, name: str) -> None:
        child = self.running.pop(name)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{child}").exists())

    def n_tokens(self, name: str) -> int:
        path = self.folder / name / "tokens"
        return path.stat().st_size if path.exists() else 0

    def wait_for_more(self, name: str, authority: Authority) -> None:
        """Until the process has taken more, or nothing is left to take."""
        before = self.n_tokens(name)
        wait_until(lambda: self.n_tokens(name) > before or spent_up(authority))


def wait_until(done: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "the processes did not get there"
        threading.Event().wait(0.001)


@contextmanager
def forks(folder: Path, url: str, environment: dict[str, str] | None = None) -> Iterator[Forks]:
    made = Forks(folder, url, environment)
    try:
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)
        made.server.communicate()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/authority.db"
    made: str = request.getfixturevalue("postgres").new_database()
    return made


@contextmanager
def funded(url: str, balance: int = BALANCE) -> Iterator[Authority]:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=TIMEOUT_MS))

    def job(sql: Any) -> None:
        put_account(sql, "a/c", {"daily_micros": balance // 4}, START_MS, "ann", "")
        for leaf in ("a/c/x", "a/c/y", "a/d/z"):
            put_account(sql, leaf, {}, START_MS, "ann", "")
        put_account(sql, "a/d/z", {"lifetime_micros": balance // 3}, START_MS, "ann", "")

    with closing(authority):
        operators.fund(authority, "deposit", "a", balance, "USD", "ann")
        authority.database.write(job)
        yield authority


class Survivors:
    """The ledgers that the killed processes left, on a clock that goes on only when told to."""

    def __init__(self, folders: list[Path], url: str, stack: ExitStack) -> None:
        self.seconds, self._began_ms = 0.0, time.time_ns() // 1_000_000
        self.ledgers = [self._reopen(folder, url, stack) for folder in folders]

    def _reopen(self, folder: Path, url: str, stack: ExitStack) -> HeldLedger:
        store = stack.enter_context(closing(Store(folder / "store.db")))
        authority = stack.enter_context(
            closing(
                Authority(
                    AuthorityConfig(url=url, name=folder.name, timeout_ms=TIMEOUT_MS),
                    clock_ms=lambda: self._began_ms + round(1000 * self.seconds),
                )
            )
        )
        config = LedgerConfig(billing_window_ms=900 * 86_400_000)
        ledger = HeldLedger(folder, store, clock_ms=lambda: LATER_MS, authority=authority, config=config)
        ledger.holder._seconds = lambda: self.seconds
        stack.enter_context(closing(ledger))
        assert ledger.try_acquire()
        assert ledger.holder.refused == ""
        assert not ledger.fenced
        return ledger

    def step(self) -> None:
        self.seconds += 1.1
        for ledger in self.ledgers:
            ledger.holder.step()
            ledger.tick(LATER_MS)

    def spend_the_rest(self) -> None:
        """Reserve a micro at a time, on a day of its own, until nothing is left."""
        leaves = [self.ledgers[0].account_number(name) for name in ("a/c/y", "a/d/z")]
        idle = 0
        while idle < 4:
            taken = 0
            for ledger in self.ledgers:
                for leaf in leaves:
                    accounts, cpm = np.full(500, leaf, np.int32), np.full(500, 1_000, np.int64)
                    tokens, _ = ledger.reserve(accounts, cpm, ["x"] * 500, LATER_MS)
                    taken += sum(token is not None for token in tokens)
            self.step()
            idle = 0 if taken else idle + 1


@contextmanager
def survivors(folders: list[Path], url: str) -> Iterator[Survivors]:
    with ExitStack() as stack:
        yield Survivors(folders, url, stack)


def brought_in(authority: Authority) -> list[Any]:
    return authority.database.read(
        lambda sql: sql.execute("SELECT subject, after FROM ledger_audit WHERE action = 'bring_in'").fetchall()
    )


def check(authority: Authority, ledgers: list[HeldLedger], balance: int = BALANCE) -> tuple[int, int]:
    """Every limit over all processes, from their own books.

    Returns what is committed in all, and what the limits would still allow on the last day.
    """
    operators.check_books(authority)
    assert operators.over_limits(authority) == []
    assert brought_in(authority) == []  # no ledger ever had more than it was allotted
    committed: Counter[tuple[int, int]] = Counter()
    a, c, z = (ledgers[0].account_number(name) for name in ("a", "a/c", "a/d/z"))
    parents = {number: row.parent for number, row in ledgers[0].books.rows.items()}
    for ledger in ledgers:
        ledger.check_invariant()
        assert not ledger.fenced
        for leaf, day, micros in ledger.books.native.leaf_days().reshape(-1, 3).tolist():
            node = leaf
            while node >= 0:
                committed[node, day] += micros
                committed[node, LIFE] += micros
                node = parents[node]
    assert all(micros <= balance // 4 for (node, day), micros in committed.items() if node == c and day != LIFE)
    left_of_c = balance // 4 - committed[c, LATER_MS // 86_400_000]
    left_of_z = balance // 3 - committed[z, LIFE]
    left = balance - committed[a, LIFE]
    assert min(left_of_z, left) >= 0
    return committed[a, LIFE], min(left, left_of_c + left_of_z)


def spent_up(authority: Authority, balance: int = BALANCE) -> bool:
    totals = authority.database.read(
        lambda sql: sql.execute(
            "SELECT allotted FROM authority_totals WHERE account = 0 AND day = ?", (LIFE,)
        ).fetchone()
    )
    return bool(totals and totals[0] >= balance - 100)


def test_four_processes_killed_at_random_spend_one_budget(tmp_path: Path, url: str) -> None:
    rng = random.Random(7)
    with funded(url) as authority:
        with forks(tmp_path, url) as processes:
            for seed, name in enumerate(NAMES):
                processes.start(name, seed)
            wait_until(lambda: sum(map(processes.n_tokens, NAMES)) > 0)
            for kill in range(N_KILLS):
                name = rng.choice(NAMES)
                if rng.random() < 0.7:  # others are killed in their first moments
                    processes.wait_for_more(name, authority)
                threading.Event().wait(rng.random() * 0.2)
                processes.kill(name)
                processes.start(name, 100 + kill)
                operators.check_books(authority)
                assert operators.over_limits(authority) == []
        with survivors([tmp_path / name for name in NAMES], url) as left:
            for _ in range(3):
                left.step()
            assert [row.notices for row in operators.holders(authority)] == [0] * 4  # forwarded and settled
            assert check(authority, left.ledgers)[0] > 0
            left.spend_the_rest()
            assert check(authority, left.ledgers)[1] == 0


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: what a power loss drops cannot be simulated")
    built = tmp_path_factory.mktemp("shim") / "drop_unsynced.so"
    source = ROOT / "native" / "tests" / "drop_unsynced.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source], check=True)
    return built


def test_a_power_loss_of_one_holder_brings_in_nothing(tmp_path: Path, shim: Path) -> None:
    """What a holder gave back it had written down first: without its unsynced writes it still fits its allotment."""
    for seed in range(N_POWER_LOSSES):
        folder, shadow, url = tmp_path / f"live{seed}", tmp_path / f"shadow{seed}", f"sqlite:///{tmp_path}/{seed}.db"
        folder.mkdir()
        shadow.mkdir()
        lossy = {"LD_PRELOAD": str(shim), "SHADOW_ROOT": str(folder / "p0"), "SHADOW_DIR": str(shadow)}
        with funded(url, 20_000) as authority:
            with forks(folder, url, lossy) as losing, forks(folder, url) as other:
                other.epoch_s = losing.epoch_s
                losing.start("p0", seed)
                other.start("p1", seed + 50)
                # the limits are reached on every of the fast days, so each takes back what the other does not use
                wait_until(lambda: losing.n_tokens("p0") > 12_000 and other.n_tokens("p1") > 12_000)
                threading.Event().wait(random.Random(seed).random() * 0.4)
            left = folder / "left"
            left.mkdir()
            for name in shadow.glob("=*"):
                shutil.copyfile(name, left / name.name[1:])
            with survivors([left, folder / "p1"], url) as both:
                for _ in range(3):
                    both.step()
                assert 0 < check(authority, both.ledgers, 20_000)[0] <= 20_000
