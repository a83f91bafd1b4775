"""Pacing: count what traffic is worth, tabulate what a multiplier would spend and win, solve for the budget left."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.kernels.price import Terms
from headrace.types import Bool, Float64, Int32, Int64

STEPS_PER_OCTAVE = 4
FIRST_OCTAVE = 10
N_VALUE_BINS = 120
"""Values are counted in bins of a quarter octave from 2**10 CPM micros; the end bins take what lies outside."""
TOP_STEPS = 16
"""Multipliers are 2**((16 - x) / 4) for steps x in [0, 88): from 16 down to 2**-18. Step 16 is 1."""
N_STEPS = 88
"""From this step on a multiplier is zero."""


class Tally(NamedTuple):
    """What was seen of m line items since a moment, but for ``values``, which fades.

    values : (m, 120) float64. Impressions by value; one between the middles of two bins is shared by them.
    matched : (m,) float64. Impressions that the line item could bid on.
    cost_matched, cost_bid : (m,) float64. Expected cost, micros per thousand, had it bid on all of those; and of the
        ones that it did bid on.
    n_bid : (m,) float64. How many those were.   wins_bid : (m,) float64. Of them, how many win on expectation.
    worth_bid : (m,) float64. The value of those that win on expectation, micros per thousand.
    held : (m,) float64. What was bid before shading, micros per thousand: about what is reserved.
    """

    values: Float64
    matched: Float64
    cost_matched: Float64
    cost_bid: Float64
    n_bid: Float64
    wins_bid: Float64
    worth_bid: Float64
    held: Float64


class Curves(NamedTuple):
    """What a bid meets, at the middles of the bins of its paced value; row 0 second price, row 1 first price.

    costs : (2, 120) float64, ascending. Expected cost, micros per thousand.
    wins : (2, 120) float64, ascending. Probability that it wins.
    """

    costs: Float64
    wins: Float64


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
    least_step : (m,) float64. No step below it: no multiplier above.
    campaign_indptr : (k + 1,) int64. Campaign j has the line items ``indptr[j]:indptr[j + 1]``.
    campaign_left : (2, k) float64, nanos.
    """

    traffic: Float64
    left: Float64
    least_step: Float64
    campaign_indptr: Int64
    campaign_left: Float64


_QUARTER, _HALF, _THREE_QUARTERS = 0.5 * 2**0.25, 0.5 * 2**0.5, 0.5 * 2**0.75
"""Where a quarter, a half and three quarters of an octave end, of numbers from a half to one."""


@njit(nogil=True, cache=True)
def value_bin(value_cpm: float) -> int:
    """The bin of a value in CPM micros; values below 1 belong to the first."""
    if value_cpm < 1.0:
        return 0
    part, octave = math.frexp(value_cpm)  # half the cost of a logarithm
    quarter = int(part >= _QUARTER) + int(part >= _HALF) + int(part >= _THREE_QUARTERS)
    place = (octave - 1 - FIRST_OCTAVE) * STEPS_PER_OCTAVE + quarter
    return min(max(place, 0), N_VALUE_BINS - 1)


@njit(nogil=True, cache=True)
def value_place(value_cpm: float) -> float:
    """Where a value lies among the middles of the bins, in [0, 119]; 0 for all below the first middle."""
    if value_cpm < 1.0:
        return 0.0
    place = (math.log2(value_cpm) - FIRST_OCTAVE) * STEPS_PER_OCTAVE - 0.5
    return min(max(place, 0.0), N_VALUE_BINS - 1.0)


@njit(nogil=True, cache=True)
def _met(curve: Float64, place: float) -> float:
    left = int(place)
    if left >= N_VALUE_BINS - 1:
        return float(curve[N_VALUE_BINS - 1])
    return float(curve[left] + (place - left) * (curve[left + 1] - curve[left]))


@njit(nogil=True, cache=True)
def observe(seen: Seen, terms: Terms, curves: Curves, weight: float, tally: Tally) -> None:
    """Add a batch to the tally.

    terms : as the batch was priced with.   weight : of one impression among ``tally.values``.
    """
    multiplier, max_bid_cpm, premium_cpm = terms.multiplier, terms.max_bid_cpm, terms.premium_cpm
    values, matched, cost_matched, cost_bid = tally.values, tally.matched, tally.cost_matched, tally.cost_bid
    n_bid, wins_bid, worth_bid, held = tally.n_bid, tally.wins_bid, tally.worth_bid, tally.held
    costs, wins = curves.costs, curves.wins
    for impression in range(seen.request.shape[0]):
        request = seen.request[impression]
        row = 1 if seen.first_price[impression] else 0
        for offer in range(seen.indptr[request], seen.indptr[request + 1]):
            line = seen.lines[offer]
            value = seen.value_cpm[offer]
            if value + premium_cpm[line] < 1:
                continue
            bid = min((value + premium_cpm[line]) * multiplier[line], float(max_bid_cpm[line]))
            place = value_place(float(value))
            paced = place if bid == value else value_place(bid)  # a logarithm less where nothing is held back
            cost, left = _met(costs[row], paced), min(int(place), N_VALUE_BINS - 2)
            # shared by the bins on both sides, so that equal values are priced as what they are
            values[line, left] += weight * (left + 1 - place)
            values[line, left + 1] += weight * (place - left)
            matched[line] += 1.0
            cost_matched[line] += cost
            if offer == seen.winner[impression]:
                cost_bid[line] += cost
                n_bid[line] += 1.0
                win = _met(wins[row], paced)
                wins_bid[line] += win
                worth_bid[line] += win * value
                held[line] += bid


@njit(nogil=True, cache=True)
def win_curve(costs: Float64, out: Float64) -> None:
    """Probability of winning by the bin of the paced value, from the expected cost.

    A bid that is worth v to whoever makes it pays v for the last win that it takes, at second price and, shaded for
    the most surplus, at first price too (the envelope theorem): dC = v dW. Summed over the edges between bins.

    costs : (120,) float64, ascending.   out : (120,) float64, written, ascending, at most 1.
    """
    won = 0.0
    before = 0.0
    for place in range(costs.shape[0]):
        won += (costs[place] - before) / 2.0 ** (FIRST_OCTAVE + place / STEPS_PER_OCTAVE)
        before = costs[place]
        out[place] = min(won, 1.0)


@njit(nogil=True, cache=True)
def _add_steps(weight: float, place: int, premium: float, cap_place: float, curve: Float64, out: Float64) -> None:
    """Add what a bin of values meets at every step, by its place with the premium at the highest multiplier."""
    top = value_place(2.0 ** (FIRST_OCTAVE + (place + 0.5) / STEPS_PER_OCTAVE) + premium) + TOP_STEPS
    for step in range(min(int(top) + 1, N_STEPS)):
        out[step] += weight * _met(curve, min(top - step, cap_place))


@njit(nogil=True, cache=True)
def _tabulate(
    values: Float64, each: Float64, cap_place: float, premium: float, curve: Float64, capped: Float64, out: Float64
) -> None:
    """One line item's row; ``each`` weighs the bins, ``capped`` is room for the curve as the highest bid cuts it."""
    total = 0.0
    out[:] = 0.0
    for place in range(capped.shape[0]):
        capped[place] = _met(curve, min(float(place), cap_place))
    for place in range(N_VALUE_BINS):
        total += values[place]
        weight = values[place] * each[place]
        if weight > 0.0 and premium > 0.0:
            _add_steps(weight, place, premium, cap_place, curve, out)
        elif weight > 0.0:
            for step in range(min(place + TOP_STEPS + 1, N_STEPS)):
                out[step] += weight * capped[place + TOP_STEPS - step]
    if total > 0.0:
        for step in range(N_STEPS):
            out[step] /= total


@njit(nogil=True, cache=True)
def tabulate_spend(values: Float64, cap_place: Float64, premium_cpm: Int64, costs: Float64, out: Float64) -> None:
    """Expected cost of one matched impression for each line item and step of the multiplier.

    values : (m, 120) float64 weights; a line item without any costs nothing.
    cap_place : (m,) float64. `value_place` of the highest bid.   premium_cpm : (m,) int64. Added to every value.
    costs : (120,) float64, ascending, by the bin of the paced value.
    out : (m, 89) float64, written, descending along a row; the last column is 0.
    """
    each, capped = np.ones(N_VALUE_BINS), np.empty(N_VALUE_BINS + TOP_STEPS)
    for line in range(values.shape[0]):
        _tabulate(values[line], each, cap_place[line], float(premium_cpm[line]), costs, capped, out[line])


@njit(nogil=True, cache=True)
def tabulate_worth(values: Float64, cap_place: Float64, premium_cpm: Int64, wins: Float64, out: Float64) -> None:
    """Expected value won of one matched impression; as `tabulate_spend`, by the probability of winning.

    wins : (120,) float64, ascending.
    """
    each, capped = np.empty(N_VALUE_BINS), np.empty(N_VALUE_BINS + TOP_STEPS)
    for place in range(N_VALUE_BINS):
        each[place] = 2.0 ** (FIRST_OCTAVE + (place + 0.5) / STEPS_PER_OCTAVE)
    for line in range(values.shape[0]):
        _tabulate(values[line], each, cap_place[line], float(premium_cpm[line]), wins, capped, out[line])


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
def solve_steps(spend: Float64, needs: Needs, own: Float64, common: Float64) -> None:
    """The lowest steps whose expected spend stays within what is left of every line item and campaign.

    Line item l alone: traffic[h, l] * spend_l(x) <= left[h, l] for both h, and x >= least_step[l]. A campaign then asks
    for a common step, below which none of its line items may lie, so that the sum of them fits too.

    spend : (m, 89) float64 of `tabulate_spend`, read as straight between its columns.
    own : (m,) float64, written, in [0, 88].   common : (k,) float64, written, in [0, 88].
    """
    for campaign in range(needs.campaign_left.shape[1]):
        start, end = needs.campaign_indptr[campaign], needs.campaign_indptr[campaign + 1]
        for line in range(start, end):
            own[line] = needs.least_step[line]
            for horizon in range(2):
                if needs.traffic[horizon, line] > 0.0 and needs.left[horizon, line] < math.inf:
                    target = needs.left[horizon, line] / needs.traffic[horizon, line]
                    own[line] = max(own[line], _step_for(spend[line], target))
        common[campaign] = 0.0
        for horizon in range(2):
            left = needs.campaign_left[horizon, campaign]
            if left < math.inf:
                step = _campaign_step(spend[start:end], needs.traffic[horizon, start:end], own[start:end], left)
                common[campaign] = max(common[campaign], step)
