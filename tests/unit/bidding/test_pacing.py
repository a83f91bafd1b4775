"""Simulated days: budgets are delivered, kept, and spent in step with the plan, whatever traffic does."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from headrace.bidding.pacing.traffic import Traffic, local_day, smooth_profile
from headrace.bidding.predict import Strangers
from headrace.bidding.settings import BiddingConfig
from headrace.bidding.validation import ALL_WEEK, week_bits
from headrace.events.store import Store
from headrace.kernels.predict import Persons
from headrace.ledger.ledger import Ledger
from headrace.v1 import bidder_pb2, campaigns_pb2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FULL_MICROS = 4_000 * 1_200
"""About what winning every one of a day's 1,200 impressions would cost."""
# A solution for a few auctions, as where there is traffic, not one for each.
CONFIG = BiddingConfig(explore_share=0.0, solve_every_ms=120_000)


class Crowd:
    """Strangers with factors of all sorts, so that impressions differ in value."""

    def __init__(self, n_factors, seed):
        self._rng = np.random.default_rng(seed)
        self._strangers = Strangers(n_factors)

    def read(self, names, now_ms) -> Persons:
        persons = self._strangers.read(names, now_ms)
        persons.embeddings[:] = 1.2 * self._rng.normal(size=persons.embeddings.shape)
        return persons


@pytest.fixture(scope="module")
def simulate(tmp_path_factory, factories, make):
    """Run UTC days against log-normal market prices; returns spend and its gaps to the plan, shares of the budget."""

    def run(
        budget, shape=lambda hour: 1.0, *, days=1, edits=(), ledger=None, first_price=False, landscape=1.0, **fields
    ):
        artifact = with_landscape(factories.make_artifact(), landscape)
        folder = tmp_path_factory.mktemp("path")
        path = make.path(folder, artifact, ledger or make.ledger(), CONFIG, people=Crowd(8, 1))
        start = make.noon_ms - 12 * HOUR_MS
        path.now_ms = start
        path.fund(amount_micros=10**12)
        fields = {"pacing_plan": campaigns_pb2.PACING_PLAN_EVEN} | fields

        def campaign(daily):
            return make.campaign(**({"limits": campaigns_pb2.Limits(daily_micros=daily)} | fields))

        path.campaigns.create(campaign(budget), "tester")
        rng = np.random.default_rng(0)
        waiting = sorted(edits)
        outcome = SimpleNamespace(spent_by_day=[0] * days, gaps=[], path=path, spent=0)
        for now_ms in arrivals(rng, shape, days):
            while waiting and now_ms >= waiting[0][0] * HOUR_MS:
                path.campaigns.update(campaign(waiting.pop(0)[1]), "tester")
            path.now_ms = start + now_ms
            paid = auction(path, rng, first_price)
            outcome.spent += paid
            outcome.spent_by_day[now_ms // DAY_MS] += paid
            outcome.gaps.append((outcome.spent - path.engine.planned_micros("spring")) / budget)
        path.close()
        return outcome

    return run


def with_landscape(artifact, scale):
    """Prices that are known, and traffic that was about the same at all hours of the days before."""
    edges = np.unique(np.geomspace(1e5, 1e9, 65).astype(np.int64))
    prices = scale * market_price(np.random.default_rng(9), 20_000)
    return dataclasses.replace(
        artifact,
        landscape_edges_cpm=edges,
        landscape_counts=np.tile(np.histogram(prices, edges)[0].astype(float), (2, 1)),
        traffic_profile=np.random.default_rng(4).poisson(10_000, 168) / (168 * 10_000),
    )


def market_price(rng, n=None):
    return 4e6 * np.exp(0.6 * rng.standard_normal(n))


def arrivals(rng, shape, days):
    weights = np.array([shape(minute / 60 % 24) for minute in range(24 * 60 * days)], float)
    counts = rng.poisson(weights * 1_200 * days / weights.sum())
    minutes = np.repeat(np.arange(len(counts)), counts)
    return np.sort(minutes * 60_000 + rng.integers(0, 60_000, len(minutes))).tolist()


def auction(path, rng, first_price):
    """One impression, settled at once; returns what it cost."""
    price = int(market_price(rng))
    bid = path.bid_one(time_ms=path.now_ms, auction_type=1 if first_price else 2)
    if not bid.token:
        return 0
    if bid.bid_cpm_micros < price:
        path.notify(bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token=bid.token))
        return 0
    paid = bid.bid_cpm_micros if first_price else price
    path.notify(bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_BILLING, token=bid.token, price_cpm_micros=paid))
    return -(-paid // 1000)


SHAPES = {
    "flat": lambda hour: 1.0,
    "five times between 12 and 14": lambda hour: 5.0 if 12 <= hour < 14 else 1.0,
    "five times every other two hours": lambda hour: 5.0 if hour % 4 < 2 else 1.0,
    "a fifth after noon": lambda hour: 5.0 if hour < 12 else 1.0,
    "five times after noon": lambda hour: 1.0 if hour < 12 else 5.0,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_a_day_is_delivered_in_step_with_the_plan(simulate, shape, share):
    budget = int(share * FULL_MICROS)
    outcome = simulate(budget, SHAPES[shape])
    assert 0.95 * budget <= outcome.spent <= budget
    assert np.abs(outcome.gaps).max() < 0.25


def test_a_cut_paces_on_from_what_is_left_without_a_black_out(simulate):
    budget = int(0.3 * FULL_MICROS)
    outcome = simulate(budget, edits=[(10, int(0.6 * budget))])
    assert 0.95 * 0.6 * budget <= outcome.spent <= 0.6 * budget
    assert np.abs(outcome.gaps).max() < 0.25


def test_a_cut_below_the_spend_stops_and_the_next_day_begins_anew(simulate):
    budget = int(0.3 * FULL_MICROS)
    outcome = simulate(budget, days=2, edits=[(12, budget // 10)])
    assert 0.4 * budget <= outcome.spent_by_day[0] <= 0.65 * budget
    assert 0.9 * budget // 10 <= outcome.spent_by_day[1] <= budget // 10


def test_a_raise_is_used(simulate):
    budget = int(0.1 * FULL_MICROS)
    outcome = simulate(budget, edits=[(10, 2 * budget)])
    assert 0.95 * 2 * budget <= outcome.spent <= 2 * budget


def test_first_price_auctions(simulate):
    budget = int(0.2 * FULL_MICROS)
    outcome = simulate(budget, first_price=True)
    assert 0.95 * budget <= outcome.spent <= budget


@pytest.mark.parametrize("landscape", [0.25, 4.0])
def test_a_landscape_that_is_off_by_four_is_corrected_by_real_costs(simulate, landscape):
    budget = int(0.2 * FULL_MICROS)
    outcome = simulate(budget, landscape=landscape)
    assert 0.95 * budget <= outcome.spent <= budget
    assert np.abs(outcome.gaps).max() < 0.35


def test_a_lifetime_budget_lasts_its_flight(simulate, make):
    start = make.noon_ms - 12 * HOUR_MS
    budget = int(0.4 * FULL_MICROS)
    outcome = simulate(
        budget, days=2, limits=campaigns_pb2.Limits(lifetime_micros=budget), flight_end_ms=start + 2 * DAY_MS
    )
    assert 0.95 * budget <= outcome.spent <= budget
    assert 0.35 * budget <= outcome.spent_by_day[0] <= 0.65 * budget


def test_targeted_hours_get_the_whole_day_s_budget(simulate, make):
    budget = int(0.1 * FULL_MICROS)
    outcome = simulate(budget, lines=[make.line_item(targeting={"hours": list(range(9, 17))})])
    assert 0.95 * budget <= outcome.spent <= budget
    assert np.abs(outcome.gaps).max() < 0.25


def test_line_items_share_their_campaigns_budget(simulate, make):
    budget = int(0.2 * FULL_MICROS)
    lines = [make.line_item(f"l{n}", item_ids=[f"i{n}"]) for n in range(3)]
    outcome = simulate(budget, lines=lines)
    assert 0.95 * budget <= outcome.spent <= budget
    assert np.abs(outcome.gaps).max() < 0.25


def test_as_fast_as_possible_does_not_wait(simulate):
    budget = int(0.1 * FULL_MICROS)
    outcome = simulate(budget, pacing_plan=campaigns_pb2.PACING_PLAN_ASAP)
    assert 0.95 * budget <= outcome.spent <= budget
    assert outcome.path.engine.planned_micros("spring") == budget


@pytest.fixture(scope="module")
def usual(simulate):
    """A day with nothing special."""
    return simulate(int(0.2 * FULL_MICROS))


def test_the_real_ledger_paces_the_same(simulate, usual, tmp_path, make):
    budget = int(0.2 * FULL_MICROS)
    store = Store(tmp_path / "ledger" / "money.db")
    ledger = Ledger(tmp_path / "ledger", store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    with_real = simulate(budget, ledger=ledger)
    ledger.check_invariant()
    ledger.close()
    store.close()
    assert 0.95 * budget <= with_real.spent <= budget
    assert with_real.spent == pytest.approx(usual.spent, rel=0.03)


def test_a_replay_paces_the_same_to_the_micro(simulate, usual):
    again = simulate(int(0.2 * FULL_MICROS))
    assert usual.gaps == again.gaps


def test_no_plan_before_the_first_request(path):
    path.create(limits=campaigns_pb2.Limits(daily_micros=10**6), pacing_plan=campaigns_pb2.PACING_PLAN_EVEN)
    assert path.engine.planned_micros("spring") == 0
    assert path.engine.planned_micros("unknown") == 0
    assert path.engine.multiplier("unknown") == 0.0


def test_a_profile_says_how_much_of_the_week_is_left(path):
    from zoneinfo import ZoneInfo

    profile = np.zeros(168)
    profile[0] = 1.0
    quarters = smooth_profile(profile)
    assert quarters.sum() == pytest.approx(1.0)
    assert quarters.min() > 0
    assert smooth_profile(np.zeros(168)).tolist() == pytest.approx([1 / 672] * 672)
    monday = 4 * DAY_MS
    zones = [ZoneInfo("UTC"), ZoneInfo("Asia/Kolkata")]
    night = week_bits(campaigns_pb2.Targeting(hours=range(6)))
    nodes = SimpleNamespace(zone=np.array([0, 0, 1], np.int32), week=np.array([0, 1, 1], np.int32))
    board = SimpleNamespace(nodes=nodes, zones=zones, weeks=[ALL_WEEK, night])
    traffic = Traffic(np.ones(168), board, monday)
    times = np.full(3, monday)
    assert traffic.between(times, times + 7 * DAY_MS).tolist() == pytest.approx([1.0, 0.25, 0.25])
    assert traffic.between(times, times + HOUR_MS).tolist() == pytest.approx([1 / 168, 1 / 168, 0.5 / 168])
    assert traffic.between(times + HOUR_MS, times).tolist() == [0.0, 0.0, 0.0]


def test_days_of_23_and_25_hours():
    from zoneinfo import ZoneInfo

    berlin = ZoneInfo("Europe/Berlin")
    spring, autumn = 1_711_843_200_000, 1_729_987_200_000  # 2024-03-31 and 2024-10-27, 00:00 UTC
    assert np.diff(local_day(berlin, spring)) == [23 * HOUR_MS]
    assert np.diff(local_day(berlin, autumn)) == [25 * HOUR_MS]
