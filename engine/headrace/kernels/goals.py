"""Goals: the steps at which spend earns what it must, and the premiums that keep promises of impressions."""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit

from headrace.types import Float64, Int64

STEPS_PER_OCTAVE = 4
FIRST_OCTAVE = 10
TOP_STEPS = 16
N_STEPS = 88
HALVINGS = 24
LEAST_WINS = 16.0
"""Before so many wins no bid passes what keeps the goal by itself."""


class Earnings(NamedTuple):
    """What m line items must earn.

    spend, worth : (m, 89) float64. Expected cost and value won of one matched impression by step, corrected.
    traffic : (m,) float64. Impressions over which a balance is to be evened out.
    credit : (m,) float64. Spend that a unit of value allows; 0 where nothing is asked for.
    n_wins : (m,) float64. How many wins the curves rest on.
    """

    spend: Float64
    worth: Float64
    traffic: Float64
    credit: Float64
    n_wins: Float64


class Wishes(NamedTuple):
    """What promises ask of g line items.

    values : (g, 120) float64 weights of their impressions by value bin.   multiplier, cap_cpm : (g,) float64.
    penalty_cpm : (g,) float64. The highest premium.
    rate : (g,) float64. Share of matched impressions that is to be won; 0 where nothing is left to win.
    """

    values: Float64
    multiplier: Float64
    cap_cpm: Float64
    penalty_cpm: Float64
    rate: Float64


@njit(nogil=True, cache=True)
def _credit_step(credit: float) -> float:
    if credit <= 0.0:
        return float(N_STEPS)
    return min(max(TOP_STEPS - STEPS_PER_OCTAVE * math.log2(credit), 0.0), float(N_STEPS))


@njit(nogil=True, cache=True)
def _at(row: Float64, step: float) -> float:
    left = int(step)
    if left >= N_STEPS:
        return 0.0
    return float(row[left] + (step - left) * (row[left + 1] - row[left]))


@njit(nogil=True, cache=True)
def _earned(earnings: Earnings, start: int, end: int, steps: Float64, common: float) -> float:
    total = 0.0
    for line in range(start, end):
        step = max(steps[line], common)
        gain = earnings.credit[line] * _at(earnings.worth[line], step) - _at(earnings.spend[line], step)
        total += earnings.traffic[line] * gain
    return total


@njit(nogil=True, cache=True)
def earning_steps(earnings: Earnings, indptr: Int64, balance: Float64, least_step: Float64, out: Float64) -> None:
    """The lowest common step of each group of line items at which their future spend keeps the goal with the past.

    With value v, cost c and credit a, maximise the sum of v subject to the sum of a v - c not being negative (and to
    the budget): the Lagrangian is v (1 + nu a) - (lambda + nu) c, so the optimal bid is v (1 + nu a) / (lambda + nu),
    one multiplier (Yang et al., "Bid optimization by multivariable control in display advertising", 2019; Balseiro et
    al., "Robust auction design in the auto-bidding world", 2021). The sum falls once the multiplier passes a, where
    every single impression keeps the goal; so the largest multiplier that keeps it lies there or above, and the
    multiplier a is the one that recovers the most from a negative balance.

    indptr : (k + 1,) int64, group j has line items ``indptr[j]:indptr[j + 1]``.
    balance : (k,) float64. Credit earned less spend so far; in the unit of spend.
    least_step : (m,) float64. Steps that line items keep anyhow.
    out : (k,) float64, written, in [0, 88]; 0 where no line item has a credit.
    """
    for group in range(indptr.shape[0] - 1):
        start, end = indptr[group], indptr[group + 1]
        safe, n_wins = 0.0, 0.0
        for line in range(start, end):
            if earnings.credit[line] > 0.0:
                safe = max(safe, _credit_step(earnings.credit[line]))
            n_wins += earnings.n_wins[line]
        out[group] = safe
        if safe == 0.0 or n_wins < LEAST_WINS:
            continue
        if _earned(earnings, start, end, least_step, safe) + balance[group] < 0.0:
            continue
        low, high = 0.0, safe
        if _earned(earnings, start, end, least_step, 0.0) + balance[group] >= 0.0:
            high = 0.0
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            if _earned(earnings, start, end, least_step, middle) + balance[group] >= 0.0:
                high = middle
            else:
                low = middle
        out[group] = high


@njit(nogil=True, cache=True)
def _win_at(wins: Float64, bid: float) -> float:
    if bid < 1.0:
        return 0.0
    place = (math.log2(bid) - FIRST_OCTAVE) * STEPS_PER_OCTAVE - 0.5
    last = wins.shape[0] - 1
    if place <= 0.0:
        return float(wins[0])
    if place >= last:
        return float(wins[last])
    left = int(place)
    return float(wins[left] + (place - left) * (wins[left + 1] - wins[left]))


@njit(nogil=True, cache=True)
def _won_share(wishes: Wishes, line: int, premium: float, wins: Float64) -> float:
    total, won = 0.0, 0.0
    for place in range(wishes.values.shape[1]):
        weight = wishes.values[line, place]
        if weight > 0.0:
            value = 2.0 ** (FIRST_OCTAVE + (place + 0.5) / STEPS_PER_OCTAVE)
            bid = min((value + premium) * wishes.multiplier[line], wishes.cap_cpm[line])
            total += weight
            won += weight * _win_at(wins, bid)
    return won / total if total > 0.0 else 0.0


@njit(nogil=True, cache=True)
def promise_premiums(wishes: Wishes, wins: Float64, out: Float64) -> None:
    """The lowest premium on every value, up to the penalty, at which the wished share of impressions is won.

    It is the dual of "win so many" when each one missing costs the penalty: never above the penalty, and 0 where the
    values win enough by themselves. Without impressions seen it is the penalty: nothing says that less would do.

    wins : (120,) float64. Probability of winning by the bin of the bid, straight between the middles of bins.
    out : (g,) float64, written, in [0, penalty].
    """
    for line in range(out.shape[0]):
        out[line] = 0.0
        low, high = 0.0, wishes.penalty_cpm[line]
        if wishes.rate[line] <= 0.0 or _won_share(wishes, line, 0.0, wins) >= wishes.rate[line]:
            continue
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            if _won_share(wishes, line, middle, wins) >= wishes.rate[line]:
                high = middle
            else:
                low = middle
        out[line] = high
