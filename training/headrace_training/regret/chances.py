"""What one campaign could have bid on in one local day."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from headrace.bidding.board import limit_of
from headrace.decisions.reading import Recording, each_candidate
from headrace.types import Bool, Float64, Int64
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2
from headrace_training.rerun.prices import Prices, prices_of

STOPS = (
    pb.NO_BID_REASON_LEDGER_NOT_OWNER,
    pb.NO_BID_REASON_BRAKE,
    pb.NO_BID_REASON_JOURNAL_UNAVAILABLE,
    pb.NO_BID_REASON_INSUFFICIENT_TIME,
    pb.NO_BID_REASON_FENCED,
    pb.NO_BID_REASON_AUTHORITY_UNREACHABLE,
)
"""Reasons for no bid that are no matter of price and pace."""
UNLIMITED_MICROS = 10**15
_QUARTER_MS = 900_000


@dataclass(frozen=True)
class Chances:
    """Auctions of one campaign and local day in which it was a candidate and no other campaign of ours was bid for.

    value, pull, cap, floor, paid : (n,) float64, CPM micros: value of its best line item; the same with the premium of
        a promise, which bids are made of; that one's highest bid; and what a win cost, NaN where it is not known.
    probability : (n,) float64 of that line item's purchase, as predicted.
    weight : (n,) float64, auctions that it stands for.   line : (n,) int64 of the line item.
    first, won, stopped : (n,) bool.   prices : of the auctions.
    budget : micros that might have been spent, infinite without a limit.   line_budgets : by number of line item.
    """

    campaign_id: str
    day: str
    currency: str
    value: Float64
    pull: Float64
    cap: Float64
    floor: Float64
    paid: Float64
    probability: Float64
    weight: Float64
    line: Int64
    first: Bool
    won: Bool
    stopped: Bool
    prices: Prices
    budget: float
    line_budgets: dict[int, float]


def chances_of(recording: Recording, campaign_id: str = "") -> Iterator[Chances]:
    """All campaigns' days, by campaign and then by day; those of one campaign if it is named."""
    prices = prices_of(recording)
    owner, at = each_candidate(recording.auctions)
    candidates = recording.candidates[at]
    names = sorted({campaign.campaign_id for board in recording.boards for campaign in board.campaigns})
    number = {name: place for place, name in enumerate(names)}
    boards = recording.auctions["board"]
    campaign_of = np.zeros(len(candidates), np.int64)
    chosen = np.full(len(recording.auctions), -1, np.int64)
    for place, board in enumerate(recording.boards):
        of_lines = np.array([number[campaign.campaign_id] for campaign, _ in board.lines], np.int64)
        mine = boards[owner] == place
        campaign_of[mine] = of_lines[candidates["line"][mine]]
        bid = (boards == place) & (recording.auctions["line"] >= 0)
        chosen[bid] = of_lines[recording.auctions["line"][bid]]
    for name in names if not campaign_id else [each for each in names if each == campaign_id]:
        mine = (campaign_of == number[name]) & np.isin(chosen[owner], (-1, number[name]))
        if mine.any():
            yield from _days(recording, prices, name, owner[mine], candidates[mine])


def _days(recording: Recording, prices: Prices, name: str, owner: Int64, candidates: Any) -> Iterator[Chances]:
    rows, first_of = np.unique(owner, return_index=True)
    best = _best(recording, owner, candidates, first_of)
    last_board = recording.boards[int(recording.auctions["board"][rows[-1]])]
    campaign = next(each for each in last_board.campaigns if each.campaign_id == name)
    days = local_days(recording.auctions["time_ms"][rows], campaign.time_zone)
    for day in np.unique(days).tolist():
        inside = np.flatnonzero(days == day)
        of_day = np.isin(owner, rows[inside])
        yield _chances(recording, prices, (campaign, day), rows[inside], candidates[best[inside]], candidates[of_day])


def _best(recording: Recording, owner: Int64, candidates: Any, first_of: Int64) -> Int64:
    """Of each auction the candidate that was bid for, else the one with the highest value and premium."""
    auctions = recording.auctions[owner]
    pull = _pull(candidates)
    pull[auctions["line"] == candidates["line"]] = np.inf
    order = np.lexsort((np.arange(len(owner)), -pull, owner))
    result: Int64 = order[first_of]
    return result


def _pull(candidates: Any) -> Float64:
    result: Float64 = (candidates["value_cpm"] + candidates["premium_cpm"]).astype(np.float64)
    return result


def _chances(
    recording: Recording, prices: Prices, what: tuple[Any, str], rows: Int64, best: Any, every: Any
) -> Chances:
    campaign, day = what
    auctions, outcomes = recording.auctions[rows], recording.outcomes
    won = outcomes.won[rows]
    first = auctions["first_price"] == 1
    paid = np.where(outcomes.price_cpm[rows] >= 0, outcomes.price_cpm[rows], np.nan).astype(np.float64)
    paid = np.where(won & first & np.isnan(paid), auctions["bid_cpm"], paid)
    caps = np.zeros(len(rows))
    for place, board in enumerate(recording.boards):
        inside = auctions["board"] == place
        caps[inside] = board.max_bid_cpm[best["line"][inside]]
    spent = float(np.nansum(paid[won])) / 1000.0
    budget, line_budgets = _budgets(campaign, day, spent, recording, every)
    return Chances(
        campaign_id=campaign.campaign_id,
        day=day,
        currency=campaign.currency,
        value=best["value_cpm"].astype(np.float64),
        pull=_pull(best),
        cap=caps,
        floor=auctions["floor_cpm"].astype(np.float64),
        paid=paid,
        probability=best["probability"].astype(np.float64),
        weight=auctions["weight"].astype(np.float64),
        line=best["line"].astype(np.int64),
        first=first,
        won=won,
        stopped=np.isin(auctions["reason"], STOPS),
        prices=prices.of(rows),
        budget=budget,
        line_budgets=line_budgets,
    )


def _budgets(campaign: Any, day: str, spent: float, recording: Recording, every: Any) -> tuple[float, dict[int, float]]:
    """What the campaign, and those of its line items that have limits, might have spent on a day, micros."""
    room = float(every["affordable_cpm"].max()) / 1000.0
    seen = room + spent if room < UNLIMITED_MICROS else np.inf
    daily = limit_of(campaign.limits, "daily_micros")
    budget = min(seen, float(daily) if daily >= 0 else np.inf)
    if daily < 0 and campaign.flight_end_ms and campaign.pacing_plan != campaigns_pb2.PACING_PLAN_ASAP:
        budget /= _days_left(campaign, day)
    line_budgets = {}
    board = next(each for each in reversed(recording.boards) if any(other is campaign for other in each.campaigns))
    for number, (owner, line) in enumerate(board.lines):
        limit = limit_of(line.limits, "daily_micros")
        if owner is campaign and limit >= 0:
            line_budgets[number] = float(limit)
    return max(budget, spent), line_budgets


def _days_left(campaign: Any, day: str) -> int:
    """Local days from this one on until the flight ends, this one included."""
    end = dt.datetime.fromtimestamp((campaign.flight_end_ms - 1) / 1000, ZoneInfo(campaign.time_zone)).date()
    return max((end - dt.date.fromisoformat(day)).days + 1, 1)


def local_days(time_ms: Int64, time_zone: str) -> Any:
    """The local date of each time, as ISO text; offsets change only at quarters of an hour."""
    zone = ZoneInfo(time_zone)
    quarters, place = np.unique(time_ms // _QUARTER_MS, return_inverse=True)
    days = [
        dt.datetime.fromtimestamp(quarter * _QUARTER_MS / 1000, zone).date().isoformat()
        for quarter in quarters.tolist()
    ]
    return np.array(days)[place]
