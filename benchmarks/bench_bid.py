"""Handler CPU of Bid in process: 1,000 line items of which 10 or 64 match, 20,000 items, histories of 50 events.

    python benchmarks/bench_bid.py [--calls 4000] [--rounds 5]

Rows of BidBatch are for one decision of a batch of 256. Rows of steps split a decision at batch 32; what is not named
is Python between the steps. Their bound: price + pace + reserve, tokens included, at most 10; the pacer solves on a
thread of its own, as in a server, and has a row for that.

Every answer is first checked against a plain NumPy twin of the whole decision. Times are CPU of the calling thread
(time.thread_time_ns), decoding and encoding, person lookup, reservation and token included; the ledger is the
real one, its journal on disk. "known" people were seen before, so their factors are remembered; "new" ones are folded
in. Each row is the median over rounds, with the lowest and highest.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numba
import numpy as np

from headrace.bidding.campaigns import CampaignStore
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.people import KnownPeople
from headrace.bidding.predict import BidModel, resolve_items
from headrace.bidding.settings import BiddingConfig
from headrace.clock import RequestClock
from headrace.events.log import EventLog
from headrace.events.store import Store
from headrace.front import Call
from headrace.kernels.predict import Candidates
from headrace.ledger.ledger import Ledger
from headrace.recommend.model import Model
from headrace.reference.predict import best_promoted
from headrace.service import bidder
from headrace.service.bidder import BidderService
from headrace.service.dispatch import answer
from headrace.service.method import Method
from headrace.v1 import bidder_pb2, campaigns_pb2

N_USERS, N_ITEMS, D, HISTORY = 20_000, 20_000, 64, 50
N_LINES, N_PROMOTED = 1_000, 10
MATCHED = (10, 64)
PACKED = 256
BATCHES = (1, 4, 8, 32)
NOW_MS = 1_700_000_000_000


def factories() -> Any:
    spec = importlib.util.spec_from_file_location("factories", Path(__file__).parents[1] / "tests" / "factories.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stack:
    """The bidding path over a made-up artifact, with a real ledger."""

    def __init__(self, folder: Path, n_matched: int) -> None:
        folder.mkdir()
        store = Store(folder / "headrace.db")
        artifact = factories().make_artifact(N_USERS, N_ITEMS, D, history=HISTORY)
        self.model = Model(artifact, EventLog(store))
        self.ledger = Ledger(folder, store, clock_ms=lambda: NOW_MS)
        assert self.ledger.try_acquire()
        config = BiddingConfig()
        campaigns = CampaignStore(store, self.ledger, max_bid_cpm=config.max_bid_cpm_micros, clock_ms=lambda: NOW_MS)
        campaigns.fund("deposit", "a", 10**15, "USD", "bench")
        self.campaign = campaigns.create(campaign(n_matched), "bench")
        self.people = KnownPeople(self.model)
        self.bid_model = BidModel.of(artifact)
        self.engine = BiddingEngine(
            self.ledger, campaigns.board, self.bid_model, self.people, self.people.find_item, config
        )
        self.service = BidderService(self.engine, self.ledger, config, RequestClock(NOW_MS))
        self.bid, self.bid_batch = self.service.methods()[:2]
        self.engine.warm(NOW_MS)


def campaign(n_matched: int) -> campaigns_pb2.Campaign:
    rng = np.random.default_rng(1)
    lines = [
        campaigns_pb2.LineItem(
            line_item_id=f"l{n}",
            item_ids=[f"i{i}" for i in rng.choice(N_ITEMS, N_PROMOTED, replace=False)],
            action_worth_micros=int(rng.integers(2_000, 10_000)),
            targeting=campaigns_pb2.Targeting(categories=[f"c{n // n_matched}"], countries=["DE", "FR"]),
        )
        for n in range(N_LINES)
    ]
    return campaigns_pb2.Campaign(
        campaign_id="c", advertiser_id="a", limits=campaigns_pb2.Limits(daily_micros=10**12), line_items=lines
    )


def request(rng: np.random.Generator, n_matched: int, number: int, user: int) -> bidder_pb2.BidRequest:
    return bidder_pb2.BidRequest(
        bid_request_id=f"auction-{number}",
        user_id=f"u{user}",
        country=("DE", "FR")[number % 2],
        categories=[f"c{rng.integers(N_LINES // n_matched)}", "unheard"],
        time_ms=NOW_MS + number,
        exchange="adx",
        impressions=[bidder_pb2.Impression(impression_id="1", floor_cpm_micros=1000)],
    )


def twin(stack: Stack, asked: bidder_pb2.BidRequest) -> tuple[str, str, int]:
    """Line item, item and value of the best candidate, decided by plain loops and NumPy; multipliers are 1."""
    lines = [line for line in stack.campaign.line_items if set(line.targeting.categories) & set(asked.categories)]
    persons = stack.people.read([asked.user_id], asked.time_ms)
    sizes = [len(line.item_ids) for line in lines]
    items = resolve_items([item for line in lines for item in line.item_ids], stack.people.find_item)
    n = len(lines)
    candidates = Candidates(
        np.array([0, n]), np.arange(n, dtype=np.int32), np.cumsum([0, *sizes]).astype(np.int64), items
    )
    best = best_promoted(stack.bid_model.model, persons, candidates, np.array([asked.time_ms]))
    values = [int(chance * line.action_worth_micros * 1000) for (chance, _), line in zip(best, lines, strict=True)]
    first = int(np.argmax(values))
    return lines[first].line_item_id, lines[first].item_ids[best[first][1]], values[first]


def check(stack: Stack, requests: list[bidder_pb2.BidRequest]) -> None:
    """Batched answers equal the twin's; float32 sums may differ in the last place."""
    replies = answer(stack.bid, [call(asked) for asked in requests])
    for asked, reply in zip(requests, replies, strict=True):
        assert not reply.status, reply
        bid = bidder_pb2.BidResponse.FromString(reply.body).impressions[0]
        line_item_id, item_id, value = twin(stack, asked)
        assert bid.token, bid
        assert (bid.line_item_id, bid.item_id) == (line_item_id, item_id), (bid, line_item_id, item_id, value)
        assert abs(bid.value_cpm_micros - value) <= 1 + value // 10_000
    print(f"checked: {len(requests)} answers equal those of the plain twin")


def call(asked: bidder_pb2.BidRequest | bidder_pb2.BidBatchRequest) -> Call:
    return Call("", asked.SerializeToString(), float("inf"), "", {}, None)


def cpu_us(method: Method, calls: list[Call], batch: int) -> float:
    """Microseconds of this thread's CPU a call."""
    batches = [calls[start : start + batch] for start in range(0, len(calls), batch)]
    start = time.thread_time_ns()
    for some in batches:
        answer(method, some)
    return (time.thread_time_ns() - start) / len(calls) / 1000


def packed(calls: list[Call]) -> list[Call]:
    """The same requests in calls of BidBatch."""
    requests = [bidder_pb2.BidRequest.FromString(each.body) for each in calls]
    parts = [requests[start : start + PACKED] for start in range(0, len(requests) - PACKED + 1, PACKED)]
    return [call(bidder_pb2.BidBatchRequest(requests=part)) for part in parts]


def row(name: str, values: list[float]) -> None:
    print(f"{name:34s} {statistics.median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")


class Steps:
    """CPU of the steps of decisions, nanoseconds of this thread; a step within another is taken off the outer one."""

    def __init__(self, stack: Stack) -> None:
        engine, ledger = stack.engine, stack.ledger
        self.ns: dict[str, int] = {}
        self._inner = 0
        self._undo: list[tuple[Any, str, Any]] = []
        for owner, method, step in (
            (bidder, "_requests", "decode"),
            (bidder, "_encode", "encode"),
            (engine, "_match", "match"),
            (engine, "_predict", "predict"),
            (engine, "_price", "price"),
            (engine.pacer, "advance", "pace: solve"),
            (engine, "_observe", "pace: observe"),
            (engine, "_follow", "price: follow bids"),
            (engine, "_auctions", "price: win-rate rows"),
            (engine, "_reserve", "reserve"),
            (ledger._keys, "issue", "tokens"),
            (engine._recorder, "decided", "record"),
            (engine, "bid", "rest of a decision"),
        ):
            self._wrap(owner, method, step)

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        for owner, method, original in self._undo:
            setattr(owner, method, original)

    def _wrap(self, owner: Any, method: str, step: str) -> None:
        original = getattr(owner, method)
        self._undo.append((owner, method, original))
        self.ns[step] = 0

        def timed(*arguments: Any) -> Any:
            before, self._inner = self._inner, 0
            start = time.thread_time_ns()
            try:
                return original(*arguments)
            finally:
                spent = time.thread_time_ns() - start
                self.ns[step] += spent - self._inner
                self._inner = before + spent

        setattr(owner, method, timed)


def steps(stack: Stack, calls: list[Call], batch: int, rounds: int) -> None:
    """Rows of the steps of one decision at one size of batches."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with Steps(stack) as measured:
            cpu_us(stack.bid, calls, batch)
        for step, ns in measured.ns.items():
            found.setdefault(step, []).append(ns / len(calls) / 1000)
    for step, values in found.items():
        row(f"  {step}", values)
    together = [name for name in found if name.startswith(("price", "pace", "reserve", "tokens"))]
    row("  price + pace + reserve", [sum(parts) for parts in zip(*(found[step] for step in together), strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"CPython {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}, {_cpu()}")
    with tempfile.TemporaryDirectory(prefix="bench-bid-") as folder:
        for n_matched in MATCHED:
            measure(Stack(Path(folder) / str(n_matched), n_matched), n_matched, options.calls, options.rounds, rng)


def measure(stack: Stack, n_matched: int, n_calls: int, rounds: int, rng: np.random.Generator) -> None:
    """All rows of one number of matched line items."""
    print(f"\n{n_matched} of {N_LINES} line items match")
    check(stack, [request(rng, n_matched, n, n) for n in range(64)])
    print(f"{'CPU a call, microseconds':34s} {'median':>8s} {'min':>8s} {'max':>8s}")
    users = rng.integers(0, 500, n_calls)
    known = [call(request(rng, n_matched, n, int(user))) for n, user in enumerate(users)]
    cpu_us(stack.bid, known, 32)
    for batch in BATCHES:
        row(f"Bid, known person, batch {batch}", [cpu_us(stack.bid, known, batch) for _ in range(rounds)])
    batches = packed(known)
    whole = [cpu_us(stack.bid_batch, batches, 1) / PACKED for _ in range(rounds)]
    row(f"BidBatch of {PACKED}, known person", whole)
    print(f"{'  decisions a second of one core':34s} {1e6 / statistics.median(whole):8.0f}")
    fresh = [call(request(rng, n_matched, n, 1_000 + n)) for n in range(min(n_calls, N_USERS - 1_000))]
    part = len(fresh) // (len(BATCHES) * rounds)
    for number, batch in enumerate(BATCHES):
        parts = [fresh[part * (len(BATCHES) * i + number) :][:part] for i in range(rounds)]
        row(f"Bid, new person, batch {batch}", [cpu_us(stack.bid, some, batch) for some in parts])
    print(f"steps of a decision, batch {BATCHES[-1]}")
    with stack.engine.pacer.aside():
        steps(stack, known, BATCHES[-1], rounds)
    solves = []
    for second in range(50):
        start = time.thread_time_ns()
        stack.engine.pacer.solve(NOW_MS + 10**6 + 1000 * second)
        solves.append((time.thread_time_ns() - start) / 1000)
    row(f"pacer, {N_LINES} line items, a solution", solves)
    stack.ledger.check_invariant()


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
