"""How much of the week's traffic falls between two moments, for line items that run at some hours only."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.validation import ALL_WEEK
from headrace.kernels.plans import N_QUARTERS, traffic_between
from headrace.types import Float64, Int64

HOURS_PER_WEEK = 168
EVERY = slice(None)
FLAT_SHARE = 0.005
"""Part of the profile that is taken as flat: no hour is ever expected to be empty."""


class Traffic:
    """Cumulative traffic profiles of the distinct (zone, hours of the week) pairs of a board's N nodes.

    profile : (168,) float64 share of requests by hour of the week in UTC, Monday 00:00 first.
    weeks, pattern : as `headrace.kernels.plans.traffic_between` takes them.

    Hours are shifted by the zones' offsets at ``now_ms``: build it anew once a day.
    """

    def __init__(self, profile: Float64, board: Board, now_ms: int) -> None:
        quarters = smooth_profile(profile)
        nodes = board.nodes
        pairs, self.pattern = np.unique(np.stack([nodes.zone, nodes.week]), axis=1, return_inverse=True)
        self.weeks = np.zeros((pairs.shape[1], N_QUARTERS + 1), np.float64)
        for row, (zone, week) in enumerate(pairs.T.tolist()):
            allowed = _allowed_quarters(board.zones[zone], board.weeks[week], now_ms)
            np.cumsum(quarters * allowed, out=self.weeks[row, 1:])

    def between(self, start_ms: Int64, end_ms: Int64, nodes: slice = EVERY) -> Float64:
        """Weeks of traffic of some nodes, (n,), between two times, (n,); 0 when the end is not after the start."""
        row = self.pattern[nodes]
        result = np.empty(len(row))
        traffic_between(self.weeks, row, start_ms, end_ms, result)
        return result

    def since(self, start_ms: int, end_ms: int, n: int) -> Float64:
        """The same of the first n nodes between two moments."""
        return self.between(np.full(n, start_ms), np.full(n, end_ms), slice(n))


def smooth_profile(profile: Float64) -> Float64:
    """Shares of the week's 672 quarters of an hour, (672,) float64, summing to 1, none of them zero."""
    hours = profile if profile.sum() > 0.0 else np.ones(HOURS_PER_WEEK)
    shares = (1.0 - FLAT_SHARE) * hours / hours.sum() + FLAT_SHARE / HOURS_PER_WEEK
    return np.repeat(shares / 4.0, 4)


def local_day(zone: ZoneInfo, now_ms: int) -> tuple[int, int]:
    """Start and end of the local day around a moment, ms; 23 to 25 hours apart at clock changes."""
    today = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).astimezone(zone).date()
    return _midnight(today, zone), _midnight(today + dt.timedelta(days=1), zone)


def _midnight(day: dt.date, zone: ZoneInfo) -> int:
    return int(dt.datetime.combine(day, dt.time(), zone).timestamp() * 1000)


def _allowed_quarters(zone: ZoneInfo, week: int, now_ms: int) -> Float64:
    if week == ALL_WEEK:
        return np.ones(N_QUARTERS)
    offset = dt.datetime.fromtimestamp(now_ms / 1000, zone).utcoffset()
    assert offset is not None
    local = (np.arange(N_QUARTERS) + int(offset.total_seconds()) // 900) // 4 % HOURS_PER_WEEK
    allowed = np.array([week >> hour & 1 for hour in range(HOURS_PER_WEEK)], np.float64)
    result: Float64 = allowed[local]
    return result
