"""Plain NumPy twins of `headrace.kernels.pace`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float64, Int64

N_STEPS = 88
TOP = 16
N_BINS = 120


def value_bin(value_cpm: Any) -> Any:
    """Bins of a quarter octave from 2**10; (n,) from (n,)."""
    places = np.floor((np.log2(np.maximum(value_cpm, 1.0)) - 10) * 4)
    return np.clip(places, 0, N_BINS - 1).astype(np.int64)


def value_place(value_cpm: Any) -> Any:
    """Where values lie among the middles of the bins."""
    return np.clip((np.log2(np.maximum(value_cpm, 1.0)) - 10) * 4 - 0.5, 0, N_BINS - 1)


def met(curve: Float64, place: Any) -> Any:
    """A curve straight between the middles of the bins."""
    return np.interp(place, np.arange(N_BINS), curve)


def observe(seen: Any, terms: Any, curves: Any, weight: float, n_lines: int) -> list[Float64]:
    """What a batch adds to the eight arrays of a tally."""
    values, sums = np.zeros((n_lines, N_BINS)), [np.zeros(n_lines) for _ in range(7)]
    for impression, request in enumerate(seen.request):
        for offer in range(seen.indptr[request], seen.indptr[request + 1]):
            line, value = seen.lines[offer], seen.value_cpm[offer]
            worth = value + terms.premium_cpm[line]
            if worth < 1:
                continue
            offer_cpm = min(worth * terms.multiplier[line], terms.max_bid_cpm[line])
            paced, place = value_place(np.float64(offer_cpm)), value_place(np.float64(value))
            row = int(seen.first_price[impression])
            cost, win = met(curves.costs[row], paced), met(curves.wins[row], paced)
            for bin_ in range(N_BINS):
                values[line, bin_] += weight * max(1.0 - abs(place - bin_), 0.0)
            bid = float(offer == seen.winner[impression])
            amounts = (1.0, cost, bid * cost, bid, bid * win, bid * win * value, bid * offer_cpm)
            for total, amount in zip(sums, amounts, strict=True):
                total[line] += amount
    return [values, *sums]


def win_curve(costs: Float64) -> Float64:
    """(120,) probability of winning: each added cost buys wins at the price of its edge."""
    edges = 2.0 ** (10 + np.arange(N_BINS) / 4)
    won: Float64 = np.minimum(np.cumsum(np.diff(costs, prepend=0.0) / edges), 1.0)
    return won


def tabulate(values: Float64, cap_place: Float64, premium_cpm: Int64, curve: Float64, each: Float64) -> Float64:
    """(m, 89) mean of ``each`` times the curve at the paced value, by step of the multiplier."""
    out = np.zeros((len(values), N_STEPS + 1))
    for line, weights in enumerate(values):
        middles = 2.0 ** (10 + (np.arange(N_BINS) + 0.5) / 4)
        places = value_place(middles + premium_cpm[line]) if premium_cpm[line] > 0 else np.arange(N_BINS)
        for step in range(N_STEPS):
            reached = places + TOP - step
            found = np.where(reached >= 0, met(curve, np.minimum(reached, cap_place[line])), 0.0)
            out[line, step] = ((weights * each) @ found) / weights.sum() if weights.sum() > 0 else 0.0
    return out


def spend_of(spend: Float64, steps: Float64) -> Float64:
    """(m,) what a table says at each line item's step."""
    return np.array([np.interp(step, np.arange(N_STEPS + 1), row) for step, row in zip(steps, spend, strict=True)])
