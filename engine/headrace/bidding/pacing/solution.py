"""What a solution of the pacer begins from, and what it tells others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.bidding.pacing.experience import N_SEEN
from headrace.kernels.pace import N_VALUE_BINS, Tally
from headrace.types import Bool, Float64


class Since(NamedTuple):
    """What came in since the last solution.

    counts : (7, m) of `Tally`.   won : (2, m) impressions and worth in nanos.   delays : ms, of notices of wins.
    n_impressions : int, asked for.   gone : whether there was no traffic at all, rather than little.
    costs, wins : (120,) float64, what bids meet at present.
    """

    counts: Float64
    won: Float64
    delays: list[int]
    n_impressions: int
    gone: bool
    costs: Float64
    wins: Float64

    @classmethod
    def nothing(cls, n_lines: int, costs: Float64, wins: Float64) -> Since:
        """No time went by."""
        return cls(np.zeros((N_SEEN, n_lines)), np.zeros((2, n_lines)), [], 0, False, costs, wins)


class Report(NamedTuple):
    """What others may read of a solution; replaced in whole.

    planned : (k,) micros that a campaign's plan wants spent by now, NaN without one.   multiplier : (k,) the highest of
    its line items.   dual : (m,) bool, who is steered by dual updates, or whose campaign is.
    won : (2, m) impressions, of the day and in all.   worth : (m,) nanos won with a goal.   solved : whether ever.
    """

    planned: Float64
    multiplier: Float64
    dual: Bool
    won: Float64
    worth: Float64
    solved: bool


def empty_tally(n_lines: int) -> Tally:
    """Nothing seen of m line items."""
    return Tally(np.zeros((n_lines, N_VALUE_BINS)), *(np.zeros(n_lines) for _ in range(N_SEEN)))
