"""The account of bids that were drawn at random: what they gave up, and how far win rates were off on them.

Bids that were solved for cannot tell: they are made where the model is wrong in their favour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from headrace.kernels.explore import draw_bids
from headrace.kernels.price import Auctions, Market, Strategies, shade, win_rate_at
from headrace.types import Bool, Float64, Int32, Int64, UInt64

N_BANDS = 5
"""Bands of the predicted win rate, a fifth each: within a row, bands of the bid."""


@dataclass(frozen=True, slots=True)
class Band:
    """Drawn bids of which the fate is known, of one band of the predicted win rate.

    low : its lower end.   expected : wins that were predicted.   error : standard error of the difference if the
    predictions are right.
    """

    low: float
    n: int
    wins: int
    expected: float
    error: float


class Exploration:
    """Not thread-safe: the engine writes under its lock; readers get copies."""

    def __init__(self) -> None:
        self._table = np.zeros((N_BANDS, 4))

    def judge(self, explored: Bool, predicted: Float64, won: Bool) -> None:
        """Count those of n outcomes whose bid was drawn; predicted : win rates.   won : who won."""
        rows = np.flatnonzero(explored)
        if not len(rows):
            return
        rates = predicted[rows]
        bands = np.clip((rates * N_BANDS).astype(np.int64), 0, N_BANDS - 1)
        columns = np.stack([np.ones(len(rows)), won[rows], rates, rates * (1.0 - rates)], axis=1)
        np.add.at(self._table, bands, columns)

    def bands(self) -> list[Band]:
        """All bands, lowest first."""
        return [
            Band(at / N_BANDS, int(n), int(wins), expected, math.sqrt(variance))
            for at, (n, wins, expected, variance) in enumerate(self._table.tolist())
        ]


def explore(
    market: Market,
    rules: Strategies,
    lines: Int32,
    auctions: Auctions,
    seeds: UInt64,
    share: float,
    ranked: Int32,
    bids: Int64,
) -> dict[int, float]:
    """Draw the bids of a share of the first-price auctions; arrays as of `headrace.kernels.explore.draw_bids`.

    Returns, of each such impression, the surplus expected of a shaded bid beyond that of the drawn one, CPM micros.
    """
    explored = np.empty(len(ranked), np.bool_)
    draw_bids(seeds, share, auctions, lines, rules.row, ranked, bids, explored)
    given_up = {}
    for row in np.flatnonzero(explored).tolist():
        edges, rates = market.edges_cpm, market.win_rate[auctions.market_row[row]]
        paced, drawn = float(auctions.paced_cpm[row, 0]), float(bids[row, 0])
        solved = shade(paced, float(max(auctions.floor_cpm[row], 1)), edges, rates)
        best = (paced - solved) * win_rate_at(solved, edges, rates)
        given_up[row] = max(best - (paced - drawn) * win_rate_at(drawn, edges, rates), 0.0)
    return given_up
