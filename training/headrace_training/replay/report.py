"""A replay of whole files, and what it found."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from headrace.bidding.strategies.sandbox import wrong_answers
from headrace.errors import ConfigError, DataError
from headrace.types import Float64
from headrace_training.intervals import bootstrap_means, interval
from headrace_training.options import check_seed
from headrace_training.progress import say
from headrace_training.replay.info import MAX_BID, Info, history_info, read_info
from headrace_training.replay.log import AuctionLog, read_log
from headrace_training.replay.oracle import oracle_value
from headrace_training.replay.play import Outcome, Rules, play
from headrace_training.replay.strategies import DEFAULT, make_strategy
from headrace_training.replay.strategies.base import Start, Strategy
from headrace_training.replay.strategies.written import Written

AUCTIONS = ("second", "first")
FEEDBACKS = ("full", "censored")
MAX_BUDGET = 2**53
"""Sums of money stay exact in every part of a strategy."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to replay; ConfigError for what cannot be.

    fractions : of the budget that buys everything at the price level of the past.   episode : auctions; None: the log.
    """

    fractions: tuple[Fraction, ...]
    episode: int | None = None
    auction: str = "second"
    feedback: str = "full"
    strategy: str = DEFAULT
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        if self.episode is not None and self.episode < 1:
            raise ConfigError("--episode", got=self.episode, expected="a whole number from 1")
        if self.auction not in AUCTIONS:
            raise ConfigError("--auction", got=self.auction, expected=", ".join(AUCTIONS))
        if self.feedback not in FEEDBACKS:
            raise ConfigError("--feedback", got=self.feedback, expected=", ".join(FEEDBACKS))


def parse_fractions(text: str) -> tuple[Fraction, ...]:
    """Fractions with commas, as ``1/32`` or ``0.5``; ConfigError for one that is not above 0."""
    found = []
    for word in text.split(","):
        try:
            fraction = Fraction(word.strip())
        except (ValueError, ZeroDivisionError):
            fraction = Fraction(0)
        if not 0 < fraction <= MAX_BUDGET:
            raise ConfigError("--fractions", got=word, expected="numbers above 0 with commas, as 1/32,0.5")
        found.append(fraction)
    return tuple(found)


def replay_files(
    log_path: Path, options: Options, *, history_path: Path | None = None, info_path: Path | None = None
) -> dict[str, Any]:
    """Replay a log under each budget, knowing a history or a campaign's figures; all numbers of the report are finite.

    Raises DataError naming file and line, ConfigError, and ConfigError when not exactly one of both is given.
    """
    history: AuctionLog | None = None
    if (history_path is None) == (info_path is None):
        raise ConfigError(
            "--history, --info",
            got=None if info_path is None else "both",
            expected="one of them",
            hint="the budget follows from the price level of the past",
        )
    if history_path is not None:
        history = read_log(history_path)
        info = history_info(history, history_path)
    else:
        assert info_path is not None
        info = read_info(info_path)
    return replay(read_log(log_path, history.exchanges if history else ()), info, history, options)


def replay(
    log: AuctionLog,
    info: Info,
    history: AuctionLog | None,
    options: Options,
    make: Callable[[str, Start], Strategy] = make_strategy,
) -> dict[str, Any]:
    """The report of a replay; the strategies of different budgets know nothing of each other.

    history : auctions before the log, None where there are none. Strategies play it first under the same rules.
    make    : gives the strategy of a name.
    """
    episode = len(log) if options.episode is None else options.episode
    if episode > len(log):
        raise DataError("the log is shorter than an episode", got=len(log), expected=f"{episode} auctions or more")
    dropped = len(log) % episode
    if dropped:
        say(f"warning: the last {dropped} auctions fill no episode and are left out")
    results, written = [], []
    for fraction in options.fractions:
        rules = Rules(_budget(info, fraction, episode), episode, options.auction == "first", censored(options))
        strategy = make(options.strategy, _start(info, history, rules, len(log.exchanges), options.seed))
        if history is not None:
            play(history, strategy, rules.of_length(min(episode, len(history))))
        results.append(_result(fraction, rules, play(log, strategy, rules), _oracle(log, rules), options.seed))
        say(f"budget {rules.budget} an episode: {results[-1]['share_of_oracle']:.4f} of the oracle's value")
        written += [strategy] if isinstance(strategy, Written) else []
    warnings = _warnings(written)
    for warning in warnings:
        say(f"warning: {warning}")
    return {
        "strategy": options.strategy,
        "feedback": options.feedback,
        "auction": options.auction,
        "seed": options.seed,
        "episodes": len(log) // episode,
        "dropped": dropped,
        "results": results,
        "warnings": warnings,
    }


def _warnings(written: Sequence[Written]) -> list[str]:
    """What a user's strategy answered that was no price, under all budgets."""
    asked, wrong = sum(each.asked for each in written), sum(each.wrong for each in written)
    return wrong_answers(written[0].name, asked, wrong) if written else []


def censored(options: Options) -> bool:
    """Whether prices of lost auctions stay unknown."""
    return options.feedback == "censored"


def _budget(info: Info, fraction: Fraction, episode: int) -> int:
    budget = math.floor(info.cpm * fraction * episode)
    if budget > MAX_BUDGET:
        raise ConfigError("--fractions", got=float(fraction), expected=f"budgets of at most {MAX_BUDGET}")
    return budget


def _start(info: Info, history: AuctionLog | None, rules: Rules, n_exchanges: int, seed: int) -> Start:
    cpm, weight = float(info.cpm), float(info.price_counts.sum())
    value = float(history.values.mean()) if history else info.click_rate
    prices = info.price_counts / weight if weight else assumed_prices(cpm)
    if rules.censored:
        prices, weight = assumed_prices(cpm), 0.0
        value = value if history else math.nan
    known = None if rules.censored else history
    return Start(rules.budget, rules.episode, rules.first_price, prices, weight, value, known, n_exchanges, seed)


def assumed_prices(cpm: float) -> Float64:
    """The geometric distribution with this mean, which assumes least besides; (301,) float64, prices from 300 in the
    last.

    Jaynes, "Information theory and statistical mechanics", Physical Review 106(4), 1957.
    """
    ratio = cpm / (1 + cpm)
    shares = (1 - ratio) * ratio ** np.arange(MAX_BID + 1)
    shares[MAX_BID] = ratio**MAX_BID
    return np.asarray(shares)


def _oracle(log: AuctionLog, rules: Rules) -> Float64:
    """(n_episodes,) float64."""
    starts = range(0, len(log) - rules.episode + 1, rules.episode)
    parts = (log.part(start, start + rules.episode) for start in starts)
    return np.array([oracle_value(part.values, part.prices, rules.budget) for part in parts])


def _result(fraction: Fraction, rules: Rules, outcome: Outcome, oracle: Float64, seed: int) -> dict[str, Any]:
    cost, budget = int(outcome.cost.sum()), rules.budget * len(oracle)
    won, best = math.fsum(outcome.value), math.fsum(oracle)
    return {
        "fraction": float(fraction),
        "bids": int(outcome.bids.sum()),
        "impressions": int(outcome.impressions.sum()),
        "clicks": int(outcome.clicks.sum()),
        "cost": cost,
        "budget": budget,
        "value_won": won,
        "value_oracle": best,
        "share_of_oracle": won / best if best else 0.0,
        "delivered": cost / budget if budget else 0.0,
        "intervals": _intervals(outcome, oracle, seed),
    }


def _intervals(outcome: Outcome, oracle: Float64, seed: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals over episodes; totals are those of as many episodes as there were."""
    means = bootstrap_means(np.column_stack([outcome.value, oracle, outcome.clicks]), seed)
    some = means[:, 1] > 0
    share = means[some, 0] / means[some, 1] if some.any() else np.zeros(1)
    return {
        "value_won": interval(means[:, 0] * len(oracle)),
        "share_of_oracle": interval(share),
        "clicks": interval(means[:, 2] * len(oracle)),
    }
