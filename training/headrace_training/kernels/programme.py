"""Dynamic programmes over auctions left and budget left, and the bids that follow from them."""

from __future__ import annotations

from numba import njit

from headrace.types import Float64

MAX_BID = 300


@njit(nogil=True, cache=True)
def fill_by_price(prices: Float64, out: Float64) -> None:
    """What a budget is worth when every impression is worth 1 and prices are drawn independently.

    Cai et al., "Real-time bidding by reinforcement learning in display advertising", WSDM 2017, section 3.

    prices : (301,) float64, share of auctions by market price.
    out    : (n + 1, b + 1) float64, by auctions left and budget left; written.
    """
    out[0, :] = 0.0
    for n_left in range(1, out.shape[0]):
        last, now = out[n_left - 1], out[n_left]
        for left in range(out.shape[1]):
            gain = 0.0
            for price in range(min(MAX_BID, left) + 1):
                surplus = 1.0 + last[left - price] - last[left]
                if surplus < 0.0:
                    break
                gain += prices[price] * surplus
            now[left] = last[left] + gain


@njit(nogil=True, cache=True)
def fill_by_kind(weights: Float64, values: Float64, prices: Float64, out: Float64) -> None:
    """What a budget is worth when impressions are drawn independently from k kinds, each with a value and a price.

    weights, values : (k,) float64, share of auctions and value.   prices : (k,) float64 > 0, in steps of the budget;
        between its steps the worth of a budget is taken as linear.
    out : (n + 1, b + 1) float64, by auctions left and steps of the budget left; written.
    """
    out[0, :] = 0.0
    for n_left in range(1, out.shape[0]):
        last, now = out[n_left - 1], out[n_left]
        now[:] = last
        for kind in range(weights.shape[0]):
            whole = int(prices[kind])
            part = prices[kind] - whole
            for left in range(whole + 1, out.shape[1]):
                paid = last[left - whole] + part * (last[left - whole - 1] - last[left - whole])
                now[left] += weights[kind] * max(values[kind] + paid - last[left], 0.0)


@njit(nogil=True, cache=True)
def table_bid(worth: Float64, step: float, value: float, left: int, n_left: int) -> int:
    """The highest price that leaves at least as much, value included, as losing does.

    worth : (n + 1, b + 1) float64 as above, in the unit of ``value``.   step : CPM units between its columns.
    """
    row = worth[n_left - 1]
    lost = _between(row, left / step)
    low, high = 0, min(MAX_BID, left) + 1
    while high - low > 1:
        price = (low + high) // 2
        if value + _between(row, (left - price) / step) >= lost:
            low = price
        else:
            high = price
    return low


@njit(nogil=True, cache=True)
def _between(row: Float64, place: float) -> float:
    left = int(place)
    if left >= row.shape[0] - 1:
        return float(row[-1])
    return float(row[left] + (place - left) * (row[left + 1] - row[left]))
