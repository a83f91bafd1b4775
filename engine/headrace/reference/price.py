"""Plain NumPy twins of `headrace.kernels.price`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float64, Int64


def shade(value: float, floor: float, edges: Float64, win_rate: Float64, n_grid: int = 20_001) -> float:
    """The b of a fine grid over [floor, value] with the most (value - b) * P(win at b); the value when none can win."""
    bids = np.linspace(floor, value, n_grid)
    surplus = (value - bids) * np.interp(bids, edges, win_rate, left=0.0)
    return float(bids[np.argmax(surplus)]) if surplus.max() > 0.0 else value


def surplus(bid: float, value: float, edges: Float64, win_rate: Float64) -> float:
    """(value - bid) * P(win at bid)."""
    return float((value - bid) * np.interp(bid, edges, win_rate, left=0.0))


def value_offers(terms: Any, offers: Any) -> Int64:
    """Expected worth of an impression for each candidate, CPM micros."""
    sound = np.where(np.isfinite(offers.probability), offers.probability, 0.0)
    worth: Int64 = np.clip(sound * terms.worth_micros[offers.lines] * 1000.0, 0.0, 1e15).astype(np.int64)
    return worth


def strategic(terms: Any, rules: Any, say: Any, line: int, value: int, asked: dict[str, float]) -> tuple[int, int]:
    """What a line item's strategy bids within its limits, and 1 if it was asked; ``say(row, parameters, asked)``."""
    caps = [terms.max_bid_cpm[line], terms.affordable_cpm[line], rules.max_bid_cpm, value * rules.max_over_value]
    highest = min(float(cap) for cap in caps)
    if rules.row[line] < 0 or highest < 1.0:
        return 0, 0
    shares = {"budget_left": terms.budget_left[line], "time_left": terms.time_left[line]}
    own = {"value_cpm": value, "multiplier": terms.multiplier[line], "highest_cpm": highest, **shares}
    bid = say(rules.row[line], rules.parameters[line], asked | own)
    return (int(min(bid, highest)) if np.isfinite(bid) and bid >= 0.0 else 0), 1


def rank(terms: Any, offers: Any, value_cpm: Int64, request: int, floor_cpm: int, n_best: int) -> list[tuple[int, int]]:
    """(position among the offers, paced value) of a request's best candidates; [(-1, -reason)] without any."""
    span = np.arange(offers.indptr[request], offers.indptr[request + 1])
    span = span[~terms.exhausted[offers.lines[span]]]
    lines = offers.lines[span]
    values = value_cpm[span] + terms.premium_cpm[lines]
    paced = np.minimum((values * terms.multiplier[lines]).astype(np.int64), terms.max_bid_cpm[lines])
    bids = np.minimum(paced, terms.affordable_cpm[lines])
    lowest = max(floor_cpm, 1)
    best = [int(i) for i in np.lexsort((span, -bids)) if bids[i] >= lowest][:n_best]
    if best:
        return [(int(span[i]), int(bids[i])) for i in best]
    low = paced < lowest
    if np.any(low & (np.minimum(values, terms.max_bid_cpm[lines]) >= lowest)):
        return [(-1, -9)]
    return [(-1, -3 if low.any() else -2)]


def expected_costs(edges: Float64, win_rate: Float64, values: Float64, n_grid: int = 4_001) -> Float64:
    """(2, n) expected cost of a bid by paced value: second price by integration, first by grid."""
    costs = np.zeros((2, len(values)))
    for place, value in enumerate(values):
        tops = np.clip(value, edges[:-1], edges[1:])
        shares = np.diff(win_rate) * (tops - edges[:-1]) / np.diff(edges)
        costs[0, place] = float(np.sum(shares * (edges[:-1] + tops) / 2.0))
        bid = shade(float(value), 0.0, edges, win_rate, n_grid)
        costs[1, place] = bid * float(np.interp(bid, edges, win_rate, left=0.0))
    return np.maximum.accumulate(costs, axis=1)
