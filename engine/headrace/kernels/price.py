"""From a probability to a bid: worth, pacing, shading, floor, and the order of the candidates."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Bool, Float64, Int32, Int64

BUDGET = 2
BELOW_FLOOR = 3
PACED = 9
MAX_VALUE_CPM = 1e15


class Market(NamedTuple):
    """What impressions cost.

    edges_cpm : (b + 1,) float64, ascending prices, micros per thousand impressions (CPM).
    win_rate : (x, b + 1) float64. Share of auctions of an exchange whose price lies below the edge; straight between.
    """

    edges_cpm: Float64
    win_rate: Float64


class Terms(NamedTuple):
    """What m line items pay.

    worth_micros : (m,) int64. Worth of one purchase.   max_bid_cpm : (m,) int64.
    affordable_cpm : (m,) int64. The highest bid that the money left allows.
    multiplier : (m,) float64 in [0, 1]; up to 16 with a goal.   exhausted : (m,) bool. Nothing is left to spend.
    premium_cpm : (m,) int64. What an impression is worth beyond its value, to keep a promise of impressions.
    """

    worth_micros: Int64
    max_bid_cpm: Int64
    affordable_cpm: Int64
    multiplier: Float64
    exhausted: Bool
    premium_cpm: Int64


class Offers(NamedTuple):
    """Candidates of n requests: request r has ``indptr[r]:indptr[r + 1]``.

    indptr : (n + 1,) int64.   lines : (c,) int32 ascending in a request.   probability : (c,) float64.
    """

    indptr: Int64
    lines: Int32
    probability: Float64


class Auctions(NamedTuple):
    """The i impressions asked for.

    request : (i,) int32.   floor_cpm : (i,) int64.   first_price : (i,) bool.   market_row : (i,) int32.
    """

    request: Int32
    floor_cpm: Int64
    first_price: Bool
    market_row: Int32


@njit(nogil=True, cache=True)
def _best_in_bin(value: float, low: float, high: float, rate: float, slope: float) -> float:
    # surplus (value - b) * (rate + slope * (b - low)) is a parabola in b; its top, kept inside the bin
    if slope <= 0.0:
        return low
    return min(max((value + low - rate / slope) / 2.0, low), high)


@njit(nogil=True, cache=True)
def shade(value: float, floor: float, edges: Float64, win_rate: Float64) -> float:
    """The bid b in [floor, value] that maximises (value - b) * P(win at b); the value itself when no bid can win.

    value, floor : CPM micros, 0 <= floor <= value.
    edges, win_rate : (b + 1,) float64. P(win) is 0 below the first edge, straight between edges, constant above.
    """
    best = value
    best_surplus = 0.0
    last = edges.shape[0] - 1
    for left in range(last):
        low = max(edges[left], floor)
        high = min(edges[left + 1], value)
        if low > high:
            continue
        width = edges[left + 1] - edges[left]
        slope = (win_rate[left + 1] - win_rate[left]) / width
        rate = win_rate[left] + slope * (low - edges[left])
        bid = _best_in_bin(value, low, high, rate, slope)
        surplus = (value - bid) * (rate + slope * (bid - low))
        if surplus > best_surplus:
            best, best_surplus = bid, surplus
    if edges[last] < floor and (value - floor) * win_rate[last] > best_surplus:
        best = floor
    return best


@njit(nogil=True, cache=True)
def expected_costs(edges: Float64, win_rate: Float64, out: Float64) -> None:
    """Expected cost of one bid whose paced value is the middle (by ratio) of each bin of a landscape, CPM micros.

    edges : (b + 1,) float64, ascending, > 0.   win_rate : (b + 1,) float64, as of `Market`.
    out : (2, b) float64, written, ascending along a row. Row 0, second price: the integral of price up to the value.
        Row 1, first price: the shaded bid times its win rate.
    """
    paid = 0.0
    for place in range(edges.shape[0] - 1):
        low, high = edges[place], edges[place + 1]
        value = math.sqrt(low * high)
        mass = win_rate[place + 1] - win_rate[place]
        share = (value - low) / (high - low)
        out[0, place] = paid + mass * share * (low + value) / 2.0
        paid += mass * (low + high) / 2.0
        bid = shade(value, 0.0, edges, win_rate)
        row = np.searchsorted(edges, bid, side="right") - 1
        rate = 0.0
        if row >= edges.shape[0] - 1:
            rate = win_rate[edges.shape[0] - 1]
        elif row >= 0:
            slope = (win_rate[row + 1] - win_rate[row]) / (edges[row + 1] - edges[row])
            rate = win_rate[row] + slope * (bid - edges[row])
        out[1, place] = max(bid * rate, out[1, place - 1] if place > 0 else 0.0)


@njit(nogil=True, cache=True)
def value_offers(terms: Terms, offers: Offers, value_cpm: Int64) -> None:
    """Expected worth of an impression for each candidate: probability * worth, micros per thousand impressions.

    value_cpm : (c,) int64, written: rounded down, at most 1e15; 0 for a probability that is not positive and finite.
    """
    for offer in range(offers.lines.shape[0]):
        worth = offers.probability[offer] * terms.worth_micros[offers.lines[offer]] * 1000.0
        value_cpm[offer] = int(min(worth, MAX_VALUE_CPM)) if 0.0 < worth < math.inf else 0


@njit(nogil=True, cache=True)
def price_auctions(
    market: Market, terms: Terms, offers: Offers, value_cpm: Int64, auctions: Auctions, ranked: Int32, out: Int64
) -> None:
    """Rank each impression's candidates by paced value, highest first, ties by index, and price the first t of them.

    A candidate's paced value is its value and premium times its line item's multiplier, at most its highest bid and
    what the money left allows. In a second-price auction that is the bid; in a first-price auction it is shaded. A
    candidate below the floor is left out.

    ranked : (i, t) int32, written: positions among the offers, -1 where there are fewer.
    out : (i, t) int64, written: bids, CPM micros; where ranked[i, 0] is -1, out[i, 0] is minus the reason: PACED if
        only pacing put a candidate below the floor, else BELOW_FLOOR, else BUDGET.
    """
    # read outside the loops: inside them, every field of a tuple is counted as a reference
    exhausted, max_bid_cpm, multiplier = terms.exhausted, terms.max_bid_cpm, terms.multiplier
    affordable_cpm, premium_cpm, lines, indptr = terms.affordable_cpm, terms.premium_cpm, offers.lines, offers.indptr
    requests, floor_cpm, first_price = auctions.request, auctions.floor_cpm, auctions.first_price
    for auction in range(requests.shape[0]):
        request = requests[auction]
        lowest = max(floor_cpm[auction], 1)
        reason = BUDGET
        best, bids = ranked[auction], out[auction]
        best[:] = -1
        bids[:] = 0
        for offer in range(indptr[request], indptr[request + 1]):
            line = lines[offer]
            if exhausted[line]:
                continue
            cap = max_bid_cpm[line]
            value = value_cpm[offer] + premium_cpm[line]
            paced = min(int(value * multiplier[line]), cap)
            if paced >= lowest:
                if affordable_cpm[line] >= lowest:
                    _insert(best, bids, offer, min(paced, affordable_cpm[line]))
            elif min(value, cap) >= lowest:
                reason = PACED
            elif reason == BUDGET:
                reason = BELOW_FLOOR
        if best[0] < 0:
            bids[0] = -reason
        elif first_price[auction]:
            _shade_ranked(market, auctions.market_row[auction], lowest, best, bids)


@njit(nogil=True, cache=True)
def _insert(ranked: Int32, bids: Int64, offer: int, bid: int) -> None:
    place = ranked.shape[0]
    while place > 0 and (ranked[place - 1] < 0 or bids[place - 1] < bid):
        place -= 1
    for position in range(ranked.shape[0] - 1, place, -1):
        ranked[position] = ranked[position - 1]
        bids[position] = bids[position - 1]
    if place < ranked.shape[0]:
        ranked[place] = offer
        bids[place] = bid


@njit(nogil=True, cache=True)
def _shade_ranked(market: Market, row: int, lowest: int, ranked: Int32, bids: Int64) -> None:
    for place in range(ranked.shape[0]):
        if ranked[place] >= 0:
            bid = shade(float(bids[place]), float(lowest), market.edges_cpm, market.win_rate[row])
            bids[place] = max(int(bid), lowest)
