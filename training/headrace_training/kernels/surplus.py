"""What one price landscape makes of many values: the bids of `headrace.kernels.price.shade`, all at once."""

from __future__ import annotations

from numba import njit

from headrace.types import Float64


@njit(nogil=True, cache=True)
def shade_values(value: Float64, floor: Float64, edges: Float64, win_rate: Float64, out: Float64) -> None:
    """The bid in [floor, value] with the most (value - bid) * P(win at bid); 0 where the value is below the floor.

    value, floor : (n,) float64, CPM micros, >= 0.
    edges, win_rate : (b + 1,) float64, ascending. P(win) is 0 below the first edge, straight between, constant above.
    out : (n,) float64, written; the value itself where no bid can win.
    """
    last = edges.shape[0] - 1
    for row in range(value.shape[0]):
        worth, least = value[row], floor[row]
        if worth < least or worth <= 0.0:
            out[row] = 0.0
            continue
        best, most = worth, 0.0
        for left in range(last):
            low, high = max(edges[left], least), min(edges[left + 1], worth)
            if low > high:
                continue
            slope = (win_rate[left + 1] - win_rate[left]) / (edges[left + 1] - edges[left])
            rate = win_rate[left] + slope * (low - edges[left])
            bid = low
            if slope > 0.0:
                # a parabola in the bid; its top, kept inside the bin
                bid = min(max((worth + low - rate / slope) / 2.0, low), high)
            surplus = (worth - bid) * (rate + slope * (bid - low))
            if surplus > most:
                best, most = bid, surplus
        if edges[last] < least and (worth - least) * win_rate[last] > most:
            best = least
        out[row] = best
