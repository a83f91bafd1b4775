"""What first-price auctions to come will cost at each worth of money, and the shaded bids that follow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Float64

STEPS = 12
"""Bins an octave of values and of what they are worth in money."""
N_VALUES = 36 * STEPS
N_WORTHS = 16 * STEPS
LOWEST_WORTH = -2
"""In octaves: the first bin begins at a quarter of a CPM unit."""
MAX_BID = 300


class Market(NamedTuple):
    """What was seen of e exchanges; all of it is forgotten by halves.

    prices : (e + 1, 301) float64. Auctions by market price of each exchange, the last row of all.
    rates  : (e, 301) float64. The chance that a bid wins.
    values : (432,) float64. Auctions by value, in bins around the origin.
    costs  : (e, 192) float64. Expected cost of an auction of each exchange, by what its value is worth in money.
    spend  : (624,) float64. Expected cost of an auction when values of bin k are worth the money of k + shift - 432.
    """

    prices: Float64
    rates: Float64
    values: Float64
    costs: Float64
    spend: Float64


@njit(nogil=True, cache=True)
def learn_first_price(market: Market, exchange: int, price: int, octaves: float, keep: float) -> None:
    """Remember an auction of an exchange; ``octaves`` are those of its value above the origin."""
    market.prices[exchange, :] *= keep
    market.prices[-1, :] *= keep
    market.values[:] *= keep
    market.prices[exchange, min(price, MAX_BID)] += 1.0
    market.prices[-1, min(price, MAX_BID)] += 1.0
    market.values[int(min(max((octaves + 18.0) * STEPS, 0.0), N_VALUES - 1.0))] += 1.0


@njit(nogil=True, cache=True)
def foretell_first_price(market: Market, trusted: float) -> None:
    """Win rates of exchanges, drawn to that of all by ``trusted`` auctions, and what bidding by them costs."""
    n_exchanges = market.rates.shape[0]
    all_prices = market.prices[n_exchanges] / market.prices[n_exchanges].sum()
    mean = np.zeros(N_WORTHS)
    total = 0.0
    for exchange in range(n_exchanges):
        n = market.prices[exchange].sum()
        total += n
        below = 0.0
        for price in range(MAX_BID + 1):
            # beyond the last price there may be any
            if price < MAX_BID:
                below += (market.prices[exchange, price] + trusted * all_prices[price]) / (n + trusted)
            market.rates[exchange, price] = below
        for place in range(N_WORTHS):
            worth = 2.0 ** ((place + 0.5) / STEPS + LOWEST_WORTH)
            bid = shaded_bid(market.rates[exchange], worth, MAX_BID)
            market.costs[exchange, place] = bid * market.rates[exchange, bid] if bid > 0 else 0.0
            mean[place] += n * market.costs[exchange, place]
    values = market.values / market.values.sum()
    for shift in range(market.spend.shape[0]):
        market.spend[shift] = 0.0
        for k in range(max(0, N_VALUES - shift), N_VALUES):
            market.spend[shift] += values[k] * mean[min(k + shift - N_VALUES, N_WORTHS - 1)] / total


@njit(nogil=True, cache=True)
def money_for_value(market: Market, rate: float) -> float:
    """Octaves by which the money that a value is worth lies above it, when ``rate`` an auction is to be spent."""
    low, high = 0, market.spend.shape[0] - 1
    if market.spend[high] <= rate:
        return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        if market.spend[middle] > rate:
            high = middle
        else:
            low = middle
    rise = market.spend[high] - market.spend[low]
    part = (rate - market.spend[low]) / rise if rise > 0.0 else 0.0
    return (low + part - N_VALUES) / STEPS + LOWEST_WORTH + 18.0


@njit(nogil=True, cache=True)
def shaded_bid(rates: Float64, worth: float, most: int) -> int:
    """The bid with the most expected surplus, (worth - bid) · win rate; the lowest of equal ones, -1 if none has any.

    rates : (301,) float64, chance that a bid wins.   most : no bid is above it.
    """
    best, found = 0.0, -1
    for bid in range(min(most, MAX_BID) + 1):
        if bid >= worth:
            break
        surplus = (worth - bid) * rates[bid]
        if surplus > best:
            best, found = surplus, bid
    return found
