"""The replay's kernels against plain twins: dynamic programmes, shaded bids, and the outlook on auctions to come."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.types import Float64
from headrace_training.kernels.outlook import (
    MAX_BID,
    N_BINS,
    OCTAVES,
    STEPS,
    Outlook,
    begin_block,
    end_block,
    foretell,
    learn_auction,
    second_price_bid,
)
from headrace_training.kernels.programme import fill_by_kind, fill_by_price, table_bid
from headrace_training.kernels.shading import (
    LOWEST_WORTH,
    N_VALUES,
    N_WORTHS,
    Market,
    foretell_first_price,
    learn_first_price,
    money_for_value,
    shaded_bid,
)
from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.resolve import TRUSTED_LEVEL, new_outlook

SEEDS = st.integers(0, 2**32 - 1)


def start(prices: Float64, budget: int = 500, episode: int = 100) -> Start:
    return Start(budget, episode, False, prices, 50.0, math.nan, None, 1, 0)


def random_prices(rng: np.random.Generator) -> Float64:
    """Few distinct prices, so that ties and gaps are met."""
    prices = np.zeros(MAX_BID + 1)
    prices[rng.choice(MAX_BID + 1, 6, replace=False)] = rng.dirichlet(np.ones(6))
    return prices


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_table_by_price_is_the_best_that_any_bids_reach(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prices = np.zeros(MAX_BID + 1)
    prices[:12] = rng.dirichlet(np.ones(12))
    worth = np.zeros((7, 21))
    fill_by_price(prices, worth)

    @functools.lru_cache
    def best(n_left: int, left: int) -> float:
        if not n_left:
            return 0.0
        reached = []
        for bid in range(left + 1):
            won = sum(prices[price] * (1 + best(n_left - 1, left - price)) for price in range(min(bid, 11) + 1))
            reached.append(won + prices[bid + 1 :].sum() * best(n_left - 1, left))
        # no bid at all
        return float(max(*reached, best(n_left - 1, left)))

    for n_left in range(7):
        assert worth[n_left] == pytest.approx([best(n_left, left) for left in range(21)])


@settings(max_examples=15, deadline=None)
@given(SEEDS)
def test_the_table_by_kind_takes_what_is_worth_more_than_the_money(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights, values = rng.dirichlet(np.ones(5)), rng.random(5)
    prices = rng.choice([0.5, 1.0, 2.25, 3.0, 7.75], 5)
    worth = np.zeros((6, 13))
    fill_by_kind(weights, values, prices, worth)
    twin = np.zeros((6, 13))
    steps = np.arange(13.0)
    for n_left in range(1, 6):
        last = twin[n_left - 1]
        twin[n_left] = last
        for weight, value, price in zip(weights, values, prices, strict=True):
            taken = value + np.interp(steps - price, steps, last) - last
            twin[n_left] += weight * np.where(steps >= int(price) + 1, np.maximum(taken, 0), 0)
    assert worth == pytest.approx(twin)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 40), st.integers(1, 6), st.sampled_from([1.0, 2.5]))
def test_a_bid_by_the_table_is_the_highest_price_worth_paying(seed: int, left: int, n_left: int, step: float) -> None:
    rng = np.random.default_rng(seed)
    worth = np.zeros((7, 41))
    fill_by_price(random_prices(rng), worth)
    value = float(rng.random() * 2)
    row = worth[n_left - 1]
    at = functools.partial(np.interp, xp=np.arange(41) * step, fp=row)
    good = [price for price in range(min(left, MAX_BID) + 1) if value + at(left - price) >= at(left) - 1e-12]
    # the worth of money falls with money, so good prices have no gap
    assert abs(table_bid(worth, step, value, left, n_left) - max(good)) <= (0 if step == 1.0 else 1)


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.floats(0, 1000), st.integers(0, MAX_BID))
def test_a_shaded_bid_has_the_most_surplus(seed: int, worth: float, most: int) -> None:
    rates = np.cumsum(random_prices(np.random.default_rng(seed)))
    surplus = [(worth - bid) * rates[bid] for bid in range(most + 1) if bid < worth]
    best = int(np.argmax(surplus)) if surplus and max(surplus) > 0 else -1
    assert shaded_bid(rates, worth, most) == best


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_market_at_first_price_is_what_was_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keep, trusted, n = 0.99, 5.0, 60
    market = Market(
        np.zeros((3, MAX_BID + 1)),
        np.zeros((2, MAX_BID + 1)),
        np.zeros(N_VALUES),
        np.zeros((2, N_WORTHS)),
        np.zeros(N_VALUES + N_WORTHS),
    )
    exchange, price, octaves = rng.integers(0, 2, n), rng.integers(0, 400, n), rng.normal(0, 2, n)
    for i in range(n):
        learn_first_price(market, int(exchange[i]), int(price[i]), float(octaves[i]), keep)
    foretell_first_price(market, trusted)
    weight = keep ** np.arange(n - 1, -1, -1)
    # an exchange forgets by its own auctions, the whole by all
    of_all = np.bincount(np.minimum(price, MAX_BID), weight, MAX_BID + 1)
    for number in range(2):
        mine = exchange == number
        own = keep ** np.arange(mine.sum() - 1, -1, -1)
        counts = np.bincount(np.minimum(price[mine], MAX_BID), own, MAX_BID + 1)
        rates = np.cumsum((counts + trusted * of_all / of_all.sum())[:MAX_BID]) / (counts.sum() + trusted)
        assert market.rates[number, :MAX_BID] == pytest.approx(rates)
        worths = 2.0 ** ((np.arange(N_WORTHS) + 0.5) / STEPS + LOWEST_WORTH)
        bids = [shaded_bid(market.rates[number], worth, MAX_BID) for worth in worths]
        costs = [bid * market.rates[number, bid] if bid > 0 else 0.0 for bid in bids]
        assert market.costs[number] == pytest.approx(np.array(costs))
    # a value of 2 ** octaves is worth 2 ** (octaves + money), and so the rate is spent
    for rate in (1.0, 10.0):
        money = money_for_value(market, rate)
        places = np.clip(((octaves + money - LOWEST_WORTH) * STEPS).astype(int), 0, N_WORTHS - 1)
        share = np.array([market.prices[number].sum() for number in range(2)])
        cost = (share / share.sum()) @ market.costs
        assert (weight * cost[places]).sum() / weight.sum() == pytest.approx(rate, rel=0.35)
    assert money_for_value(market, 1e6) == math.inf


class Twin:
    """The outlook from the whole list of auctions, with weights by age."""

    def __init__(self, begun: Outlook) -> None:
        self.begun = Outlook(*(part.copy() for part in begun))
        self.log_prices: list[float] = []
        self.log_values: list[float] = []
        self.prices: list[int] = []
        self.centred: list[tuple[float, float]] = []
        self.now = begun.now[:3].copy()

    def learn(self, value: float, price: int) -> None:
        self.log_prices.append(math.log(max(min(price, MAX_BID), 0.5)))
        self.log_values.append(math.log(value))
        self.prices.append(price if price <= MAX_BID else 0)
        self.centred.append((self.now[0], self.now[1]))

    def foretell(self) -> Float64:
        ages = np.arange(len(self.prices) - 1, -1, -1)
        n, begun = len(ages), self.begun
        for s, (logs, known) in enumerate(((self.log_prices, begun.sums[0]), (self.log_values, begun.sums[1]))):
            weight = begun.kept[:, None] ** ages
            means = (weight @ np.array(logs) + known * begun.kept**n) / (weight.sum(1) + TRUSTED_LEVEL * begun.kept**n)
            self.now[s] = begun.level_mix[s] @ means
        prices = np.array(self.prices, dtype=float)
        ratios = (np.array(self.log_values) - np.array(self.log_prices)) / math.log(2)
        centre_price, centre_value = np.array(self.centred).T
        sold = prices > 0
        curves = []
        for m, keep in enumerate(begun.keep):
            octaves = ratios - ((centre_value - centre_price) / math.log(2) if m == 0 else begun.now[2])
            mass = keep**ages * prices * (np.exp(-centre_price) if m == 0 else 1.0)
            places = np.clip((octaves[sold] + OCTAVES / 2) * STEPS, 0, N_BINS - 1e-9).astype(int)
            seen = np.bincount(places, mass[sold], N_BINS) + begun.mass[m] * keep**n
            curve = np.cumsum(seen[::-1])[::-1] / ((keep**ages).sum() + begun.weight[m] * keep**n)
            if m == 0:
                moved = ((self.now[1] - self.now[0]) / math.log(2) - begun.now[2]) * STEPS
                places = np.arange(N_BINS) - moved
                curve = math.exp(self.now[0]) * np.interp(places, np.arange(N_BINS + 1), [*curve, 0.0])
            curves.append(curve)
        return np.array(curves)


@settings(max_examples=5, deadline=None)
@given(SEEDS)
def test_the_outlook_is_what_was_seen_with_weights_by_age(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outlook = new_outlook(start(random_prices(rng)), 0.01)
    twin = Twin(outlook)
    for i in range(30):
        value, price = float(np.exp(rng.normal(-4.6, 1))), int(rng.integers(0, 320))
        learn_auction(outlook, value, price)
        twin.learn(value, price)
        if i % 7 == 0:
            foretell(outlook)
            curves = twin.foretell()
            assert outlook.now[:2] == pytest.approx(twin.now[:2])
            assert outlook.curves[:-1, :-1] == pytest.approx(curves, rel=1e-9, abs=1e-9)
            assert outlook.curves[-1, :-1] == pytest.approx(outlook.curve_mix @ curves, rel=1e-9, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(0, 800), st.integers(1, 50))
def test_a_bid_is_the_highest_price_worth_paying(seed: int, left: int, n_left: int) -> None:
    rng = np.random.default_rng(seed)
    outlook = new_outlook(start(random_prices(rng)), 0.01)
    for _ in range(30):
        learn_auction(outlook, float(np.exp(rng.normal(-4.6, 1))), int(rng.integers(0, 120)))
    foretell(outlook)
    value = float(np.exp(rng.normal(-4.6, 2)))
    curve = outlook.curves[-1]

    def worth_paying(price: int) -> bool:
        rate = (left - price / 2) / n_left
        if price == 0 or curve[0] <= rate:
            return True
        # the first place, going up, where no more is spent
        place = np.interp(-rate, -curve, np.arange(N_BINS + 1.0))
        return bool((math.log2(value / price) - outlook.now[2] + OCTAVES / 2) * STEPS >= place - 1e-9)

    good = [price for price in range(min(left, MAX_BID) + 1) if worth_paying(price)]
    assert abs(second_price_bid(outlook, value, left, n_left) - max(good)) <= 1


def test_the_better_forecast_gets_the_weight() -> None:
    """A market whose level jumps to and fro is followed by short memories, one that only scatters by long ones."""
    assert stacked_weights(jump=1.0, scatter=0.3)[0] > 0.5
    assert stacked_weights(jump=0.0, scatter=1.0)[0] < 0.2


def stacked_weights(jump: float, scatter: float) -> Float64:
    """How levels of log price, of half-lives 60 to 16,000, are weighted after 8,000 auctions."""
    rng = np.random.default_rng(0)
    outlook = new_outlook(start(random_prices(rng)), 0.01)
    for i in range(8000):
        if i % 25 == 0:
            foretell(outlook)
            begin_block(outlook, 5.0)
        level = 3.0 + jump * (i // 200 % 2)
        learn_auction(outlook, 0.01, int(np.exp(level + scatter * rng.normal())))
        if i % 25 == 24:
            end_block(outlook, 0.995)
    for mix in (outlook.level_mix[0], outlook.level_mix[1], outlook.curve_mix):
        assert mix.sum() == pytest.approx(1)
        assert (mix >= 0).all()
    return np.asarray(outlook.level_mix[0])
