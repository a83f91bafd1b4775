"""What second-price auctions to come will cost, told from those that went by, and the bids that follow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Float64

STEPS = 12
"""Bins an octave of value / price."""
OCTAVES = 36
N_BINS = STEPS * OCTAVES
MAX_BID = 300
SMALLEST_PRICE = 0.5
"""Stands for a price of 0 in logarithms."""


class Outlook(NamedTuple):
    """Price of the auctions seen, by value / price, as several memories have it.

    A ratio lies in bin floor(12 (log2(value / price) - origin + 18)). Memory 0 holds the shape alone: prices and values
    relative to their levels of the time; the others hold what there was. All forget by halves.

    mass, weight : (m, 432), (m,) float64. Sum of prices by bin, and auctions.   keep : (m,) what stays of both.
    sums, counts : (2, k), (k,) float64. Of log price and log value, forgotten at k speeds.   kept : (k,) what stays.
    level_mix, level_errors, levels_then : (2, k), (2, k, k), (2, k). How the k means are weighted, the products of
        their errors in the blocks gone by, and what they were when this block began.
    curve_mix, curve_errors, spend_then : (m,), (m, m), (m,). The same of the spend foretold.
    curves : (m + 1, 433) float64. Expected price of an auction from a bin up; the last row is the weighted mean.
    block  : (4,) float64. Of this block: sums of log price, log value and prices above the bar, and auctions.
    now    : (4,) float64. Levels of log price and log value, the origin in octaves, and the bar of this block, a bin.
    """

    mass: Float64
    weight: Float64
    keep: Float64
    sums: Float64
    counts: Float64
    kept: Float64
    level_mix: Float64
    level_errors: Float64
    levels_then: Float64
    curve_mix: Float64
    curve_errors: Float64
    spend_then: Float64
    curves: Float64
    block: Float64
    now: Float64


@njit(nogil=True, cache=True)
def learn_auction(outlook: Outlook, value: float, price: int) -> None:
    """Remember an auction with its value and market price; what was foretold is not touched."""
    log_price = math.log(max(float(min(price, MAX_BID)), SMALLEST_PRICE))
    log_value = math.log(value) if value > 0.0 else outlook.now[1]
    for k in range(outlook.kept.shape[0]):
        outlook.sums[0, k] = outlook.sums[0, k] * outlook.kept[k] + log_price
        outlook.sums[1, k] = outlook.sums[1, k] * outlook.kept[k] + log_value
        outlook.counts[k] = outlook.counts[k] * outlook.kept[k] + 1.0
    outlook.block[0] += log_price
    outlook.block[1] += log_value
    outlook.block[3] += 1.0
    for m in range(outlook.keep.shape[0]):
        outlook.weight[m] = outlook.weight[m] * outlook.keep[m] + 1.0
        for place in range(N_BINS):
            outlook.mass[m, place] *= outlook.keep[m]
    if value <= 0.0 or not 0 < price <= MAX_BID:
        # costs nothing, or is never bought
        return
    place = _place(math.log2(value / price) - outlook.now[2])
    if place >= outlook.now[3]:
        outlook.block[2] += price
    for m in range(1, outlook.keep.shape[0]):
        outlook.mass[m, int(place)] += price
    centred = _place(math.log2(value / price) - (outlook.now[1] - outlook.now[0]) / math.log(2.0))
    outlook.mass[0, int(centred)] += price * math.exp(-outlook.now[0])


@njit(nogil=True, cache=True)
def end_block(outlook: Outlook, keep: float) -> None:
    """Hold what was foretold when the block began against what came, weight all by it anew, and begin another block.

    The weights are those, none below 0 and 1 in sum, whose mean would have had the least squared error: Breiman,
    "Stacked regressions", Machine Learning 24, 1996; errors of past blocks are forgotten by ``keep`` a block.
    """
    n = outlook.block[3]
    for s in range(2):
        errors = outlook.levels_then[s] - outlook.block[s] / n
        _stack(outlook.level_errors[s], errors, keep, outlook.level_mix[s])
    foretold = 0.0
    for m in range(outlook.keep.shape[0]):
        foretold += outlook.curve_mix[m] * outlook.spend_then[m]
    if foretold > 0.0:
        errors = (outlook.spend_then - outlook.block[2] / n) / foretold
        _stack(outlook.curve_errors, errors, keep, outlook.curve_mix)
    outlook.block[:] = 0.0


@njit(nogil=True, cache=True)
def begin_block(outlook: Outlook, rate: float) -> None:
    """Note what is foretold; the bar is where bids stand that cost ``rate`` an auction."""
    outlook.now[3] = _bar(outlook.curves[-1], rate)
    for k in range(outlook.kept.shape[0]):
        outlook.levels_then[0, k] = outlook.sums[0, k] / outlook.counts[k]
        outlook.levels_then[1, k] = outlook.sums[1, k] / outlook.counts[k]
    for m in range(outlook.keep.shape[0]):
        outlook.spend_then[m] = _spend(outlook.curves[m], outlook.now[3])


@njit(nogil=True, cache=True)
def foretell(outlook: Outlook) -> None:
    """Bring levels and curves up to date with what was learned."""
    outlook.now[:2] = 0.0
    for k in range(outlook.kept.shape[0]):
        outlook.now[0] += outlook.level_mix[0, k] * outlook.sums[0, k] / outlook.counts[k]
        outlook.now[1] += outlook.level_mix[1, k] * outlook.sums[1, k] / outlook.counts[k]
    n_memories = outlook.keep.shape[0]
    mean = outlook.curves[n_memories]
    for m in range(n_memories):
        total = 0.0
        for place in range(N_BINS - 1, -1, -1):
            total += outlook.mass[m, place] / outlook.weight[m]
            outlook.curves[m, place] = total
    # the mean's row serves as scratch: the shape, before it is moved to where the levels are
    mean[:] = outlook.curves[0]
    moved = ((outlook.now[1] - outlook.now[0]) / math.log(2.0) - outlook.now[2]) * STEPS
    scale = math.exp(outlook.now[0])
    for place in range(N_BINS):
        outlook.curves[0, place] = scale * _spend(mean, place - moved)
    for place in range(N_BINS):
        mean[place] = 0.0
        for m in range(n_memories):
            mean[place] += outlook.curve_mix[m] * outlook.curves[m, place]


@njit(nogil=True, cache=True)
def second_price_bid(outlook: Outlook, value: float, left: int, n_left: int) -> int:
    """The highest price worth paying: that costs no more value than it brings, when what is then left is well spent.

    Paying p takes λ(r) for each unit from r = left / n_left down to (left - p) / n_left, where λ(r) is value / price
    at which r an auction would be spent; the middle stands for all of them.
    """
    low, high = 0, min(MAX_BID, left) + 1
    while high - low > 1:
        price = (low + high) // 2
        bar = _bar(outlook.curves[-1], (left - 0.5 * price) / n_left)
        if bar <= 0.0 or math.log2(value / price) - outlook.now[2] >= bar / STEPS - OCTAVES / 2:
            low = price
        else:
            high = price
    return low


@njit(nogil=True, cache=True)
def _place(octaves: float) -> float:
    """A bin's number and the part of it that lies below, within the bins there are."""
    return float(min(max((octaves + OCTAVES / 2) * STEPS, 0.0), N_BINS - 1e-9))


@njit(nogil=True, cache=True)
def _spend(curve: Float64, place: float) -> float:
    """A curve between its bins."""
    if place <= 0.0:
        return float(curve[0])
    if place >= N_BINS:
        return 0.0
    left = int(place)
    return float(curve[left] + (place - left) * (curve[left + 1] - curve[left]))


@njit(nogil=True, cache=True)
def _bar(curve: Float64, rate: float) -> float:
    """The lowest place on a curve that costs no more than ``rate``; 0: everything may be bought."""
    if curve[0] <= rate:
        return 0.0
    low, high = 0, N_BINS
    while high - low > 1:
        middle = (low + high) // 2
        if curve[middle] > rate:
            low = middle
        else:
            high = middle
    return float(low + (curve[low] - rate) / (curve[low] - curve[high]))


@njit(nogil=True, cache=True)
def _stack(products: Float64, errors: Float64, keep: float, mix: Float64) -> None:
    """Add the products of errors and move the weights towards the least mix · products · mix on the simplex.

    Steps move weight between the pair that gains most: Lacoste-Julien, Jaggi, NIPS 2015, pairwise Frank-Wolfe.
    """
    n = errors.shape[0]
    for i in range(n):
        for j in range(n):
            products[i, j] = products[i, j] * keep + errors[i] * errors[j]
    slope = np.empty(n)
    for _ in range(2 * n):
        for i in range(n):
            slope[i] = 0.0
            for j in range(n):
                slope[i] += products[i, j] * mix[j]
        best, worst = 0, -1
        for i in range(n):
            if slope[i] < slope[best]:
                best = i
            if mix[i] > 0.0 and (worst < 0 or slope[i] > slope[worst]):
                worst = i
        curvature = products[best, best] + products[worst, worst] - 2.0 * products[best, worst]
        if slope[worst] <= slope[best] or curvature <= 0.0:
            return
        step = min(mix[worst], (slope[worst] - slope[best]) / curvature)
        mix[worst] -= step
        mix[best] += step
