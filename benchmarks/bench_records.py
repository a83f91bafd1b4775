"""What decision records cost: at the bid, on the writer's thread, on the disk, and when they are read.

    python benchmarks/bench_records.py [--decisions 40000] [--rounds 5]

The stack is that of bench_bid: 1,000 line items of which 10 match, 20,000 items. First what is recorded is checked
against what was answered. Then, as CPU of the calling thread: handing a batch over (bound: at most 1 us a decision at
batch 32), deciding with and without a recorder, and writing, a decision; then bytes a decision, the time to explain
one of all of them, and auctions a second of a rerun and of the regret meter. Medians of rounds, with the lowest and
highest.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numba
import numpy as np
from bench_bid import NOW_MS, Stack, request

from headrace._native import hash_texts
from headrace.bidding.requests import BidRequests, Decisions, PlainWords
from headrace.decisions.batch import Decided, NoRecorder
from headrace.decisions.erasure import Erasures
from headrace.decisions.lookup import find_decision
from headrace.decisions.reading import read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.segments import segment_paths
from headrace.decisions.settings import DecisionsConfig
from headrace_training.regret.report import measure
from headrace_training.rerun.parameters import Parameters
from headrace_training.rerun.run import Rerun
from headrace_training.rerun.traffic import traffic_of

MATCHED = 10


class Kept(NoRecorder):
    """Keeps the batches themselves, for handing them over again."""

    def __init__(self) -> None:
        self.batches: list[Decided] = []

    def decided(self, batch: Decided) -> None:
        self.batches.append(batch)


def requests_of(rng: np.random.Generator, n: int, number: int) -> BidRequests:
    messages = [request(rng, MATCHED, number + i, int(rng.integers(20_000))) for i in range(n)]
    return BidRequests(
        names=[each.user_id for each in messages],
        words=PlainWords(
            [each.country for each in messages],
            [each.categories for each in messages],
            [each.user_segments for each in messages],
            ["USD"] * n,
        ),
        exchanges=[each.exchange for each in messages],
        deadlines=np.full(n, np.inf),
        time_ms=np.full(n, NOW_MS, np.int64),
        first_price=np.array([each.auction_type == 1 for each in messages]),
        seeds=hash_texts([each.bid_request_id for each in messages]),
        request=np.arange(n, dtype=np.int32),
        floor_cpm=np.array([each.impressions[0].floor_cpm_micros for each in messages], np.int64),
        placements=[each.impressions[0].placement for each in messages],
    )


def cpu_us(work: Callable[[], object], n: int) -> float:
    """CPU of the calling thread, microseconds for each of n."""
    started = time.thread_time_ns()
    work()
    return (time.thread_time_ns() - started) / 1000.0 / n


def row(name: str, values: list[float], bound: str = "") -> None:
    median, low, high = statistics.median(values), min(values), max(values)
    print(f"| {name} | {median:.2f} | {low:.2f} to {high:.2f} | {bound} |")


def recorder_in(folder: Path) -> DecisionRecorder:
    config = DecisionsConfig(no_bid_rate=1.0, queue=1 << 22)
    return DecisionRecorder(folder, config, Erasures(lambda _: (0, []), folder), lambda: NOW_MS)


def bid_all(stack: Stack, batches: list[BidRequests]) -> list[Decisions]:
    decisions = [stack.engine.bid(batch) for batch in batches]
    for each in decisions:
        stack.engine.take_back(each.tokens)
    return decisions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, {platform.machine()}"
    )
    print("| what | median | range | bound |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        stack = Stack(Path(name) / "stack", MATCHED)
        check(stack, Path(name) / "checked")
        for n in (1, 8, 32):
            at_the_bid(stack, Path(name) / f"bid{n}", n, options.rounds)
        read(stack, Path(name) / "read", options.decisions)


def hand_over(recorder: DecisionRecorder, batches: list[Decided]) -> None:
    for batch in batches:
        recorder.decided(batch)


def check(stack: Stack, folder: Path) -> None:
    """What is recorded is what was answered."""
    recorder = recorder_in(folder)
    stack.engine.record(recorder)
    rng = np.random.default_rng(0)
    answers = [stack.engine.bid(requests_of(rng, n, 100 * n)) for n in (1, 8, 32)]
    recorder.close()
    auctions = read_recording(folder).auctions
    for column in ("bid_cpm", "value_cpm", "probability"):
        assert auctions[column].tolist() == np.concatenate([getattr(each, column) for each in answers]).tolist()
    stack.engine.record(NoRecorder())


def at_the_bid(stack: Stack, folder: Path, n: int, rounds: int) -> None:
    """Handing over, deciding and writing at one size of batch."""
    rng = np.random.default_rng(n)
    batches = [requests_of(rng, n, 1000 + n * i) for i in range(max(200, 3200 // n))]
    kept, total = Kept(), n * len(batches)
    stack.engine.record(kept)
    bid_all(stack, batches)
    handed, written, without, within = [], [], [], []
    for _ in range(rounds):
        stack.engine.record(NoRecorder())
        without.append(cpu_us(lambda: bid_all(stack, batches), total))
        recorder = recorder_in(folder)
        stack.engine.record(recorder)
        within.append(cpu_us(lambda: bid_all(stack, batches), total))
        recorder.flush()
        handed.append(cpu_us(partial(hand_over, recorder, kept.batches), total))
        written.append(cpu_us(recorder.flush, total))
        assert recorder.n_dropped == 0
        recorder.close()
    row(f"hand over, us a decision at batch {n}", handed, "1" if n == 32 else "")
    row(f"decide without a recorder, us at batch {n}", without)
    row(f"decide with one, us at batch {n}", within)
    row(f"write on the writer's thread, us a decision at batch {n}", written)
    stack.engine.record(NoRecorder())


def read(stack: Stack, folder: Path, n_decisions: int) -> None:
    """Size, and what explaining, running again and measuring take."""
    recorder = recorder_in(folder)
    stack.engine.record(recorder)
    rng = np.random.default_rng(9)
    token = None
    for start in range(0, n_decisions, 32):
        batch = requests_of(rng, 32, 10**6 + start)
        tokens = stack.engine.bid(batch).tokens
        token = token or next((each for each in tokens if each), None)
        stack.engine.take_back(tokens[1:])
    recorder.close()
    size = sum(path.stat().st_size for path in segment_paths(folder))
    row("bytes a decision", [size / recorder.n_recorded])
    started = time.perf_counter()
    assert find_decision(folder, token or "") is not None
    row(f"explain the first of {recorder.n_recorded} decisions, ms", [1000 * (time.perf_counter() - started)])
    recording = read_recording(folder)
    traffic = traffic_of(recording, rng)
    rerun, prices = Rerun(traffic, Parameters()), traffic.prices.draw(rng)
    rerun.play(prices)
    started = time.process_time()
    rerun.play(prices)
    row("rerun, auctions a second of CPU", [len(traffic.rows) / (time.process_time() - started)])
    measure(folder, draws=1)
    started = time.process_time()
    measure(folder, draws=1)
    row("regret, auctions a second of CPU", [len(recording.auctions) / (time.process_time() - started)])


if __name__ == "__main__":
    main()
