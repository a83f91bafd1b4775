"""Hours of the week: which ones a targeting names, when bids are made, and what goals and plans become on the board."""

from __future__ import annotations

import datetime as dt

import pytest

from headrace.bidding.validation import ALL_WEEK, week_bits
from headrace.v1 import campaigns_pb2 as pb

HOUR_MS = 3_600_000


def part(start, end, *weekdays):
    return pb.Daypart(weekdays=weekdays, start_hour=start, end_hour=end)


def hours_of(**targeting):
    bits = week_bits(pb.Targeting(**targeting))
    return [hour for hour in range(168) if bits >> hour & 1]


def test_hours_of_the_week():
    assert week_bits(pb.Targeting()) == ALL_WEEK
    assert hours_of(hours=[3, 3]) == [24 * day + 3 for day in range(7)]
    assert hours_of(dayparts=[part(8, 10, 1), part(22, 24, 7)]) == [8, 9, 166, 167]
    assert hours_of(dayparts=[part(0, 1)]) == [24 * day for day in range(7)]
    assert hours_of(hours=[8, 12], dayparts=[part(8, 10, 1, 2)]) == [8, 32]


def test_bids_are_made_in_the_dayparts_of_the_campaigns_zone(path, make):
    targeting = {"dayparts": [part(9, 11, 2)]}  # Tuesdays
    path.create(time_zone="America/New_York", lines=[make.line_item(targeting=targeting)])
    bid_at = []
    for hour in range(24 * 7):
        path.now_ms = make.noon_ms + hour * HOUR_MS
        if path.bid_one(time_ms=path.now_ms).token:
            bid_at.append(dt.datetime.fromtimestamp(path.now_ms / 1000, dt.UTC))
    assert [(moment.isoweekday(), moment.hour) for moment in bid_at] == [(2, 14), (2, 15)]


def test_goals_promises_and_plans_on_the_board(path, make):
    lines = [
        make.line_item("a", action_worth_micros=0),
        make.line_item("b", action_worth_micros=0, goals=pb.Goals(target_cpa_micros=7)),
        make.line_item(
            "c", goals=pb.Goals(target_roas=4.0), guarantee=pb.Guarantee(daily_impressions=5, penalty_cpm_micros=9)
        ),
    ]
    path.create(lines=lines, goals=pb.Goals(target_cpa_micros=3), pacing_plan=pb.PACING_PLAN_AHEAD, ahead_share=0.75)
    board = path.campaigns.board
    assert board.worth_micros.tolist() == [3, 7, 10_000_000]
    assert board.aims.any.tolist() == [False, True, True]
    assert board.campaign_aims.any.tolist() == [True]
    assert board.promises.impressions.tolist() == [[0, 0, 5], [0, 0, 0]]
    assert board.promises.penalty_cpm.tolist() == [0, 0, 9]
    assert board.nodes.curve.tolist() == pytest.approx([2.0] * 4)  # 1 - (1 - 0.5) ** 2 = 0.75
