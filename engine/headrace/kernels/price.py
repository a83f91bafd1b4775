"""From a probability to a bid: worth, pacing, shading, floor, and the order of the candidates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from headrace.types import Bool, Float64, Int32, Int64

BUDGET = 2
BELOW_FLOOR = 3
PACED = 9
STRATEGY = 11
MAX_VALUE_CPM = 1e15

BUILT_IN = -1
STOPPED = -2
"""Rows of line items that no user-written strategy prices: the built-in rule does, or nobody bids."""
N_ASKED = 9
"""What a strategy is told of a candidate: value, multiplier, paced and shaded bid, floor and highest bid, all CPM
micros but the multiplier; 1.0 in a first-price auction; the shares of budget and of traffic that are left."""
N_PARAMETERS = 8


RUN = 16
"""Bins that shading passes over at once."""


class Market(NamedTuple):
    """What impressions cost.

    edges_cpm : (b + 1,) float64, ascending prices, micros per thousand impressions (CPM).
    win_rate : (x, b + 1) float64. Share of a row's auctions whose price does not pass the edge; straight between.
    """

    edges_cpm: Float64
    win_rate: Float64


class Terms(NamedTuple):
    """What m line items pay.

    worth_micros : (m,) int64. Worth of one purchase.   max_bid_cpm : (m,) int64.
    affordable_cpm : (m,) int64. The highest bid that the money left allows.
    multiplier : (m,) float64 in [0, 1]; up to 16 with a goal.   exhausted : (m,) bool. Nothing is left to spend.
    premium_cpm : (m,) int64. What an impression is worth beyond its value, to keep a promise of impressions.
    budget_left, time_left : (m,) float64 in [0, 1]. Shares of the plan's budget and of its traffic that are to come.
    """

    worth_micros: Int64
    max_bid_cpm: Int64
    affordable_cpm: Int64
    multiplier: Float64
    exhausted: Bool
    premium_cpm: Int64
    budget_left: Float64
    time_left: Float64


class Strategies(NamedTuple):
    """The s user-written strategies, and which of m line items they price.

    address : (s,) int64. Machine code with the C signature (ask, parameters, edges, win_rate: double *, n_edges) ->
        double; see `headrace.bidding.strategies.strategy`.   shades : (s,) bool. It reads the shaded bid.
    row : (m,) int32. The line item's strategy, or BUILT_IN or STOPPED; empty where all are built in.
    parameters : (m, 8) float64.
    max_bid_cpm : highest bid of any.   max_over_value : highest bid as a multiple of the impression's value.
    ask : (1, 9) float64, overwritten; the calling thread's own.
    counts : (s, 3) int64, added to: candidates asked for, answers that were no price, answers cut to the highest bid.
    """

    address: Int64
    shades: Bool
    row: Int32
    parameters: Float64
    max_bid_cpm: int
    max_over_value: float
    ask: Float64
    counts: Int64


class Offers(NamedTuple):
    """Candidates of n requests: request r has ``indptr[r]:indptr[r + 1]``.

    indptr : (n + 1,) int64.   lines : (c,) int32 ascending in a request.   probability : (c,) float64.
    """

    indptr: Int64
    lines: Int32
    probability: Float64


class Auctions(NamedTuple):
    """The i impressions asked for.

    request : (i,) int32, ascending.   floor_cpm : (i,) int64.   first_price : (i,) bool.   market_row : (i,) int32.
    paced_cpm : (i, t) int64, overwritten by `price_auctions`: paced values of the candidates that it ranks.
    """

    request: Int32
    floor_cpm: Int64
    first_price: Bool
    market_row: Int32
    paced_cpm: Int64


@intrinsic
def _call(_context, address, asks, ask, parameters, line, edges, win_rate, market_row):  # type: ignore[no-untyped-def]
    """Call machine code by its address, with pointers to rows of tables; a view of each row would cost more."""
    signature = types.float64(address, asks, ask, parameters, line, edges, win_rate, market_row)

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        def table(at: int) -> Any:
            return context.make_array(signature.args[at])(context, builder, arguments[at])

        def row(at: int) -> Any:
            array = table(at)
            size = builder.extract_value(array.shape, 1)
            return builder.gep(array.data, [builder.mul(arguments[at + 1], size)])

        edges = table(5)
        n_edges = builder.extract_value(edges.shape, 0)
        given = [row(1), row(3), edges.data, row(6), n_edges]
        kinds = [each.type for each in given]
        code = builder.inttoptr(arguments[0], ir.FunctionType(ir.DoubleType(), kinds).as_pointer())
        return builder.call(code, given)

    return signature, generate


@njit(nogil=True, cache=True)
def call_strategy(
    address: int, asks: Float64, parameters: Float64, edges: Float64, win_rate: Float64, out: Float64
) -> None:
    """What a strategy itself answers, no limit kept.

    asks : (n, 9) float64.   parameters : (1, 8) float64.   edges : (b + 1,) float64.   win_rate : (1, b + 1) float64.
    out : (n,) float64, written; whatever the strategy says, NaN and infinity among it.
    """
    first = np.int64(0)
    for row in range(asks.shape[0]):
        out[row] = _call(address, asks, row, parameters, first, edges, win_rate, first)


@njit(nogil=True, cache=True)
def win_rate_at(bid: float, edges: Float64, win_rate: Float64) -> float:
    """P(win) at a bid: 0 below the first edge, straight between edges, constant above the last."""
    last = edges.shape[0] - 1
    left = np.searchsorted(edges, bid, side="right") - 1
    if left < 0:
        return 0.0
    if left >= last:
        return float(win_rate[last])
    slope = (win_rate[left + 1] - win_rate[left]) / (edges[left + 1] - edges[left])
    return float(win_rate[left] + slope * (bid - edges[left]))


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

    Exact: a run of bins is passed over only where the value less its lowest bid, times its highest win rate, is no more
    than what a bid at the start of some run is sure to gain. Ties go to the lowest bid.
    """
    last = edges.shape[0] - 1
    first = max(int(np.searchsorted(edges, floor, side="right")) - 1, 0)
    end = min(int(np.searchsorted(edges, value, side="left")), last)
    enough = 0.0
    for left in range(first + 1, end, RUN):
        enough = max(enough, (value - edges[left]) * win_rate[left])
    enough *= 1.0 - 1e-9  # whoever gains it must not be passed over for a rounding
    best, best_surplus = value, 0.0
    for start in range(first, end, RUN):
        stop = min(start + RUN, end)
        if (value - max(edges[start], floor)) * win_rate[stop] <= max(enough, best_surplus):
            continue
        for left in range(start, stop):
            low = max(edges[left], floor)
            if (value - low) * win_rate[left + 1] <= max(enough, best_surplus):
                continue
            high = min(edges[left + 1], value)
            slope = (win_rate[left + 1] - win_rate[left]) / (edges[left + 1] - edges[left])
            rate = win_rate[left] + slope * (low - edges[left])
            bid = _best_in_bin(value, low, high, rate, slope)
            surplus = (value - bid) * (rate + slope * (bid - low))
            if surplus > best_surplus:
                best, best_surplus = bid, surplus
    if edges[last] <= value:
        low = max(edges[last], floor)
        if (value - low) * win_rate[last] > best_surplus:
            best = low
    return best


@njit(nogil=True, cache=True)
def expected_costs(edges: Float64, win_rate: Float64, values: Float64, out: Float64) -> None:
    """Expected cost of one bid with each of n paced values, CPM micros.

    edges, win_rate : (b + 1,) float64, as of `Market`.   values : (n,) float64, ascending.
    out : (2, n) float64, written, ascending along a row. Row 0, second price: the integral of price up to the value.
        Row 1, first price: the shaded bid times its win rate.
    """
    paid, place = 0.0, 0
    for at in range(values.shape[0]):
        value = values[at]
        while place < edges.shape[0] - 1 and edges[place + 1] <= value:
            paid += (win_rate[place + 1] - win_rate[place]) * (edges[place] + edges[place + 1]) / 2.0
            place += 1
        out[0, at] = paid
        if place < edges.shape[0] - 1 and edges[place] < value:
            mass = win_rate_at(value, edges, win_rate) - win_rate[place]
            out[0, at] += mass * (edges[place] + value) / 2.0
        bid = shade(value, 0.0, edges, win_rate)
        cost = bid * win_rate_at(bid, edges, win_rate)
        out[1, at] = max(cost, out[1, at - 1] if at > 0 else 0.0)


@njit(nogil=True, cache=True)
def win_rates_at(market: Market, rows: Int32, bids: Float64, out: Float64) -> None:
    """P(win) at n bids, each of a row of the market; out : (n,) float64, written."""
    for at in range(bids.shape[0]):
        out[at] = win_rate_at(bids[at], market.edges_cpm, market.win_rate[rows[at]])


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
    market: Market,
    terms: Terms,
    strategies: Strategies,
    offers: Offers,
    value_cpm: Int64,
    auctions: Auctions,
    ranked: Int32,
    out: Int64,
) -> None:
    """Rank each impression's candidates by paced value, highest first, ties by index, and price the first t of them.

    A candidate's paced value is its value and premium times its line item's multiplier, at most its highest bid and
    what the money left allows. In a second-price auction that is the bid; in a first-price auction it is shaded. A
    user-written strategy replaces the bid, not the rank. A candidate below the floor is left out.

    ranked : (i, t) int32, written: positions among the offers, -1 where there are fewer.
    out : (i, t) int64, written: bids, CPM micros; where ranked[i, 0] is -1, out[i, 0] is minus the reason: PACED if
        only pacing put a candidate below the floor, else STRATEGY if a strategy did, else BELOW_FLOOR, else BUDGET.
    """
    # read outside the loops: inside them, every field of a tuple is counted as a reference
    exhausted, max_bid_cpm, multiplier = terms.exhausted, terms.max_bid_cpm, terms.multiplier
    affordable_cpm, premium_cpm, lines, indptr = terms.affordable_cpm, terms.premium_cpm, offers.lines, offers.indptr
    requests, floor_cpm, first_price = auctions.request, auctions.floor_cpm, auctions.first_price
    strategy_of, asked = strategies.row, np.empty(lines.shape[0] if strategies.row.shape[0] > 0 else 0, np.int64)
    any_strategy = asked.shape[0] > 0
    for auction in range(requests.shape[0]):
        request = requests[auction]
        lowest = max(floor_cpm[auction], 1)
        reason = BUDGET
        best, bids, paced_cpm = ranked[auction], out[auction], auctions.paced_cpm[auction]
        best[:] = -1
        bids[:] = 0
        if any_strategy:
            _ask_strategies(market, terms, strategies, offers, value_cpm, auctions, auction, asked)
        for offer in range(indptr[request], indptr[request + 1]):
            line = lines[offer]
            if exhausted[line]:
                continue
            value, cap = value_cpm[offer] + premium_cpm[line], max_bid_cpm[line]
            paced, reaches = min(int(value * multiplier[line]), cap), min(value, cap) >= lowest
            if any_strategy and strategy_of[line] != BUILT_IN:
                paced = min(paced, affordable_cpm[line])
                if asked[offer] >= lowest:
                    _insert(best, paced_cpm, bids, offer, paced, asked[offer])
                else:
                    reason = _further(reason, STRATEGY if reaches else BELOW_FLOOR)
            elif paced >= lowest:
                paced = min(paced, affordable_cpm[line])
                if paced >= lowest:
                    _insert(best, paced_cpm, bids, offer, paced, paced)
            else:
                reason = _further(reason, PACED if reaches else BELOW_FLOOR)
        if best[0] < 0:
            bids[0] = -reason
        elif first_price[auction]:
            for place in range(best.shape[0]):
                if best[place] >= 0 and not (any_strategy and strategy_of[lines[best[place]]] != BUILT_IN):
                    bids[place] = _shaded(market, auctions.market_row[auction], lowest, bids[place])


@njit(nogil=True, cache=True)
def _further(one: int, other: int) -> int:
    """Of two reasons the one of whoever came further: PACED, STRATEGY, BELOW_FLOOR, BUDGET."""
    if one == PACED or other == BUDGET or (one == STRATEGY and other != PACED):
        return one
    return other


@njit(nogil=True, cache=True)
def _insert(ranked: Int32, paced_cpm: Int64, bids: Int64, offer: int, paced: int, bid: int) -> None:
    place = ranked.shape[0]
    while place > 0 and (ranked[place - 1] < 0 or paced_cpm[place - 1] < paced):
        place -= 1
    for position in range(ranked.shape[0] - 1, place, -1):
        ranked[position] = ranked[position - 1]
        paced_cpm[position] = paced_cpm[position - 1]
        bids[position] = bids[position - 1]
    if place < ranked.shape[0]:
        ranked[place] = offer
        paced_cpm[place] = paced
        bids[place] = bid


@njit(nogil=True, cache=True)
def _shaded(market: Market, row: int, lowest: int, paced: int) -> int:
    bid = shade(float(paced), float(lowest), market.edges_cpm, market.win_rate[row])
    return max(int(bid), lowest)


@njit(nogil=True, cache=True)
def _ask_strategies(
    market: Market,
    terms: Terms,
    strategies: Strategies,
    offers: Offers,
    value_cpm: Int64,
    auctions: Auctions,
    auction: int,
    out: Int64,
) -> None:
    """What strategies bid in one auction within their limits.

    out : (c,) int64, written where the auction's candidates have a strategy; 0 where it passes, is stopped, or answers
        no price.
    """
    max_bid_cpm, affordable_cpm, multiplier = terms.max_bid_cpm, terms.affordable_cpm, terms.multiplier
    budget_left, time_left, premium_cpm = terms.budget_left, terms.time_left, terms.premium_cpm
    address, shades, rows, parameters = strategies.address, strategies.shades, strategies.row, strategies.parameters
    ask, counts, lines = strategies.ask, strategies.counts, offers.lines
    edges, win_rate, market_row = market.edges_cpm, market.win_rate, np.int64(auctions.market_row[auction])
    lowest, first = max(auctions.floor_cpm[auction], 1), auctions.first_price[auction]
    request = auctions.request[auction]
    ask[0, 4], ask[0, 6] = auctions.floor_cpm[auction], 1.0 if first else 0.0
    for offer in range(offers.indptr[request], offers.indptr[request + 1]):
        line = np.int64(lines[offer])
        value, row = value_cpm[offer] + premium_cpm[line], rows[line]
        highest = float(min(max_bid_cpm[line], affordable_cpm[line], strategies.max_bid_cpm))
        highest = min(highest, value * strategies.max_over_value)
        out[offer] = 0
        if row < 0 or highest < 1.0 or terms.exhausted[line]:
            continue
        paced = min(int(value * multiplier[line]), max_bid_cpm[line], affordable_cpm[line])
        ask[0, 0], ask[0, 1], ask[0, 2], ask[0, 3] = value, multiplier[line], paced, paced
        if first and paced >= lowest and shades[row]:
            ask[0, 3] = _shaded(market, market_row, lowest, paced)
        ask[0, 5], ask[0, 7], ask[0, 8] = highest, budget_left[line], time_left[line]
        bid = _call(address[row], ask, np.int64(0), parameters, line, edges, win_rate, market_row)
        counts[row, 0] += 1
        if not 0.0 <= bid < math.inf:
            counts[row, 1] += 1
            continue
        if bid > highest:
            counts[row, 2] += 1
        out[offer] = int(min(bid, highest))
