"""The drawn market: shapes, shocks, outages and competitors, held against plain loops."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from headrace.simulate.competitors import _until_broke, best_bids
from headrace.simulate.market import HOUR_MS, draw_auctions
from headrace.simulate.scenario import Competitor


def hours_of(plan, auctions):
    return (auctions.time_ms - plan.scenario.start_ms) / HOUR_MS


def test_requests_follow_the_hours_and_the_swing(small):
    def change(values):
        values["days"] = 1
        values["traffic"] |= {"requests_per_day": 100_000, "hours": [1] * 12 + [3] * 12}
        values["traffic"]["swings"] = [{"at_hour": 6, "hours": 2, "factor": 5}]

    plan = small.plan(change)
    counts = np.histogram(hours_of(plan, draw_auctions(plan)), np.arange(25))[0]
    each = 100_000 / 48
    expected = np.array([each] * 6 + [5 * each] * 2 + [each] * 4 + [3 * each] * 12)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected.max())


def test_weekdays_and_a_start_in_the_middle_of_the_week(small):
    def change(values):
        values |= {"days": 7, "start": "2025-03-06T12:00:00Z"}
        values["campaigns"][0]["flight_end_ms"] = 0
        values["traffic"] |= {"requests_per_day": 20_000, "weekdays": [1, 1, 1, 1, 1, 0, 0]}

    plan = small.plan(change)
    days = (draw_auctions(plan).time_ms // 86_400_000 - 4) % 7
    assert set(days.tolist()) == {0, 1, 2, 3, 4}
    assert len(days) == pytest.approx(140_000, rel=0.02)


def test_shocks_double_prices_and_outages_silence_one_exchange(small):
    def change(values):
        other = {**values["exchanges"][0], "name": "other", "floor_cpm_micros": 0}
        values["exchanges"][0]["floor_cpm_micros"] = 0
        values["exchanges"].append(other)
        values["traffic"]["requests_per_day"] = 100_000
        values["shocks"] = [{"at_hour": 2, "hours": 2, "factor": 2, "exchange": "other"}]
        values["outages"] = [{"at_hour": 5, "hours": 0.5, "kind": "exchange", "exchange": "open"}]

    plan = small.plan(change)
    auctions = draw_auctions(plan)
    hours = hours_of(plan, auctions)
    before, during = hours < 2, (hours >= 2) & (hours < 4)
    medians = [
        [np.median(auctions.price_cpm[part & (auctions.exchange == row)]) for part in (before, during)]
        for row in range(2)
    ]
    assert medians[0][1] == pytest.approx(medians[0][0], rel=0.05)
    assert medians[1][1] == pytest.approx(2 * medians[1][0], rel=0.05)
    silent = (hours >= 5) & (hours < 5.5)
    assert not (silent & (auctions.exchange == 0)).any()
    assert (silent & (auctions.exchange == 1)).any()


def test_a_server_outage_leaves_requests_unanswered(small):
    plan = small.plan(lambda values: values.update(outages=[{"at_hour": 3, "hours": 1, "kind": "server"}]))
    auctions = draw_auctions(plan)
    hours = hours_of(plan, auctions)
    assert np.array_equal(auctions.answered, ~((hours >= 3) & (hours < 4)))


def test_floors_and_fees_bound_the_winning_bid(small):
    def change(values):
        values["exchanges"][0] |= {"fee": 0.2, "floor_cpm_micros": 4_000_000}

    dear, plain = draw_auctions(small.plan(change)), draw_auctions(small.plan())
    assert dear.price_cpm.min() == 5_000_000
    high = plain.price_cpm > 4_000_000
    assert np.abs(dear.price_cpm[high] * 0.8 - plain.price_cpm[high]).max() <= 1.0


def test_the_same_seed_is_the_same_market_on_any_thread(small):
    plan = small.plan()
    found = []
    threads = [threading.Thread(target=lambda: found.append(draw_auctions(plan))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in ("time_ms", "price_cpm", "probability", "exchange"):
        for other in found[1:]:
            assert np.array_equal(getattr(found[0], name), getattr(other, name))
    elsewhere = draw_auctions(small.plan(lambda values: values.update(seed=4)))
    assert len(elsewhere.time_ms) != len(found[0].time_ms) or (elsewhere.time_ms != found[0].time_ms).any()


def test_values_have_the_mean_that_was_asked_for(small):
    plan = small.plan(lambda values: values["traffic"].update(requests_per_day=200_000))
    assert draw_auctions(plan).probability.mean() == pytest.approx(0.0006, rel=0.01)


def test_many_bidders_are_their_highest():
    """One uniform number a group stands for all of its bidders: the same distribution as drawing each."""
    n = 200_000
    group = Competitor(kind="truthful", median_cpm_micros=1_000_000, sigma=0.5, bidders=3, present=0.6)
    zeros = np.zeros(n, np.int64)
    found = best_bids(np.random.default_rng(1), [group], zeros, zeros, np.ones(n), first_price=False)
    rng = np.random.default_rng(2)
    each = np.where(rng.random((n, 3)) < 0.6, 1e6 * np.exp(0.5 * rng.standard_normal((n, 3))), 0.0).max(axis=1)
    assert (found == 0.0).mean() == pytest.approx(0.4**3, abs=0.002)
    levels = [0.1, 0.3, 0.5, 0.8, 0.95]
    assert np.quantile(found, levels) == pytest.approx(np.quantile(each, levels), rel=0.02)


def test_shading_and_seasons_scale_the_bids():
    n = 1000
    hour = np.arange(n, dtype=np.int64) % 24
    zeros = np.zeros(n, np.int64)
    plain = Competitor(kind="truthful", median_cpm_micros=1_000_000, sigma=0.5)
    half = Competitor(kind="shading", median_cpm_micros=1_000_000, sigma=0.5, shade=0.5, hours=[1.0] * 12 + [2.0] * 12)
    bids = [
        best_bids(np.random.default_rng(1), [kind], hour, zeros, np.ones(n), first_price=True) for kind in (plain, half)
    ]
    assert bids[1] == pytest.approx(bids[0] * np.where(hour < 12, 0.5, 1.0))


def naive(others, bids, budgets, first_price):
    """One auction after the other."""
    left, best = budgets.copy(), []
    for column in range(bids.shape[1]):
        here = [bid if money > 0.0 else 0.0 for bid, money in zip(bids[:, column], left, strict=True)]
        field = [others[column], *here]
        best.append(max(field))
        winner = int(np.argmax(field))
        if winner:
            left[winner - 1] -= best[-1] if first_price else sorted(field)[-2]
    return np.array(best)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("first_price", [False, True])
def test_budgeted_competitors_leave_when_their_money_is_gone(seed, first_price):
    rng = np.random.default_rng(seed)
    others, bids = rng.lognormal(size=300), rng.lognormal(0.3, 1.0, size=(3, 300))
    budgets = np.array([20.0, 60.0, 1e9])
    found = _until_broke(others, bids, budgets, first_price)
    assert found == pytest.approx(naive(others, bids, budgets, first_price))
    assert (found < np.maximum(others, bids.max(axis=0))).any()
