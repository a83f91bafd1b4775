"""The referee: episodes, budgets, who wins, what is paid, and what a strategy gets to see."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from headrace.types import Float64, Int64
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.log import AuctionLog
from headrace_training.replay.strategies.base import UNSEEN, Strategy


@dataclass(frozen=True)
class Rules:
    """What an episode is.

    budget : CPM units; what is unspent at the end is lost.   episode : auctions, >= 1.
    first_price : a winner pays its bid, else the market price.
    censored : the market price is told of auctions won alone, else of all.
    """

    budget: int
    episode: int
    first_price: bool = False
    censored: bool = False

    def of_length(self, episode: int) -> Rules:
        """The same budget an auction, rounded down, over another length."""
        return replace(self, episode=episode, budget=self.budget * episode // self.episode)


@dataclass(frozen=True)
class Outcome:
    """What a strategy did; each (n_episodes,).

    bids        : int64, auctions that it bid on.   impressions : int64, auctions won.   clicks : int64, on those.
    cost        : int64, at most the budget.        value       : float64, predicted value of what was won.
    """

    bids: Int64
    impressions: Int64
    clicks: Int64
    cost: Int64
    value: Float64


def play(log: AuctionLog, strategy: Strategy, rules: Rules) -> Outcome:
    """Play the whole episodes of a log in order; auctions after the last one are left out.

    A bid wins when market price <= bid <= 300 and what is to be paid is left of the budget.
    """
    n_episodes = len(log) // rules.episode
    counts = np.zeros((4, n_episodes), dtype=np.int64)
    value = np.zeros(n_episodes)
    for number in range(n_episodes):
        part = log.part(number * rules.episode, (number + 1) * rules.episode)
        counts[:, number], value[number] = _episode(part, strategy, rules)
    return Outcome(counts[0], counts[1], counts[2], counts[3], value)


def _episode(log: AuctionLog, strategy: Strategy, rules: Rules) -> tuple[tuple[int, int, int, int], float]:
    left, n_bids, n_won, n_clicks = rules.budget, 0, 0, 0
    won_values = []
    strategy.begin()
    n_left = len(log)
    lines = zip(log.clicks.tolist(), log.prices.tolist(), log.values.tolist(), log.exchange.tolist(), strict=True)
    for click, price, value, exchange in lines:
        bid = strategy.bid(value, exchange, left, n_left)
        n_left -= 1
        n_bids += bid >= 0
        paid = bid if rules.first_price else price
        if price <= bid <= MAX_BID and paid <= left:
            left -= paid
            n_won += 1
            n_clicks += click
            won_values.append(value)
            strategy.learn(bid, True, price, click)
        else:
            strategy.learn(bid, False, UNSEEN if rules.censored else price, UNSEEN)
    return (n_bids, n_won, n_clicks, rules.budget - left), math.fsum(won_values)
