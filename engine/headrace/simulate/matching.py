"""Which line items an auction fits, worked out anew from the campaigns: the engine's own answer is not asked."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from zoneinfo import ZoneInfo

import numpy as np

from headrace.bidding.pacing.traffic import HOURS_PER_WEEK
from headrace.bidding.validation import week_bits
from headrace.simulate.loading import Plan
from headrace.simulate.market import HOUR_MS, MONDAY_MS, Auctions
from headrace.types import Bool, Int16, Int64
from headrace.v1 import campaigns_pb2 as pb

QUARTER_MS = 900_000


def fitting(plan: Plan, auctions: Auctions) -> Bool:
    """(n, m): auction i was answered, and fits the targeting, flight and local hours of line item l; edits that pause
    are not counted."""
    fits = np.empty((len(auctions.time_ms), len(plan.lines)), bool)
    for column, (i, j) in enumerate(plan.lines):
        campaign = plan.campaigns[i]
        targeting = campaign.line_items[j].targeting
        fits[:, column] = auctions.answered & _in_flight(campaign, auctions.time_ms)
        if targeting.user_segments:  # requests of a scenario name none
            fits[:, column] = False
        if targeting.hours or targeting.dayparts:
            bits = week_bits(targeting)
            runs = np.array([bool(bits >> hour & 1) for hour in range(HOURS_PER_WEEK)])
            fits[:, column] &= runs[_local_hour_of_week(campaign.time_zone, auctions.time_ms)]
        for wanted, rows, shares in (
            (targeting.countries, auctions.country, [place.countries for place in plan.scenario.exchanges]),
            (targeting.categories, auctions.category, [place.categories for place in plan.scenario.exchanges]),
        ):
            if wanted:
                fits[:, column] &= _named(wanted, [list(each) for each in shares], auctions.exchange, rows)
    return fits


def local_days(zone: str, time_ms: Int64) -> Int64:
    """The local day of n moments, days since 1970."""
    return (time_ms + _offsets(zone, time_ms)) // (24 * HOUR_MS)


def _local_hour_of_week(zone: str, time_ms: Int64) -> Int64:
    return (time_ms + _offsets(zone, time_ms) - MONDAY_MS) // HOUR_MS % HOURS_PER_WEEK


def _offsets(zone: str, time_ms: Int64) -> Int64:
    quarters, place = np.unique(time_ms // QUARTER_MS, return_inverse=True)
    info = ZoneInfo(zone)
    moments = (dt.datetime.fromtimestamp(quarter * QUARTER_MS / 1000, info) for quarter in quarters.tolist())
    offsets = [round(offset.total_seconds() * 1000) for moment in moments if (offset := moment.utcoffset()) is not None]
    return np.array(offsets, np.int64)[place] if offsets else np.zeros(0, np.int64)


def _in_flight(campaign: pb.Campaign, time_ms: Int64) -> Bool:
    inside: Bool = time_ms >= campaign.flight_start_ms
    return inside & (time_ms < campaign.flight_end_ms) if campaign.flight_end_ms else inside


def _named(wanted: Iterable[str], names: list[list[str]], exchange: Int16, rows: Int16) -> Bool:
    found = np.zeros(len(rows), bool)
    words = set(wanted)
    for place, of_place in enumerate(names):
        good = [row for row, name in enumerate(of_place) if name in words]
        found |= (exchange == place) & np.isin(rows, good)
    return found
