"""Plain NumPy twins of `headrace.kernels.pace`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float64, Int32, Int64

N_STEPS = 72
N_BINS = 120


def value_bin(value_cpm: Any) -> Any:
    """Bins of a quarter octave from 2**10; (n,) from (n,)."""
    places = np.floor((np.log2(np.maximum(value_cpm, 1.0)) - 10) * 4)
    return np.clip(places, 0, N_BINS - 1).astype(np.int64)


def observe(seen: Any, multiplier: Float64, max_bid_cpm: Int64, costs: Float64, n_lines: int) -> list[Float64]:
    """What a batch adds to the five arrays of a tally."""
    values, sums = np.zeros((n_lines, N_BINS)), [np.zeros(n_lines) for _ in range(4)]
    for impression, request in enumerate(seen.request):
        for offer in range(seen.indptr[request], seen.indptr[request + 1]):
            line, value = seen.lines[offer], seen.value_cpm[offer]
            if value < 1:
                continue
            paced = min(value * multiplier[line], max_bid_cpm[line])
            cost = costs[int(seen.first_price[impression]), value_bin(np.float64(paced))]
            values[line, value_bin(np.float64(value))] += 1
            bid = float(offer == seen.winner[impression])
            for total, amount in zip(sums, (1.0, cost, bid * cost, bid), strict=True):
                total[line] += amount
    return [values, *sums]


def tabulate_spend(values: Float64, cap_bin: Int32, costs: Float64) -> Float64:
    """(m, 73) expected cost of one matched impression at each step of the multiplier."""
    out = np.zeros((len(values), N_STEPS + 1))
    places = np.arange(N_BINS)
    for line, weights in enumerate(values):
        for step in range(N_STEPS):
            reached = places - step
            cost = np.where(reached >= 0, costs[np.clip(np.minimum(reached, cap_bin[line]), 0, None)], 0.0)
            out[line, step] = (weights @ cost) / weights.sum() if weights.sum() > 0 else 0.0
    return out


def spend_of(spend: Float64, multiplier: Float64) -> Float64:
    """(m,) expected cost of one matched impression at each line item's multiplier."""
    with np.errstate(divide="ignore"):
        steps = np.minimum(-4.0 * np.log2(multiplier), float(N_STEPS))
    return np.array([np.interp(step, np.arange(N_STEPS + 1), row) for step, row in zip(steps, spend, strict=True)])
