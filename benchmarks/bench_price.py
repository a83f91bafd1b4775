"""First-price bids of a learner against those of an oracle that knows the prices; drift, exploration, speed.

    python benchmarks/bench_price.py [--data DIR] [--seeds 5] [--auctions 50000]

A learner starts with an artifact's guess (log-normal around 4.0, four times off or more), sees one auction after the
other, and learns from what it is told of its own bids alone: wins and losses, or the minimum to win with both. What an
impression is worth is drawn log-normal, sigma 0.7, around 1.5 times the market's median price, independent of prices.
Share = surplus of the learner, exploration and learning included, over that of an oracle that bids best on the true
price distribution of the run. Beside it: the best single shade factor in hindsight. Intervals are Student's over seeds.
Alarms are summed over seeds and over four rows (all, exchange, placement, floor), which here see the same outcomes: one
shift is mostly four alarms.

Markets: log-normal, a mixture of two, round prices with atoms; and with --data the auctions of `ipinyou-train-bid`:
"curve", prices drawn from the Kaplan-Meier curve of all its rows (a lost row says only that the price lay above), and
"in order", the prices of its won rows as they came, prices that move; the oracle then knows the whole run's prices.
"""

from __future__ import annotations

import argparse
import gzip
import os
import sys
import time
from pathlib import Path

import numpy as np
import scipy.stats

from headrace.bidding.pricing.landscape import Landscape, Open
from headrace.bidding.pricing.price import make_market
from headrace.bidding.pricing.winrate import EDGES_CPM, Told, WinRates
from headrace.kernels.drift import OUTCOMES_PER_FALSE_ALARM
from headrace.kernels.price import shade
from headrace.kernels.winrate import LOSS, WIN
from headrace.v1 import bidder_pb2 as pb

WORDS = {False: "wins and losses", True: "minimum to win"}
BOUNDS = {False: 0.95, True: 0.98}
CAMPAIGNS = (2259, 2261, 2997)
EXPLORE_SHARE = 0.005
LEARN_EVERY = 250
KEY = ("exchange", "USD", "placement", 0)


def guess():
    edges = np.geomspace(1e4, 2e8, 97).astype(np.int64)
    prices = 4e6 * np.exp(0.6 * np.random.default_rng(0).standard_normal(100_000))
    return make_market(edges, np.histogram(np.clip(prices, edges[0], edges[-1]), edges)[0][None].astype(float))


def logged(folder, campaign):
    with gzip.open(folder / "ipinyou-train-bid" / f"{campaign}_train_bid.txt.gz") as lines:
        rows = np.loadtxt(lines, dtype=np.int64)
    return rows[:, 0], rows[:, 1] == 1


def survival(prices, won):
    """Prices and their probabilities by Kaplan and Meier; what is never won lies beyond every bid."""
    n = int(prices.max()) + 1
    events, all_rows = np.bincount(prices[won], minlength=n), np.bincount(prices, minlength=n)
    at_risk = len(prices) - np.concatenate([[0], np.cumsum(all_rows)[:-1]])
    left = np.cumprod(1.0 - events / np.maximum(at_risk, 1))
    chances = -np.diff(np.concatenate([[1.0], left]))
    return np.append(np.arange(n), 10 * n), np.append(chances, left[-1])


def markets(folder):
    """Name to (what draws n prices from a generator, lowest bound or None)."""

    def mixture(rng, n):
        low, high = 1e6 * np.exp(0.25 * rng.standard_normal(n)), 5e6 * np.exp(0.4 * rng.standard_normal(n))
        return np.where(rng.random(n) < 0.5, low, high)

    def atoms(rng, n):
        steps = rng.choice([0.5e6, 1e6, 1.5e6, 2e6, 2.5e6, 3e6, 5e6], n, p=[0.1, 0.25, 0.1, 0.25, 0.1, 0.1, 0.1])
        return np.where(rng.random(n) < 0.6, steps, 2e6 * np.exp(0.6 * rng.standard_normal(n)))

    made = {
        "log-normal, sigma 0.5": lambda rng, n: 1e6 * np.exp(0.5 * rng.standard_normal(n)),
        "log-normal, sigma 1.0": lambda rng, n: 1e6 * np.exp(1.0 * rng.standard_normal(n)),
        "mixture of two": mixture,
        "atoms at round prices": atoms,
    }
    for campaign in CAMPAIGNS if folder else ():
        prices, won = logged(folder, campaign)
        places, chances = survival(prices, won)
        made[f"ipinyou {campaign}, curve"] = lambda rng, n, p=places, c=chances: 1e4 * rng.choice(p, n, p=c / c.sum())
        made[f"ipinyou {campaign}, in order"] = lambda rng, n, p=prices[won]: 1e4 * p[:n]
    return made


def oracle(values, prices):
    """Surplus of the best bids on the prices' own distribution: for each value a corner of a convex hull."""
    steps, counts = np.unique(prices, return_counts=True)
    rates = np.cumsum(counts) / len(prices)
    hull = [(0.0, 0.0, 0.0)]
    for point in zip(rates.tolist(), (steps * rates).tolist(), steps.tolist(), strict=True):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (point[0] - hull[-2][0]) >= (point[1] - hull[-2][1]) * (
            hull[-1][0] - hull[-2][0]
        ):
            hull.pop()
        hull.append(point)
    corners = np.array(hull)
    bids = corners[np.searchsorted(np.diff(corners[:, 1]) / np.diff(corners[:, 0]), values), 2]
    return float(((values - bids) * (bids >= prices))[bids > 0].sum())


def best_factor(values, prices):
    return max(float(((values - f * values) * (f * values >= prices)).sum()) for f in np.linspace(0.02, 1.0, 99))


class Learner:
    """The engine's landscape and solver with an exchange that answers at once."""

    def __init__(self, minimum_to_win, rng):
        self.land = Landscape(guess())
        self._told, self._rng, self._n = minimum_to_win, rng, 0
        self.explored, self.given_up = 0, 0.0

    def play(self, values, prices):
        """Surplus of bidding for values against prices, CPM micros."""
        surplus, at = 0.0, 0
        while at < len(values):
            size = max(16, min(LEARN_EVERY, self._n // 4))
            part = slice(at, at + size)
            surplus += self._batch(values[part].tolist(), prices[part].tolist())
            self.land.learn(self.land.gather(0))
            at += size
        return surplus

    def _batch(self, values, prices):
        book = self.land.prices
        edges, rates = book.market.edges_cpm, book.market.win_rate[book.row(KEY)]
        surplus, types, tokens, minimums = 0.0, [], [], []
        for value, price in zip(values, prices, strict=True):
            bid, drawn = int(shade(float(value), 1.0, edges, rates)), self._rng.random() < EXPLORE_SHARE
            solved = bid
            if drawn:
                bid = int(self._rng.uniform(1, value))
                self.explored += 1
                self.given_up += (value - solved) * (solved >= price) - (value - bid) * (bid >= price)
            token = str(self._n)
            self._n += 1
            self.land.placed({token: Open(KEY, bid, True, drawn, 0)})
            surplus += (value - bid) * (bid >= price)
            types.append(pb.NOTICE_TYPE_WIN if bid >= price else pb.NOTICE_TYPE_LOSS)
            tokens.append(token)
            minimums.append(int(price) if self._told and price >= 1 else None)
        self.land.heard(types, tokens, [None] * len(types), minimums)
        return surplus


def interval(shares):
    half = (
        scipy.stats.t.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / len(shares) ** 0.5
        if len(shares) > 1
        else 0
    )
    return f"{np.mean(shares):.4f} ± {half:.4f}"


def surplus_table(folder, n_seeds, n):
    print(
        "| market | told | share of the oracle's surplus | bound | best factor | exploration cost | its bias | alarms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    missed = 0
    for name, draw in markets(folder).items():
        for told in (False, True):
            rows = [one_run(draw, told, seed, n) for seed in range(n_seeds)]
            shares, factors, given_up, bias, alarms = (list(column) for column in zip(*rows, strict=True))
            missed += np.mean(shares) < BOUNDS[told]
            print(
                f"| {name} | {WORDS[told]} | {interval(shares)} | ≥ {BOUNDS[told]:.2f} "
                f"| {np.mean(factors):.3f} | {np.mean(given_up):.2%} | {np.mean(bias):+.3f} | {sum(alarms)} |",
                flush=True,
            )
    return missed


def one_run(draw, told, seed, n):
    rng = np.random.default_rng(seed)
    prices = np.round(draw(rng, n))
    values = np.maximum(np.round(1.5 * np.median(prices) * np.exp(0.7 * rng.standard_normal(len(prices)))), 1.0)
    best = oracle(values, prices)
    learner = Learner(told, rng)
    surplus = learner.play(values, prices)
    bands = learner.land.exploration.bands()
    bias = sum(band.wins - band.expected for band in bands) / max(sum(band.n for band in bands), 1)
    return surplus / best, best_factor(values, prices) / best, learner.given_up / best, bias, learner.land.n_alarms


def drift_table(n_seeds):
    print("\n| prices | outcomes until the alarm, median (worst) | share of the oracle's surplus of the next 10,000 |")
    print("|---|---|---|")
    for factor in (2.0, 0.5):
        delays, shares = [], []
        for seed in range(n_seeds):
            rng = np.random.default_rng(100 + seed)
            prices, values = (
                1e6 * np.exp(0.5 * rng.standard_normal(30_000)),
                2e6 * np.exp(0.7 * rng.standard_normal(30_000)),
            )
            learner = Learner(False, rng)
            learner.play(values[:20_000], prices[:20_000])
            before = learner.land.n_alarms
            after = factor * prices[20_000:]
            surplus, at = 0.0, 0
            delay = None
            while at < 10_000:
                surplus += learner.play(values[20_000 + at : 20_050 + at], after[at : at + 50])
                at += 50
                if delay is None and learner.land.n_alarms > before:
                    delay = at
            delays.append(delay or 10_000)
            shares.append(surplus / oracle(values[20_000:], after))
        print(f"| times {factor:g} | {int(np.median(delays))} ({max(delays)}) | {interval(shares)} |")
    n = 400_000
    learner, rng = Learner(False, np.random.default_rng(7)), np.random.default_rng(8)
    learner.play(2e6 * np.exp(0.7 * rng.standard_normal(n)), 1e6 * np.exp(0.5 * rng.standard_normal(n)))
    print(
        f"\nfalse alarms in {n} outcomes of a market that stays: {learner.land.n_alarms}, in 4 rows; "
        f"stated: at most one in {OUTCOMES_PER_FALSE_ALARM} outcomes of a row while its predictions are right"
    )


def speed_table():
    rng = np.random.default_rng(0)
    rates = WinRates(1024)
    keys = [(f"x{e}", "USD", f"p{p}", band) for e in range(4) for p in range(50) for band in range(4)]
    refreshes = []
    for _ in range(40):
        chosen = [keys[i] for i in rng.integers(0, len(keys), 10_000)]
        bids = 1e6 * np.exp(rng.standard_normal(10_000))
        kinds = np.where(bids >= 1e6 * np.exp(0.5 * rng.standard_normal(10_000)), WIN, LOSS)
        began = time.process_time()
        rates.learn(Told(chosen, kinds.tolist(), bids.tolist(), bids.tolist()))
        rates.refresh()
        refreshes.append(time.process_time() - began)
    curve = rates.prices.market.win_rate[rates.prices.row(keys[0])]
    values = (2e6 * np.exp(0.7 * rng.standard_normal(100_000))).astype(np.int64)
    took = shading_seconds(values, curve)
    print("\n| step | CPU |\n|---|---|")
    print(f"| shade one bid, exact on 480 bins | {took / len(values) * 1e6:.2f} µs |")
    print(
        f"| learn from 10,000 outcomes and refit, {len(rates.prices.rows)} rows | {np.median(refreshes) * 1e3:.0f} ms |"
    )


def shading_seconds(values, curve):
    from numba import njit

    @njit
    def run(values, edges, curve):
        total = 0.0
        for value in values:
            total += shade(float(value), 1.0, edges, curve)
        return total

    run(values[:10], EDGES_CPM, curve)
    began = time.process_time()
    run(values, EDGES_CPM, curve)
    return time.process_time() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = os.environ.get("HEADRACE_DATA")
    parser.add_argument(
        "--data", type=Path, default=told and Path(told), help="folder that holds ipinyou-train-bid; HEADRACE_DATA"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--auctions", type=int, default=50_000)
    options = parser.parse_args()
    missed = surplus_table(options.data, options.seeds, options.auctions)
    drift_table(options.seeds)
    speed_table()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
