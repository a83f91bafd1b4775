"""Plans of spend: how much expected traffic lies between moments, what of a plan has passed, and which is scarcest."""

from __future__ import annotations

import math

from numba import njit

from headrace.types import Float64, Int32, Int64

WEEK_MS = 7 * 86_400_000
QUARTER_MS = 900_000
N_QUARTERS = 672
MONDAY_MS = 4 * 86_400_000
"""1970-01-05, the first Monday."""


@njit(nogil=True, cache=True)
def _until(week: Float64, time_ms: int) -> float:
    weeks, rest = divmod(time_ms - MONDAY_MS, WEEK_MS)
    quarter, part = divmod(rest, QUARTER_MS)
    start = week[quarter]
    return float(weeks * week[N_QUARTERS] + start + (week[quarter + 1] - start) * (part / QUARTER_MS))


@njit(nogil=True, cache=True)
def _between(week: Float64, start_ms: int, end_ms: int) -> float:
    return max(_until(week, end_ms) - _until(week, start_ms), 0.0) if end_ms > start_ms else 0.0


@njit(nogil=True, cache=True)
def traffic_between(weeks: Float64, pattern: Int64, start_ms: Int64, end_ms: Int64, out: Float64) -> None:
    """Weeks of traffic of n nodes between two times; 0 when the end is not after the start.

    weeks : (p, 673) float64. Traffic of a pattern until each quarter of the week.   pattern : (n,) int64 row of weeks.
    start_ms, end_ms : (n,) int64.   out : (n,) float64, written.
    """
    for node in range(out.shape[0]):
        out[node] = _between(weeks[pattern[node]], start_ms[node], end_ms[node])


@njit(nogil=True, cache=True)
def pass_plans(
    weeks: Float64,
    pattern: Int64,
    start_ms: Int64,
    end_ms: Int64,
    then_ms: int,
    now_ms: int,
    last_ms: int,
    done: Float64,
) -> None:
    """Count the traffic between two moments as passed, of two plans each of n nodes.

    weeks, pattern : as in `traffic_between`.   start_ms, end_ms : (2, n) int64 of the plans.
    last_ms : no plan is looked at beyond it.
    done : (2, n) float64, written: the share of each plan's traffic that has passed.
    """
    for horizon in range(2):
        for node in range(done.shape[1]):
            begin = max(start_ms[horizon, node], then_ms)
            if now_ms <= begin:
                continue
            end = min(end_ms[horizon, node], last_ms)
            whole = _between(weeks[pattern[node]], begin, end)
            part = _between(weeks[pattern[node]], begin, min(end, now_ms))
            done[horizon, node] += (1.0 - done[horizon, node]) * (part / whole if whole > 0.0 else 1.0)


@njit(nogil=True, cache=True)
def rest_of_plans(left: Float64, done: Float64, curve: Float64, out: Float64) -> None:
    """What two plans each of n nodes want to be left of ``left``, (2, n) all; infinite where nothing is planned.

    curve : (n,); where it is infinite nothing is to be left once anything has passed.
    """
    for horizon in range(2):
        for node in range(curve.shape[0]):
            share = 0.0 if done[horizon, node] >= 1.0 else (1.0 - done[horizon, node]) ** curve[node]
            planned = left[horizon, node] < math.inf
            out[horizon, node] = left[horizon, node] * share if planned else math.inf


@njit(nogil=True, cache=True)
def scarcest_shares(
    left: Float64, room: Float64, done: Float64, campaign_of: Int32, budget: Float64, time: Float64
) -> None:
    """Shares of budget and of traffic that the scarcest plan of each of m line items still has.

    left, room, done : (2, n) float64, of the line items and then of the campaigns: what a plan began with, what is left
    of that, and the share of its traffic that has passed.   campaign_of : (m,) int32.
    budget, time : (m,) float64, written, in [0, 1]; 1 without a plan.
    """
    m = campaign_of.shape[0]
    for line in range(m):
        budget[line], time[line] = 1.0, 1.0
        least = 1.0
        for horizon in range(2):
            for node in (line, m + campaign_of[line]):
                begun = left[horizon, node]
                if not 0.0 < begun < math.inf:
                    continue
                money = min(max(room[horizon, node] / begun, 0.0), 1.0)
                if money - (1.0 - done[horizon, node]) < least:
                    least = money - (1.0 - done[horizon, node])
                    budget[line], time[line] = money, 1.0 - done[horizon, node]


@njit(nogil=True, cache=True)
def with_campaigns(indptr: Int64, values: Float64, out: Float64) -> None:
    """Values of m line items, followed by their sums by campaign.

    indptr : (k + 1,) int64, campaign j has the line items ``indptr[j]:indptr[j + 1]``.   values : (m,) float64.
    out : (m + k,) float64, written.
    """
    m = values.shape[0]
    for line in range(m):
        out[line] = values[line]
    for campaign in range(indptr.shape[0] - 1):
        out[m + campaign] = 0.0
        for line in range(indptr[campaign], indptr[campaign + 1]):
            out[m + campaign] += values[line]
