"""Pacing: count what traffic is worth, tabulate what a multiplier would spend, solve for the budget left."""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit

from headrace.types import Bool, Float64, Int32, Int64

STEPS_PER_OCTAVE = 4
FIRST_OCTAVE = 10
N_VALUE_BINS = 120
"""Values are counted in bins of a quarter octave from 2**10 CPM micros; the end bins take what lies outside."""
N_STEPS = 72
"""Multipliers are 2**(-x / 4) for x in [0, 72); 72 and above is zero."""


class Tally(NamedTuple):
    """What was seen of m line items, decayed with time.

    values : (m, 120) float64. Impressions by the value bin of the line item.
    matched : (m,) float64. Impressions that the line item could bid on.
    cost_matched, cost_bid : (m,) float64. Expected cost, micros per thousand, had it bid on all of those; and of the
        ones that it did bid on.
    n_bid : (m,) float64. How many those were.
    """

    values: Float64
    matched: Float64
    cost_matched: Float64
    cost_bid: Float64
    n_bid: Float64


class Seen(NamedTuple):
    """A priced batch: i impressions of n requests, c offers.

    indptr : (n + 1,) int64.   lines : (c,) int32.   value_cpm : (c,) int64.
    request : (i,) int32.   first_price : (i,) bool.   winner : (i,) int32 position among the offers, -1 for no bid.
    """

    indptr: Int64
    lines: Int32
    value_cpm: Int64
    request: Int32
    first_price: Bool
    winner: Int32


class Needs(NamedTuple):
    """What may be spent, by horizon h: 0 to the end of the day, 1 to the end of the flight.

    traffic : (2, m) float64. Impressions expected for a line item until then, times its spend correction.
    left : (2, m) float64. Its budget left, nanos; infinite where it has no such limit.
    campaign_indptr : (k + 1,) int64. Campaign j has the line items ``indptr[j]:indptr[j + 1]``.
    campaign_left : (2, k) float64, nanos.
    """

    traffic: Float64
    left: Float64
    campaign_indptr: Int64
    campaign_left: Float64


@njit(nogil=True, cache=True)
def value_bin(value_cpm: float) -> int:
    """The bin of a value in CPM micros; values below 1 belong to the first."""
    if value_cpm < 1.0:
        return 0
    place = int((math.log2(value_cpm) - FIRST_OCTAVE) * STEPS_PER_OCTAVE)
    return min(max(place, 0), N_VALUE_BINS - 1)


@njit(nogil=True, cache=True)
def observe(seen: Seen, multiplier: Float64, max_bid_cpm: Int64, costs: Float64, tally: Tally) -> None:
    """Add a batch to the tally.

    multiplier, max_bid_cpm : (m,) as the batch was priced with.
    costs : (2, 120) float64. Expected cost of bidding in a value bin: row 0 second price, row 1 first price.
    """
    for impression in range(seen.request.shape[0]):
        request = seen.request[impression]
        row = 1 if seen.first_price[impression] else 0
        for offer in range(seen.indptr[request], seen.indptr[request + 1]):
            value = seen.value_cpm[offer]
            if value < 1:
                continue
            line = seen.lines[offer]
            paced = min(value * multiplier[line], float(max_bid_cpm[line]))
            cost = costs[row, value_bin(paced)]
            tally.values[line, value_bin(float(value))] += 1.0
            tally.matched[line] += 1.0
            tally.cost_matched[line] += cost
            if offer == seen.winner[impression]:
                tally.cost_bid[line] += cost
                tally.n_bid[line] += 1.0


@njit(nogil=True, cache=True)
def tabulate_spend(values: Float64, cap_bin: Int32, costs: Float64, out: Float64) -> None:
    """Expected cost of one matched impression for each line item and multiplier 2**(-x / 4), x = 0 … 72.

    values : (m, 120) float64 weights; a line item without any costs nothing.
    cap_bin : (m,) int32. Bin of the highest bid.   costs : (120,) float64, ascending.
    out : (m, 73) float64, written, descending along a row; the last column is 0.
    """
    for line in range(values.shape[0]):
        total = 0.0
        out[line, :] = 0.0
        for place in range(N_VALUE_BINS):
            weight = values[line, place]
            total += weight
            if weight > 0.0:
                for step in range(min(place + 1, N_STEPS)):
                    out[line, step] += weight * costs[min(place - step, cap_bin[line])]
        if total > 0.0:
            for step in range(N_STEPS):
                out[line, step] /= total


@njit(nogil=True, cache=True)
def _spend_at(spend: Float64, step: float) -> float:
    left = int(step)
    if left >= N_STEPS:
        return 0.0
    return float(spend[left] + (step - left) * (spend[left + 1] - spend[left]))


@njit(nogil=True, cache=True)
def _step_for(spend: Float64, target: float) -> float:
    if spend[0] <= target:
        return 0.0
    right = 1
    while right < N_STEPS and spend[right] > target:
        right += 1
    drop = spend[right - 1] - spend[right]
    return right - (max(target, 0.0) - spend[right]) / drop if drop > 0.0 else float(right)


@njit(nogil=True, cache=True)
def _campaign_spend(spend: Float64, traffic: Float64, steps: Float64, common: float) -> float:
    total = 0.0
    for line in range(traffic.shape[0]):
        if traffic[line] > 0.0:
            total += traffic[line] * _spend_at(spend[line], max(steps[line], common))
    return total


@njit(nogil=True, cache=True)
def _campaign_step(spend: Float64, traffic: Float64, steps: Float64, left: float) -> float:
    if _campaign_spend(spend, traffic, steps, 0.0) <= left:
        return 0.0
    low, high = 0.0, float(N_STEPS)
    for _ in range(30):
        middle = (low + high) / 2.0
        if _campaign_spend(spend, traffic, steps, middle) <= left:
            high = middle
        else:
            low = middle
    return high


@njit(nogil=True, cache=True)
def solve_multipliers(spend: Float64, needs: Needs, out: Float64) -> None:
    """The largest multipliers whose expected spend stays within what is left of every line item and campaign.

    Line item l alone: traffic[h, l] * spend_l(x) <= left[h, l] for both h. A campaign then raises the steps x of those
    of its line items that lie below a common one until the sum of its line items fits too.

    spend : (m, 73) float64 of `tabulate_spend`, read as straight between its columns.
    out : (m,) float64, written, in [0, 1].
    """
    for campaign in range(needs.campaign_left.shape[1]):
        start, end = needs.campaign_indptr[campaign], needs.campaign_indptr[campaign + 1]
        for line in range(start, end):
            out[line] = 0.0
            for horizon in range(2):
                if needs.traffic[horizon, line] > 0.0 and needs.left[horizon, line] < math.inf:
                    target = needs.left[horizon, line] / needs.traffic[horizon, line]
                    out[line] = max(out[line], _step_for(spend[line], target))
        common = 0.0
        for horizon in range(2):
            left = needs.campaign_left[horizon, campaign]
            if left < math.inf:
                step = _campaign_step(spend[start:end], needs.traffic[horizon, start:end], out[start:end], left)
                common = max(common, step)
        for line in range(start, end):
            step = max(out[line], common)
            out[line] = 2.0 ** (-step / STEPS_PER_OCTAVE) if step < N_STEPS else 0.0
