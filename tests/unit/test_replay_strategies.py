"""Strategies of the replay: what they may know, what they may spend, and what they find on markets of known truth."""

from __future__ import annotations

import functools
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import ConfigError
from headrace.types import Float64
from headrace_training.replay.info import MAX_BID, Info, history_info
from headrace_training.replay.log import AuctionLog
from headrace_training.replay.oracle import oracle_value
from headrace_training.replay.play import Rules, play
from headrace_training.replay.report import Options, assumed_prices, replay
from headrace_training.replay.strategies import STRATEGIES, make_strategy
from headrace_training.replay.strategies.base import NO_BID, UNSEEN, Start, Strategy
from headrace_training.replay.strategies.censoring import PriceGuess
from headrace_training.replay.strategies.ortb import fit_c

SECOND_PRICE_ONLY = ("rlb", "dynamic")
EPISODE = 100


def market(seed: int, n: int = 600, n_exchanges: int = 2) -> AuctionLog:
    """Log-normal prices and values that rise with them, drifting; some prices are 0 and some above 300."""
    rng = np.random.default_rng(seed)
    drift = np.repeat(np.cumsum(rng.normal(0, 0.1, n // 50)), 50)
    z = rng.normal(size=n)
    prices = np.floor(np.exp(3 + drift + 1.2 * z)).astype(np.int32)
    values = np.exp(-5 + 0.3 * z + 0.6 * rng.normal(size=n)) * (rng.random(n) > 0.02)
    clicks = (rng.random(n) < 0.1).astype(np.int8)
    return AuctionLog(
        clicks, prices, values, rng.integers(0, n_exchanges, n).astype(np.int32), ("a", "b")[:n_exchanges]
    )


def start(rules: Rules, log: AuctionLog, **changes: Any) -> Start:
    prices = np.bincount(np.minimum(log.prices, MAX_BID), minlength=MAX_BID + 1) / len(log)
    known: dict[str, Any] = {
        "budget": rules.budget,
        "episode": rules.episode,
        "first_price": rules.first_price,
        "prices": prices,
        "weight": float(len(log)),
        "value": float(log.values.mean()),
        "history": None,
        "n_exchanges": len(log.exchanges),
        "seed": 0,
    }
    return Start(**(known | changes))


class Watched:
    """A strategy, and what was asked and answered."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.bids: list[int] = []
        self.lefts: list[int] = []

    def begin(self) -> None:
        self.strategy.begin()

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        bid = self.strategy.bid(value, exchange, left, n_left)
        assert isinstance(bid, int)
        assert NO_BID <= bid <= MAX_BID
        self.bids.append(bid)
        self.lefts.append(left)
        return bid

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        self.strategy.learn(bid, won, price, click)


def watched(name: str, log: AuctionLog, rules: Rules, seed: int = 0) -> Watched:
    strategy = Watched(make_strategy(name, start(rules, market(99), seed=seed)))
    play(log, strategy, rules)
    return strategy


def won(log: AuctionLog, strategy: Watched, rules: Rules) -> Any:
    bids, left = np.array(strategy.bids), np.array(strategy.lefts)
    prices = log.prices[: len(bids)]
    return (prices <= bids) & (np.where(rules.first_price, bids, prices) <= left)


def combinations() -> list[Any]:
    return [
        pytest.param(name, first, id=f"{name}-{'first' if first else 'second'}")
        for name in STRATEGIES
        for first in (False, True)
        if not (first and name in SECOND_PRICE_ONLY)
    ]


@pytest.mark.parametrize(("name", "first"), combinations())
@pytest.mark.parametrize("budget", [0, 1, 400, 3000])
def test_no_episode_spends_more_than_its_budget_or_wins_more_than_the_oracle(
    name: str, first: bool, budget: int
) -> None:
    log = market(1)
    rules = Rules(budget, EPISODE, first)
    found = play(log, make_strategy(name, start(rules, market(99))), rules)
    assert (found.cost <= budget).all()
    for number, value in enumerate(found.value):
        part = log.part(number * EPISODE, (number + 1) * EPISODE)
        assert value <= oracle_value(part.values, part.prices, budget)


@pytest.mark.parametrize(("name", "first"), combinations())
def test_censored_strategies_do_not_see_the_prices_of_auctions_lost(name: str, first: bool) -> None:
    log, rules = market(2), Rules(700, EPISODE, first, censored=True)
    before = watched(name, log, rules)
    lost = np.flatnonzero(~won(log, before, rules))
    assert 0 < len(lost) < len(log)
    prices = log.prices.copy()
    # any price that still loses: above the bid and above what is left
    prices[lost] = np.maximum(np.array(before.bids)[lost], np.array(before.lefts)[lost]) + 1 + lost % 97
    altered = AuctionLog(log.clicks, prices, log.values, log.exchange, log.exchanges)
    assert watched(name, altered, rules).bids == before.bids
    # which full feedback does see, where a strategy learns at all
    full = Rules(700, EPISODE, first)
    learns = name in ("resolve", "dynamic")
    assert (watched(name, log, full).bids != watched(name, altered, full).bids) == learns


@pytest.mark.parametrize(("name", "first"), combinations())
@pytest.mark.parametrize("censored", [False, True])
def test_no_strategy_sees_the_clicks_of_auctions_lost(name: str, first: bool, censored: bool) -> None:
    log, rules = market(3), Rules(700, EPISODE, first, censored)
    before = watched(name, log, rules)
    lost = ~won(log, before, rules)
    altered = AuctionLog(
        np.where(lost, 1 - log.clicks, log.clicks), log.prices, log.values, log.exchange, log.exchanges
    )
    assert watched(name, altered, rules).bids == before.bids


@pytest.mark.parametrize(("name", "first"), combinations())
def test_no_bid_depends_on_auctions_to_come(name: str, first: bool) -> None:
    log, rules = market(4), Rules(700, EPISODE, first)
    cut = 350
    other = market(5)
    mixed = AuctionLog(
        np.concatenate([log.clicks[:cut], other.clicks[cut:]]),
        np.concatenate([log.prices[:cut], other.prices[cut:]]),
        np.concatenate([log.values[:cut], other.values[cut:]]),
        np.concatenate([log.exchange[:cut], other.exchange[cut:]]),
        log.exchanges,
    )
    assert watched(name, mixed, rules).bids[:cut] == watched(name, log, rules).bids[:cut]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("feedback", ["full", "censored"])
def test_a_replay_is_the_same_for_the_same_seed(name: str, feedback: str) -> None:
    log, history = market(6), market(7, 250)
    info = history_info(history, Path("history"))
    options = Options(fractions=(Fraction(1, 4),), episode=EPISODE, feedback=feedback, strategy=name, seed=3)
    assert replay(log, info, history, options) == replay(log, info, history, options)


@pytest.mark.parametrize("with_history", [False, True])
def test_what_a_strategy_knows_at_the_start(with_history: bool) -> None:
    log, history = market(6), market(7, 250)
    info = history_info(history, Path("history"))
    told: dict[str, Start] = {}
    heard: dict[str, list[int]] = {"full": [], "censored": []}

    class Deaf:
        """Never wins."""

        def __init__(self, feedback: str) -> None:
            self.feedback = feedback

        def begin(self) -> None:
            return

        def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
            return NO_BID

        def learn(self, bid: int, won: bool, price: int, click: int) -> None:
            heard[self.feedback].append(price)

    def make(name: str, start: Start) -> Strategy:
        told[name] = start
        return Deaf(name)

    for feedback in heard:
        options = Options(fractions=(Fraction(1, 4),), episode=EPISODE, feedback=feedback, strategy=feedback)
        replay(log, info, history if with_history else None, options, make)
    assert told["full"].history is (history if with_history else None)
    assert told["full"].prices == pytest.approx(info.price_counts / 250)
    # of prices, the mean alone
    assert told["censored"].history is None
    assert told["censored"].weight == 0
    assert told["censored"].prices == pytest.approx(assumed_prices(float(info.cpm)))
    assert np.isnan(told["censored"].value) != with_history
    # the history is played first, in whole episodes
    played = ([*history.prices[:200]] if with_history else []) + [*log.prices]
    assert heard["full"] == played
    assert heard["censored"] == [UNSEEN] * len(played)


@functools.lru_cache
def long_market(drift: float) -> tuple[AuctionLog, Info]:
    """12 episodes of 1,000, and the prices of days when all was a fifth dearer."""
    rng = np.random.default_rng(11)
    n = 12_000
    level = drift * np.sin(np.arange(n) / 1500)
    draws = 3.2 + 0.9 * rng.normal(size=n)
    prices = np.floor(np.exp(draws + level)).astype(np.int32)
    values = np.exp(-6 + 0.7 * rng.normal(size=n))
    info = np.bincount(np.minimum(np.floor(1.2 * np.exp(draws)), 300).astype(int), minlength=301).astype(np.float64)
    cpm = Fraction(int(info @ np.arange(301)), n)
    zeros = np.zeros(n, np.int8)
    return AuctionLog(zeros, prices, values, zeros.astype(np.int32), ("",)), Info(cpm, float(values.mean()), info)


@functools.lru_cache
def share(name: str, drift: float, **options: Any) -> Float64:
    log, info = long_market(drift)
    given = Options(fractions=(Fraction(1, 32), Fraction(1, 8)), episode=1000, strategy=name, **options)
    return np.array([row["share_of_oracle"] for row in replay(log, info, None, given)["results"]])


def test_resolve_is_near_the_oracle_and_follows_a_market_that_moves() -> None:
    assert (share("resolve", 0.0) >= [0.98, 0.99]).all()
    moving = share("resolve", 0.5)
    assert (moving >= [0.96, 0.98]).all()
    for name in ("linear", "dual", "pid", "rlb"):
        assert (share(name, 0.5) < moving).all(), name


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_resolve_loses_little_when_prices_are_told_of_wins_alone(drift: float) -> None:
    assert (share("resolve", drift, feedback="censored") >= share("resolve", drift) - 0.012).all()


def test_resolve_shades_at_first_price() -> None:
    shaded = share("resolve", 0.3, auction="first")
    for name in ("linear", "ortb", "dual", "pid"):
        assert (shaded > share(name, 0.3, auction="first") + 0.02).all(), name
    assert (share("resolve", 0.3, auction="first", feedback="censored") >= shaded - 0.012).all()


def test_rlb_and_dynamic_are_for_second_price_and_tables_that_fit() -> None:
    log = market(8)
    for name in SECOND_PRICE_ONLY:
        with pytest.raises(ConfigError, match="first price"):
            make_strategy(name, start(Rules(100, 10, first_price=True), log))
        with pytest.raises(ConfigError, match="cells"):
            make_strategy(name, start(Rules(2_000_000, 1_000_000), log))


def test_the_c_of_ortb_is_found() -> None:
    bids = np.arange(MAX_BID + 1)
    rates = bids / (40.0 + bids)
    rates[-1] = 1.0
    assert fit_c(np.diff(rates, prepend=0.0)) == pytest.approx(40.0, rel=0.01)


def test_assumed_prices_have_the_mean_and_sum_to_one() -> None:
    prices = assumed_prices(20.0)
    assert prices.sum() == pytest.approx(1)
    assert prices @ np.arange(MAX_BID + 1) == pytest.approx(20.0, rel=1e-4)


def test_prices_nobody_told_of_find_the_distribution_of_those_that_were() -> None:
    rng = np.random.default_rng(0)
    guess = PriceGuess(start(Rules(1, 1), market(9), prices=assumed_prices(60.0), weight=0.0))
    prices = np.minimum(np.floor(rng.exponential(30.0, 20_000)), MAX_BID).astype(int)
    drawn = []
    for price in prices.tolist():
        bid = int(rng.integers(0, 80))
        drawn.append(guess.price(price if price <= bid else UNSEEN, bid))
        assert drawn[-1] == price if price <= bid else drawn[-1] > bid
    counts = np.bincount(drawn[10_000:], minlength=MAX_BID + 2)
    for bound in (10, 30, 60):
        assert counts[:bound].sum() / 10_000 == pytest.approx(1 - np.exp(-bound / 30), abs=0.03)
    assert guess.price(UNSEEN, MAX_BID) == MAX_BID + 1


def test_values_of_nothing_and_values_huge_or_tiny_are_bid_on_in_bounds() -> None:
    log = market(10)
    for scale in (0.0, 1e-300, 1e15):
        scaled = AuctionLog(log.clicks, log.prices, log.values * scale, log.exchange, log.exchanges)
        for name, first in (given.values for given in combinations()):
            rules = Rules(500, EPISODE, bool(first))
            strategy = Watched(make_strategy(str(name), start(rules, scaled)))
            assert (play(scaled, strategy, rules).cost <= 500).all()
