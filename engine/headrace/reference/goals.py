"""Plain NumPy twins of `headrace.kernels.goals`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float64, Int64

N_STEPS = 88


def earned(earnings: Any, lines: Any, least_step: Float64, common: float) -> float:
    """What line items earn beyond their spend over their traffic, at no step below a common one."""
    total = 0.0
    for line in lines:
        step = max(least_step[line], common)
        worth, spend = (
            np.interp(step, np.arange(N_STEPS + 1), table[line]) for table in (earnings.worth, earnings.spend)
        )
        total += earnings.traffic[line] * (earnings.credit[line] * worth - spend)
    return float(total)


def safe_step(credit: Float64) -> float:
    """The step at which every impression keeps the goal by itself; 0 without a goal."""
    asked = credit[credit > 0.0]
    return float(np.clip(16.0 - 4.0 * np.log2(asked), 0.0, N_STEPS).max()) if len(asked) else 0.0


def won_share(wishes: Any, line: int, premium: float, wins: Float64) -> float:
    """Share of a line item's impressions that a premium wins."""
    weights = wishes.values[line]
    if weights.sum() <= 0.0:
        return 0.0
    values = 2.0 ** (10 + (np.arange(len(weights)) + 0.5) / 4)
    bids = np.minimum((values + premium) * wishes.multiplier[line], wishes.cap_cpm[line])
    places = (np.log2(np.maximum(bids, 1.0)) - 10) * 4 - 0.5
    won = np.where(bids < 1.0, 0.0, np.interp(places, np.arange(len(wins)), wins))
    return float(weights @ won / weights.sum())


def groups(indptr: Int64) -> list[range]:
    """The line items of each group."""
    return [range(start, end) for start, end in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)]
