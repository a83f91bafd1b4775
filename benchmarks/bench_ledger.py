"""What the money ledger costs: `python benchmarks/bench_ledger.py [--quick]`.

First a random life is held against the plain twin; only then anything is timed. Each number is the median of the
repeats with the least and the most.
"""

from __future__ import annotations

import argparse
import platform
import random
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headrace import _native
from headrace.audit.settle import StoreSettler, carry_out
from headrace.audit.span import Span, hold_against
from headrace.events.store import DATABASE, Store
from headrace.ledger.journal import RECORD
from headrace.ledger.ledger import Ledger, LedgerConfig
from headrace.ledger.recovery import load_view
from headrace.ledger.tokens import TokenKeys, bodies_of
from headrace.reference.ledger import ReferenceLedger, Token

NOW = 1_800_000_000_000
LINE = "a/c/l"
BATCH = 1000


def report(name: str, unit: str, values: list[float]) -> None:
    middle, least, most = statistics.median(values), min(values), max(values)
    print(f"{name:<58} {middle:>12,.1f} {unit:<14} ({least:,.1f} to {most:,.1f}, n={len(values)})")


def open_ledger(folder: Path, balance: int, config: LedgerConfig | None = None) -> tuple[Store, Ledger, int]:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "store.db")
    ledger = Ledger(folder, store, clock_ms=lambda: NOW, config=config)
    assert ledger.try_acquire()
    ledger.fund("deposit", "a", balance)
    ledger.set_account(LINE)
    return store, ledger, ledger.account_number(LINE)


def reserve(ledger: Ledger, number: int, cpm: list[int]) -> list[str]:
    accounts = np.full(len(cpm), number, np.int32)
    tokens, _ = ledger.reserve(accounts, np.array(cpm, np.int64), ["x"] * len(cpm), NOW)
    taken = [token for token in tokens if token is not None]
    assert len(taken) == len(cpm)
    return taken


def agree_with_twin(folder: Path) -> None:
    rng = random.Random(1)
    store, ledger, number = open_ledger(folder, 10**9)
    keys, twin = TokenKeys(folder / "ledger.keys"), ReferenceLedger()
    known: list[tuple[str, Token]] = []
    for _ in range(60):
        cpm = [rng.randrange(1, 50_000) for _ in range(20)]
        tokens = reserve(ledger, number, cpm)
        bodies, _, _ = keys.verify(tokens)
        for token, body in zip(tokens, bodies, strict=True):
            twin.tokens.append(Token(LINE, int(body["lease"]), int(body["day"]), int(body["cpm"]), NOW))
            known.append((token, twin.tokens[-1]))
        picks = [rng.choice(known) for _ in range(40)]
        kinds = [rng.randrange(1, 4) for _ in picks]
        prices = [rng.choice([None, rng.randrange(0, 60_000)]) for _ in picks]
        found = ledger.notify(kinds, [token for token, _ in picks], prices, NOW).tolist()
        rows = zip(kinds, picks, prices, strict=True)
        assert found == [twin.notify(kind, token, price) for kind, (_, token), price in rows]
    state, plain = ledger.accounts()[number], twin.amounts(LINE)
    assert (state.billed_micros, state.won_micros, state.reserved_micros) == (plain.billed, plain.won, plain.reserved)
    assert (state.late_micros, state.disputed_micros) == (plain.late, plain.disputed)
    ledger.close()
    store.close()
    print("the native ledger and the plain twin agree on 1,200 reservations and 2,400 notices")


def in_memory(n_pairs: int) -> float:
    """Reserve and bill pairs a second on one core, the reservation file left out."""
    ledger = _native.Ledger(8, 10**15, 0, 0, 3_600_000)
    ledger.put_account(0, -1, [-1, -1, 10**16], [0, 0], -1, 0, 0)
    ledger.put_account(1, 0, [-1, 10**16, 0], [0, 0], -1, 0, 0)
    ledger.put_account(2, 1, [10**16, -1, 0], [0, 0], -1, 0, 0)
    ledger.set_zone_day(0, 0, 0, 2**60)
    accounts, cpm, exchanges = np.full(BATCH, 2, np.int32), np.full(BATCH, 2_500, np.int64), np.zeros(BATCH, np.int32)
    reasons, outcomes = np.full(BATCH, 7, np.int8), np.zeros(BATCH, np.int8)
    leases, serials, days = np.zeros(BATCH, np.int64), np.zeros(BATCH, np.int64), np.zeros(BATCH, np.int32)
    kinds, prices, tags = np.full(BATCH, 2, np.int8), np.full(BATCH, 2_000, np.int64), np.ones(BATCH, np.uint16)
    ledger.reserve(accounts, cpm, exchanges, NOW, NOW, reasons, leases, serials, days)
    ledger.activate(ledger.plan(NOW, 1))
    start = time.perf_counter()
    for _ in range(n_pairs // BATCH):
        reasons[:] = 7
        ledger.reserve(accounts, cpm, exchanges, NOW, NOW, reasons, leases, serials, days)
        ticket = ledger.settle(kinds, accounts, leases, serials, days, cpm, prices, tags, NOW, outcomes)
        ledger.take_records()
        ledger.confirm(ticket)
        assert reasons[-1] == 0
        assert outcomes[-1] == 1
    seconds = time.perf_counter() - start
    assert ledger.first_violation() == -1
    return n_pairs / seconds


def reserve_cost(folder: Path, n: int, batch: int) -> float:
    """Microseconds for each reservation with its token, leases and the reservation file included."""
    store, ledger, number = open_ledger(folder, 10**14, LedgerConfig(lease_max_micros=10**12))
    reserve(ledger, number, [2_500] * batch)
    ledger.flush()
    accounts, cpm, names = np.full(batch, number, np.int32), np.full(batch, 2_500, np.int64), ["x"] * batch
    start = time.perf_counter()
    for _ in range(n // batch):
        ledger.reserve(accounts, cpm, names, NOW)
    seconds = time.perf_counter() - start
    ledger.close()
    store.close()
    return seconds / n * 1e6


def durable(folder: Path, n: int, batch: int, n_threads: int) -> float:
    """Settlements a second through notify, each call answered after its commit."""
    store, ledger, number = open_ledger(folder, 10**14, LedgerConfig(lease_max_micros=10**12))
    batches = [reserve(ledger, number, [2_500] * batch) for _ in range(n // batch)]
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not batches:
                    return
                tokens = batches.pop()
            outcomes = ledger.notify(kinds, tokens, prices, NOW)
            assert outcomes.min() == outcomes.max() == 1

    kinds, prices = np.full(batch, 2, np.int8), np.full(batch, 2_000, np.int64)
    threads = [threading.Thread(target=work) for _ in range(n_threads)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    ledger.check_invariant()
    ledger.close()
    store.close()
    return n / seconds


def recovery(folder: Path, n_records: int) -> float:
    """Seconds to rebuild the state from a journal of so many records."""
    store, ledger, number = open_ledger(folder, 10**14, LedgerConfig(snapshot_records=10**9, lease_max_micros=10**12))
    columns = ledger.take(
        np.full(BATCH, number, np.int32), np.full(BATCH, 2_500, np.int64), ledger.exchange_codes(["x"] * BATCH), NOW
    )
    ledger.flush()
    records = np.zeros(BATCH, RECORD)
    records["kind"], records["state"], records["account"] = 3, 4, number
    records["lease"], records["a"], records["b"] = columns.leases[-1], 2_500, 2_000

    def fill(connection: sqlite3.Connection) -> None:
        for row in range(n_records // BATCH):
            records["serial"] = np.arange(row * BATCH, (row + 1) * BATCH)
            connection.execute("INSERT INTO ledger_journal(time_ms, records) VALUES (?, ?)", (NOW, records.tobytes()))

    store.write(fill)
    start = time.perf_counter()
    books = load_view(lambda text, parameters: store.read(text, parameters), ledger.config, NOW)
    seconds = time.perf_counter() - start
    assert books.states(0)[number].billed_micros == 2 * (n_records // BATCH) * BATCH
    ledger.close()
    store.close()
    return seconds


def settle_bill(folder: Path, n: int) -> float:
    """Seconds to settle n bids of a bill file; the books are checked, and that nothing is left."""
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / DATABASE)
    ledger = Ledger(folder, store, clock_ms=lambda: NOW)
    assert ledger.try_acquire()
    ledger.fund("deposit", "a", 10**10)
    ledger.set_account(LINE)
    number = ledger.account_number(LINE)
    tokens = [token for _ in range(n // BATCH) for token in reserve(ledger, number, [5_000] * BATCH)]
    bills = folder / "bills.csv"
    bills.write_text("token,price_cpm_micros\n" + "".join(f"{token},4000\n" for token in tokens))
    ledger.flush()
    asked = folder, bills, "x", None, Span(0, 2**60), False
    claims = hold_against(*asked)[1]
    start = time.perf_counter()
    assert carry_out(StoreSettler(ledger, "bench", "bench"), claims) == {"ACCEPTED": len(tokens)}
    seconds = time.perf_counter() - start
    assert ledger.accounts()[number].billed_micros == 4 * len(tokens)
    assert hold_against(*asked)[1] == []
    ledger.close()
    store.close()
    return seconds


def token_cost(folder: Path, n: int) -> tuple[float, float]:
    """Microseconds to sign and to verify one token, in batches of 1000."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = TokenKeys(folder / "ledger.keys")
    bodies = bodies_of([(2, NOW * 1024, serial, 20_000, 2_500, b"USD", 10**6, 2**60, NOW) for serial in range(BATCH)])
    start = time.perf_counter()
    for _ in range(n // BATCH):
        tokens = keys.issue(bodies)
    signed = time.perf_counter()
    for _ in range(n // BATCH):
        keys.verify(tokens)
    return (signed - start) / n * 1e6, (time.perf_counter() - signed) / n * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    machine = platform.processor() or platform.machine()
    print(f"{machine}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}")
    with tempfile.TemporaryDirectory(dir=".") as name:
        root = Path(name)
        agree_with_twin(root / "twin")
        fresh = iter(range(10**6))

        def repeat(measure: Callable[[Path], float]) -> list[float]:
            return [measure(root / str(next(fresh))) for _ in range(options.repeats)]

        report("reserve + settle in memory, one core", "pairs/s", repeat(lambda _: in_memory(2_000_000 // scale)))
        for n_threads, batch in ((1, 1000), (2, 1000), (8, 100), (32, 16)):
            rates = repeat(lambda folder, b=batch, t=n_threads: durable(folder, b * t * (96 // scale), b, t))
            report(f"durable settlements, {n_threads} callers x {batch} a call", "settlements/s", rates)
        for batch in (1, 32, 1000):
            costs = repeat(lambda folder, b=batch: reserve_cost(folder, 64_000 // scale, b))
            report(f"reserve with token, batches of {batch}", "us each", costs)
        pairs = [token_cost(root / str(next(fresh)), 100_000 // scale) for _ in range(options.repeats)]
        report("sign a token", "us", [sign for sign, _ in pairs])
        report("verify a token", "us", [verify for _, verify in pairs])
        bill = repeat(lambda folder: settle_bill(folder, 100_000 // scale))
        report(f"settle a bill file of {100_000 // scale:,} bids", "s", bill)
        report("recovery from 1,000,000 journal records", "s", repeat(lambda folder: recovery(folder, 1_000_000)))


if __name__ == "__main__":
    main()
