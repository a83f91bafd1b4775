"""What recorded auctions would have cost: known where somebody told, else drawn from the win-rate model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.decisions.prices import price_at
from headrace.decisions.reading import Recording
from headrace.types import Bool, Float64, Int64


@dataclass(frozen=True)
class Prices:
    """The least bid that wins each of n auctions, CPM micros, as far as it is known.

    low, high : (n,) float64: the price is above low and at most high; both are the price where `known`.
    floor : (n,) float64.   group : (n,) int32 row of `curves`, each (edges, win rates) of one row of a market.
    """

    known: Bool
    low: Float64
    high: Float64
    floor: Float64
    group: Int64
    curves: list[tuple[Float64, Float64]]

    def draw(self, rng: np.random.Generator) -> Float64:
        """Prices, (n,) float64, none below its floor: the known ones, and for each other one of those possible."""
        share = rng.random(len(self.known))
        prices = self.high.copy()
        unknown = np.flatnonzero(~self.known)
        order = unknown[np.argsort(self.group[unknown], kind="stable")]
        ends = np.flatnonzero(np.diff(self.group[order])) + 1
        for rows in np.split(order, ends) if len(order) else ():
            edges, rates = self.curves[int(self.group[rows[0]])]
            prices[rows] = price_at(edges, rates, self.low[rows], self.high[rows], share[rows])
        return np.maximum(prices, self.floor)

    def of(self, rows: Int64) -> Prices:
        """Those of some auctions; one may be named more than once and is then drawn each time."""
        used, group = np.unique(self.group[rows], return_inverse=True)
        curves = [self.curves[number] for number in used.tolist()]
        return Prices(self.known[rows], self.low[rows], self.high[rows], self.floor[rows], group.reshape(-1), curves)


def prices_of(recording: Recording) -> Prices:
    """What the notices tell of each auction of a recording.

    A minimum to win is the price, and so is what a second-price win paid. A first-price win was no lower than the
    price, a loss lower; a bid of which nobody spoke is taken as lost; of what was not bid on nothing is known.
    """
    auctions, outcomes = recording.auctions, recording.outcomes
    bid = auctions["bid_cpm"].astype(np.float64)
    first = auctions["first_price"] == 1
    heard = (auctions["reason"] == 0) & ~outcomes.withdrawn
    paid = outcomes.won & ~first & (outcomes.price_cpm >= 0)
    told = outcomes.minimum_cpm >= 0
    price = np.where(told, outcomes.minimum_cpm, outcomes.price_cpm).astype(np.float64)
    known = paid | told
    low = np.where(heard & ~outcomes.won, bid, 0.0)
    high = np.where(heard & outcomes.won, bid, np.inf)
    keys, group = np.unique(np.stack([auctions["model"], auctions["market_row"]]), axis=1, return_inverse=True)
    return Prices(
        known=known,
        low=np.where(known, price, low),
        high=np.where(known, price, high),
        floor=auctions["floor_cpm"].astype(np.float64),
        group=group.reshape(-1),
        curves=[recording.models[model].curve(row) for model, row in keys.T.tolist()],
    )
