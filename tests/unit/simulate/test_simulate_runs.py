"""Whole runs of small scenarios: budgets kept, books equal, the same numbers again."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headrace.bidding.requests import NO_MATCH
from headrace.simulate.limits import Limits
from headrace.simulate.matching import fitting
from headrace.simulate.report import write_report


def check_money(done, *, held=True):
    ledger = done.summary["ledger"]
    assert done.summary["overspend_micros"] == 0
    assert ledger["books_equal"], ledger["wrong_accounts"]
    assert ledger["unbilled_is_held"] or not held
    assert ledger["disputed_micros"] == 0


def test_a_small_day_is_delivered_and_its_books_are_the_exchanges(small):
    done = small.run()
    campaign = done.summary["campaigns"][0]
    check_money(done)
    assert campaign["feasible"]
    assert campaign["delivered"] >= 0.97
    assert campaign["share_of_optimum"] >= 0.9
    assert done.summary["ledger"]["unbilled_micros"] == 0
    again = small.run()
    assert json.dumps(again.summary) == json.dumps(done.summary)
    assert np.array_equal(again.run.record.bid_cpm, done.run.record.bid_cpm)
    other = small.run(lambda values: values.update(seed=4))
    assert other.summary["campaigns"][0]["value_micros"] != campaign["value_micros"]


def test_a_market_with_more_money_than_goods_is_bought_empty(small):
    def change(values):
        values["traffic"]["requests_per_day"] = 2_000
        values["campaigns"][0]["limits"] = {"daily_micros": 10**10}

    campaign = small.run(change).summary["campaigns"][0]
    assert not campaign["feasible"]
    assert campaign["delivered"] == pytest.approx(1.0)
    assert campaign["share_of_optimum"] == pytest.approx(1.0)
    assert campaign["share_of_surplus"] == pytest.approx(1.0)


def rough(values):
    """First price, and notices that come late, twice or never."""
    values["exchanges"][0] |= {
        "auction": "first_price",
        "fee": 0.1,
        "notices": {
            "delay_ms": 5_000,
            "billing_delay_ms": 600_000,
            "wins_lost": 0.1,
            "bills_lost": 0.1,
            "losses_lost": 0.01,
            "twice": 0.2,
            "minimum_to_win": True,
        },
    }
    values["outages"] = [
        {"at_hour": 2, "hours": 0.5, "kind": "server"},
        {"at_hour": 3, "hours": 0.25, "kind": "notices", "exchange": "open"},
    ]
    values["edits"] = [
        {"at_hour": 4, "campaign_id": "spring", "lifetime_micros": 600_000},
        {"at_hour": 5.5, "campaign_id": "spring", "paused": True},
    ]


@pytest.mark.parametrize("seed", range(2))
def test_late_lost_and_double_notices_a_restart_and_a_cut_leave_the_books_right(small, seed):
    done = small.run(lambda values: rough(values) or values.update(seed=seed))
    check_money(done)
    notices, ledger = done.summary["notices"], done.summary["ledger"]
    assert notices["lost"] > 0
    assert notices["duplicate"] > 0
    assert ledger["unbilled_micros"] > 0
    assert done.summary["unanswered"] > 50
    explored = done.summary["exploration"]
    assert 0 < explored["bids"] < 0.05 * done.summary["bids"]
    assert explored["wins"] <= explored["bids"]
    assert explored["given_up_micros"] > 0
    hours = (done.run.auctions.time_ms - done.run.plan.scenario.start_ms) / 3_600_000
    bids = done.run.record.line >= 0
    assert not (bids & (hours >= 2) & (hours < 2.5)).any()
    assert (bids & (hours >= 2.5) & (hours < 4)).any()
    assert not (bids & (hours >= 5.5)).any()


def test_expired_reservations_whose_bills_come_after_all_are_late(small):
    def change(values):
        values["exchanges"][0]["notices"] = {"wins_lost": 1.0, "billing_delay_ms": 4 * 3_600_000}
        values["traffic"]["requests_per_day"] = 3_000
        values["campaigns"][0]["ledger_mode"] = "LEDGER_MODE_EXPIRE"

    done = small.run(change)
    assert done.summary["notices"]["late"] > 0
    assert done.summary["ledger"]["late_micros"] > 0
    assert done.summary["ledger"]["books_equal"]


def test_a_server_that_is_down_to_the_end_settles_what_comes_afterwards(small):
    def change(values):
        values["traffic"]["requests_per_day"] = 2_000
        values["exchanges"][0]["notices"] = {"billing_delay_ms": 7_200_000}
        values["outages"] = [{"at_hour": 5, "hours": 5, "kind": "server"}]

    done = small.run(change)
    check_money(done)
    assert done.summary["ledger"]["unbilled_micros"] == 0


def test_the_books_are_found_wrong_when_they_are(small):
    from headrace.simulate.money import reckon

    done = small.run(lambda values: values["traffic"].update(requests_per_day=1_000))
    lease = next(iter(done.run.record.billed))
    done.run.record.billed[lease] += 1_000
    assert reckon(done.run).wrong == ["acme", "acme/spring", "acme/spring/shoes"]


def test_overspend_is_found_when_there_is_one(small):
    done = small.run(lambda values: values["traffic"].update(requests_per_day=1_000))
    done.run.record.paid_cpm[done.run.record.won] *= 100
    from headrace.simulate.outcome import outcomes

    assert outcomes(done.run)[0].overspend > 0


def test_targeting_is_worked_out_as_the_engine_does(small):
    def change(values):
        values["exchanges"][0] |= {"countries": {"DE": 1, "FR": 1}, "categories": {"shoes": 1, "hats": 2}}
        second = {**values["exchanges"][0], "name": "other", "countries": {"FR": 1}, "categories": {}}
        values["exchanges"].append(second)
        values["campaigns"][0] |= {
            "time_zone": "America/New_York",
            "limits": {"daily_micros": 10**9},
            "flight_end_ms": 0,
        }
        values["campaigns"][0]["line_items"][0]["targeting"] = {
            "countries": ["DE"],
            "categories": ["shoes", "coats"],
            "hours": [20, 22, 23],
            "dayparts": [{"weekdays": [7], "start_hour": 21, "end_hour": 24}, {"start_hour": 20, "end_hour": 21}],
        }

    done = small.run(change)
    fits = fitting(done.run.plan, done.run.auctions)[:, 0]
    assert 50 < fits.sum() < 1000
    assert np.array_equal(done.run.record.reason == NO_MATCH, ~fits)


def test_several_days_and_lifetime_budgets(small):
    def change(values):
        values |= {"days": 0.5, "start": "2025-03-03T18:00:00Z"}
        values["traffic"]["requests_per_day"] = 5_000
        values["campaigns"][0]["limits"] = {"daily_micros": 200_000, "lifetime_micros": 300_000}
        values["campaigns"][0]["flight_end_ms"] += 86_400_000
        values["edits"] = [{"at_hour": 9, "campaign_id": "spring", "lifetime_micros": 350_000}]

    done = small.run(change)
    check_money(done)
    campaign = done.summary["campaigns"][0]
    assert campaign["budget_micros"] == 350_000
    assert 0.75 <= campaign["delivered"] < 1.0  # its flight goes on
    limits = Limits.of(done.run.plan, 0, np.zeros(0, np.int64), np.zeros(0))
    assert [step[1:] for step in limits.steps] == [(200_000.0, 300_000.0), (200_000.0, 350_000.0)]


def test_after_a_cut_below_what_is_spent_that_is_the_limit(small):
    def change(values):
        values["campaigns"][0]["limits"] = {"daily_micros": 500}
        values["edits"] = [
            {"at_hour": 2, "campaign_id": "spring", "daily_micros": 100},
            {"at_hour": 4, "campaign_id": "spring", "daily_micros": 700, "lifetime_micros": 10_000},
        ]

    plan = small.plan(change)
    hour = 3_600_000
    moments = plan.scenario.start_ms + hour * np.array([1, 3])
    kept = Limits.of(plan, 0, moments, np.array([300.0, 0.0]))
    assert (kept.overspend(), kept.budget, kept.whole) == (0.0, 700.0, 10_000.0)
    assert Limits.of(plan, 0, moments, np.array([300.0, 5.0])).overspend() == 5.0
    assert Limits.of(plan, 0, moments, np.array([501.0, 0.0])).overspend() == 1.0
    cut = small.plan(lambda values: change(values) or values["edits"].pop())
    assert Limits.of(cut, 0, moments, np.array([300.0, 0.0])).budget == 300.0


def test_a_day_without_an_answer(tmp_path, small):
    def change(values):
        values["outages"] = [{"at_hour": 0, "hours": 6, "kind": "server"}]
        rich = {"kind": "budgeted", "median_cpm_micros": 1_000_000, "sigma": 1, "daily_budget_micros": 5}
        values["exchanges"][0]["competitors"].append(rich)

    done = small.run(change)
    check_money(done)
    assert done.summary["unanswered"] == done.summary["auctions"] > 0
    campaign = done.summary["campaigns"][0]
    assert (campaign["spent_micros"], campaign["share_of_optimum"]) == (0.0, None)
    assert (campaign["win_rate"], campaign["largest_deviation"]) == (None, None)
    write_report(tmp_path / "empty.html", done.run, done.results, done.summary)
    assert "Campaign spring" in (tmp_path / "empty.html").read_text()
