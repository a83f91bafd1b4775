"""Goals, promised impressions and plans ahead in the simulated market, with the real engine and ledger."""

from __future__ import annotations

import numpy as np
import pytest

HOURS = 12
REQUESTS = 12_000


def a_day(line=None, **campaign):
    """A change of the small scenario: the day from noon on, and fields of its line item and campaign."""

    def change(values):
        values["days"], values["start"] = HOURS / 24, "2025-03-03T12:00:00Z"
        values["traffic"]["requests_per_day"] = REQUESTS * 24 // HOURS
        owner = values["campaigns"][0]
        del owner["limits"], owner["flight_end_ms"]
        owner |= campaign
        owner["line_items"][0] |= line or {}

    return change


def won_by_hour(ran):
    record, auctions = ran.run.record, ran.run.auctions
    hours = (auctions.time_ms - auctions.time_ms.min()) // 3_600_000
    return np.bincount(hours[record.won], minlength=HOURS)[:HOURS]


def spent_by_hour(ran):
    record, auctions = ran.run.record, ran.run.auctions
    hours = (auctions.time_ms - auctions.time_ms.min()) // 3_600_000
    return np.bincount(hours, record.paid_cpm / 1000, HOURS)[:HOURS]


def test_a_plan_ahead_spends_its_share_by_half_of_the_traffic(small):
    budget = 3_000_000
    ran = small.run(
        a_day(limits={"daily_micros": budget}, pacing_plan="PACING_PLAN_AHEAD", ahead_share=0.75),
    )
    spent = np.cumsum(spent_by_hour(ran)) / budget
    assert spent[HOURS // 2 - 1] == pytest.approx(0.75, abs=0.03)
    assert spent[-1] > 0.98
    assert ran.summary["campaigns"][0]["largest_deviation"] < 0.035


@pytest.mark.parametrize("worth", [0, 8_000_000])
def test_promised_impressions_are_won_in_step_with_traffic(small, worth):
    promised = 3_000
    guarantee = {"daily_impressions": promised, "penalty_cpm_micros": 20_000_000}
    won = won_by_hour(small.run(a_day({"guarantee": guarantee, "action_worth_micros": worth})))
    if worth:  # worth bidding for anyway
        assert won.sum() >= promised
    else:
        assert promised <= won.sum() <= 1.01 * promised
        assert won[: HOURS // 2].sum() == pytest.approx(promised / 2, rel=0.06)


def test_no_bid_passes_value_by_more_than_the_penalty(small):
    guarantee = {"daily_impressions": 10_000, "penalty_cpm_micros": 2_000_000}
    ran = small.run(a_day({"guarantee": guarantee, "action_worth_micros": 0}))
    assert ran.summary["campaigns"][0]["promised_daily_impressions"] == 10_000
    assert ran.run.record.bid_cpm.max() <= 2_000_000
    assert 0 < won_by_hour(ran).sum() < 10_000


def test_limits_go_before_promises(small):
    guarantee = {"daily_impressions": 10_000, "penalty_cpm_micros": 20_000_000}
    ran = small.run(
        a_day({"guarantee": guarantee, "action_worth_micros": 0}, limits={"daily_micros": 2_500_000}),
    )
    spent = spent_by_hour(ran)
    assert 0.97 * 2_500_000 <= spent.sum() <= 2_500_000
    assert spent[: HOURS // 2].sum() == pytest.approx(1_250_000, rel=0.1)


@pytest.mark.parametrize("goals", [{"target_cpa_micros": 3_500_000}, {"target_roas": 2.2}])
@pytest.mark.parametrize("on", ["line item", "campaign"])
def test_goals_are_kept_and_used(small, goals, on):
    ran = small.run(a_day({"goals": goals}) if on == "line item" else a_day(goals=goals))
    (campaign,) = ran.summary["campaigns"]
    assert campaign["goal_overrun"] <= 0.03
    assert campaign["share_of_optimum"] >= 0.95
