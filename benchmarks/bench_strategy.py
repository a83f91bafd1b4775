"""What a user-written strategy costs: the built-in rule and the two examples in the pricing kernel.

    python benchmarks/bench_strategy.py [--auctions 2000] [--rounds 7]

Auctions of 64 candidates, each of a line item of its own, half of them at first price, with a landscape of 120 bins.
First a strategy that answers what it is told of the engine's own bid is checked to bid and rank as the built-in rule
does. Rows are CPU nanoseconds of the calling thread (time.thread_time_ns) a candidate, the whole kernel with ranking
and shading included; the median over rounds, with the lowest and highest. Below them what compiling and one call cost.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numba
import numpy as np

from headrace.bidding.strategies.strategy import Strategy, load_strategy
from headrace.kernels import price

CANDIDATES, TRIES = 64, 4
EXAMPLES = Path(__file__).parents[1] / "examples" / "strategies"
SAME = "@strategy\ndef same(ask):\n    return ask.shaded_cpm\n"


class Auctions:
    """n auctions over 64 line items, which one strategy, or none, prices."""

    def __init__(self, n: int) -> None:
        rng = np.random.default_rng(0)
        m = CANDIDATES
        self.terms = price.Terms(
            worth_micros=rng.integers(2_000, 10_000, m),
            max_bid_cpm=np.full(m, 10**8),
            affordable_cpm=np.full(m, 10**12),
            multiplier=rng.uniform(0.3, 1.0, m),
            exhausted=np.zeros(m, bool),
            premium_cpm=np.zeros(m, np.int64),
            budget_left=rng.random(m),
            time_left=rng.random(m),
        )
        indptr = np.arange(n + 1, dtype=np.int64) * m
        lines = np.tile(np.arange(m, dtype=np.int32), n)
        self.offers = price.Offers(indptr, lines, rng.uniform(0.01, 0.3, n * m))
        self.value_cpm = np.empty(n * m, np.int64)
        price.value_offers(self.terms, self.offers, self.value_cpm)
        self.auctions = price.Auctions(
            request=np.arange(n, dtype=np.int32),
            floor_cpm=np.full(n, 1_000),
            first_price=np.arange(n) % 2 == 0,
            market_row=np.zeros(n, np.int32),
            paced_cpm=np.empty((n, TRIES), np.int64),
        )
        self.market = price.Market(np.geomspace(1e3, 1e8, 121), np.linspace(0.0, 1.0, 121)[None])

    def rules(self, strategy: Strategy | None) -> price.Strategies:
        known = [strategy] if strategy else []
        return price.Strategies(
            address=np.array([each.address for each in known], np.int64),
            shades=np.array([each.shades for each in known], bool),
            row=np.zeros(CANDIDATES if strategy else 0, np.int32),
            parameters=np.tile(strategy.row([]), (CANDIDATES, 1)) if strategy else np.zeros((0, price.N_PARAMETERS)),
            max_bid_cpm=10**8,
            max_over_value=2.0,
            ask=np.empty((1, price.N_ASKED)),
            counts=np.zeros((len(known), 3), np.int64),
        )

    def run(self, rules: price.Strategies) -> tuple[np.ndarray, np.ndarray]:
        shape = len(self.auctions.request), TRIES
        ranked, bids = np.empty(shape, np.int32), np.empty(shape, np.int64)
        price.price_auctions(self.market, self.terms, rules, self.offers, self.value_cpm, self.auctions, ranked, bids)
        return ranked, bids


def candidate_ns(auctions: Auctions, rules: price.Strategies) -> float:
    start = time.thread_time_ns()
    auctions.run(rules)
    return (time.thread_time_ns() - start) / len(auctions.value_cpm)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auctions", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    auctions = Auctions(options.auctions)
    with tempfile.TemporaryDirectory(prefix="bench-strategy-") as folder:
        file = Path(folder) / "same.py"
        file.write_text(SAME)
        same = load_strategy(f"{file}:same")
    loaded = {name: load_strategy(f"{EXAMPLES / name}.py:{name}") for name in ("threshold", "square_root")}
    for ours, theirs in zip(auctions.run(auctions.rules(None)), auctions.run(auctions.rules(same)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    print(f"CPython {platform.python_version()}, NumPy {np.__version__}, Numba {numba.__version__}")
    print(f"checked: {options.auctions} auctions answered by the engine's own bid are those of the built-in rule")
    print(f"{'CPU a candidate, nanoseconds':44s} {'median':>8s} {'min':>8s} {'max':>8s}")
    for name, strategy in {"the built-in rule": None, **loaded}.items():
        values = [candidate_ns(auctions, auctions.rules(strategy)) for _ in range(options.rounds + 1)][1:]
        print(f"{name:44s} {statistics.median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")
    for strategy in loaded.values():
        print(strategy)


if __name__ == "__main__":
    main()
