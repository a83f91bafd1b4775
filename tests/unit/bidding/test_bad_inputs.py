"""What exchanges, clocks, models and operators may do wrong to the bidder, one test each."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from headrace.bidding.predict import BidModel
from headrace.bidding.pricing.price import make_market
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
WORTH = 160_000
"""Micros a purchase, so that impressions are worth 2.5 CPM units, that is 2,500 micros each."""
EVEN = campaigns_pb2.PACING_PLAN_EVEN
FIRST = pb.AUCTION_TYPE_FIRST_PRICE
WIN, BILLING, LOSS = pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_BILLING, pb.NOTICE_TYPE_LOSS


@pytest.fixture
def real(tmp_path, factories, make):
    """A path on a ledger of its own, whose clock is the path's; acme is funded."""
    store = Store(tmp_path / "ledger" / "money.db")
    paths = []
    ledger = Ledger(tmp_path / "ledger", store, clock_ms=lambda: paths[0].now_ms if paths else make.noon_ms)
    assert ledger.try_acquire()
    path = make.path(tmp_path, factories.make_artifact(), ledger)
    paths.append(path)
    path.fund(amount_micros=10**12)
    yield path
    ledger.check_invariant()
    ledger.close()
    store.close()
    path.close()


def even(make, daily_micros=10**6, lines=None, **fields):
    """A campaign that spends a daily budget evenly."""
    lines = lines or [make.line_item(action_worth_micros=WORTH)]
    return make.campaign(**{"pacing_plan": EVEN, "limits": {"daily_micros": daily_micros}, "lines": lines} | fields)


def account(path, account_id="acme/spring"):
    return next(each for each in path.ledger.accounts() if each.account_id == account_id)


def healthy(path, campaign_id="spring"):
    """The multiplier, which is a number that lets somebody bid."""
    multiplier = path.engine.multiplier(campaign_id)
    assert 0.0 < multiplier < math.inf
    assert path.engine.planned_micros(campaign_id) >= 0
    return multiplier


def answer(path, bid, kind, price=None):
    (outcome,) = path.notify(pb.Notice(type=kind, token=bid.token, price_cpm_micros=price))
    return outcome


# -- prices and values


def test_a_price_above_the_bid_is_disputed_and_never_billed(real, make):
    real.campaigns.create(even(make), "tester")
    for _ in range(50):
        bid = real.bid_one()
        assert answer(real, bid, BILLING, 50 * bid.bid_cpm_micros) == pb.NOTICE_OUTCOME_DISPUTED
    books = account(real)
    assert (books.billed_micros, books.won_micros) == (0, 0)
    assert books.disputed_micros > 0
    real.now_ms += 60_000
    assert real.bid_one().token
    healthy(real)


@pytest.mark.parametrize("minimum", [0, 1, 10**15])
def test_a_minimum_to_win_that_contradicts_what_happened_is_survived(real, make, minimum):
    real.campaigns.create(even(make), "tester")
    for kind in (WIN, LOSS):
        bid = real.bid_one(auction_type=FIRST)
        told = pb.Notice(type=kind, token=bid.token, minimum_to_win_cpm_micros=minimum)
        if kind == WIN:
            told.price_cpm_micros = bid.bid_cpm_micros
        real.notify(told)
    real.now_ms += 10_000
    bid = real.bid_one(auction_type=FIRST)
    assert 0 < bid.bid_cpm_micros <= bid.value_cpm_micros
    healthy(real)


@pytest.mark.parametrize("price", [0, 1])
def test_prices_of_next_to_nothing_are_learned_without_harm(real, make, price):
    real.campaigns.create(even(make), "tester")
    for step in range(60):
        real.now_ms += 5_000
        answer(real, real.bid_one(auction_type=FIRST if step % 2 else 0), BILLING, price)
    healthy(real)
    assert real.bid_one(auction_type=FIRST).token


def test_impressions_worth_nothing_get_no_bid_and_others_do(path, make):
    lines = [make.line_item(line_item_id="none", action_worth_micros=0), make.line_item(action_worth_micros=WORTH)]
    path.campaigns.create(even(make, lines=lines), "tester")
    for _ in range(20):
        path.now_ms += 1_000
        assert path.bid_one().line_item_id == "line"
    healthy(path)


@pytest.mark.parametrize("probability", [math.nan, math.inf, -math.inf, -1.0, 0.0])
def test_a_probability_that_is_none_is_worth_nothing(path, make, probability):
    path.campaigns.create(even(make), "tester")
    model = BidModel.of(path.artifact)
    spoilt = model.model._replace(calib_y=np.full_like(model.model.calib_y, probability))
    path.engine.set_model(
        dataclasses.replace(model, model=spoilt), path.engine._view.people, path.artifact.item_ids.find
    )
    for kind in (FIRST, 0):
        bid = path.bid_one(auction_type=kind)
        assert (bid.no_bid_reason, bid.bid_cpm_micros) == (pb.NO_BID_REASON_BELOW_FLOOR, 0)
    path.now_ms += 60_000
    path.bid_one()
    path.engine.set_model(model, path.engine._view.people, path.artifact.item_ids.find)
    path.now_ms += 60_000
    assert path.bid_one().token
    healthy(path)


# -- landscapes and traffic


@pytest.mark.parametrize("counts", [np.zeros((2, 3)), np.array([[0.0, 0.0, 1e9], [0.0, 0.0, 0.0]])])
def test_a_landscape_without_wins_still_bids(path, make, counts):
    """Nobody ever sold, or only far above what anything is worth."""
    path.campaigns.create(even(make), "tester")
    model = BidModel.of(path.artifact)
    market = make_market(np.array([10**9, 2 * 10**9, 3 * 10**9, 4 * 10**9]), counts)
    path.engine.set_model(
        dataclasses.replace(model, market=market), path.engine._view.people, path.artifact.item_ids.find
    )
    for step in range(100):
        path.now_ms += 1_000
        bid = path.bid_one(auction_type=FIRST if step % 2 else 0)
        assert 0 < bid.bid_cpm_micros <= bid.value_cpm_micros
        if step % 3 == 0:
            answer(path, bid, LOSS)
    healthy(path)


def test_losses_alone_do_not_stop_the_bidder(real, make):
    real.campaigns.create(even(make), "tester")
    for _ in range(80):
        real.now_ms += 30_000
        answer(real, real.bid_one(), LOSS)
    assert healthy(real) == 1.0
    assert account(real).reserved_micros == 0


def test_one_auction_a_day_is_bid_on_every_day(real, make):
    real.campaigns.create(even(make, daily_micros=10_000), "tester")
    for day in range(20):
        real.now_ms = make.noon_ms + day * DAY_MS
        bid = real.bid_one()
        assert bid.token, day
        assert answer(real, bid, BILLING, bid.bid_cpm_micros) == pb.NOTICE_OUTCOME_ACCEPTED
        healthy(real)
    assert account(real).billed_micros == pytest.approx(20 * 2_500, rel=0.01)


def test_a_million_a_second_within_one_millisecond_is_paced_and_never_overspent(real, make):
    """Time stands still: all requests of a burst name one moment."""
    daily = 500_000
    real.campaigns.create(even(make, daily_micros=daily), "tester")
    request = make.bid_request(n_impressions=64)
    wanted = 0
    for _ in range(300):
        (response,) = real.bid(request)
        wanted += sum(bool(bid.token) for bid in response.impressions)
    assert 0 < wanted < 300 * 64
    books = account(real)
    assert books.reserved_micros <= daily
    assert 0.0 <= real.engine.multiplier("spring") <= 1.0
    real.now_ms += 12 * HOUR_MS  # the next day is none the worse for it
    assert any(bid.token for bid in real.bid(request)[0].impressions)


# -- clocks


@pytest.mark.parametrize("jump_ms", [-300_000, 300_000])
def test_requests_that_name_other_times_within_the_tolerance(real, make, jump_ms):
    real.campaigns.create(even(make), "tester")
    for step in range(200):
        real.now_ms += 1_000
        shift = jump_ms if step % 2 else 0
        assert real.bid_one(time_ms=real.now_ms + shift).token, step
    assert healthy(real) > 0.01


@pytest.mark.parametrize("jump_ms", [-3 * DAY_MS, -HOUR_MS, -1_000, 1_000, HOUR_MS, 3 * DAY_MS])
def test_the_systems_clock_jumps_and_bids_go_on(real, make, jump_ms):
    daily = 2_000_000
    real.campaigns.create(even(make, daily_micros=daily), "tester")

    def some(n):
        for _ in range(n):
            real.now_ms += 50_000
            bid = real.bid_one()
            if bid.token:
                answer(real, bid, BILLING, bid.bid_cpm_micros // 2)
                yield bid

    assert len(list(some(20))) > 5
    before = account(real).billed_micros
    real.now_ms += jump_ms
    assert len(list(some(40))) > 5
    healthy(real)
    real.now_ms -= jump_ms  # somebody set it right again
    assert len(list(some(40))) > 5
    healthy(real)
    books = account(real)
    assert before < books.billed_micros <= 2 * daily
    assert books.late_micros == books.disputed_micros == 0


def test_a_clock_that_jumps_over_the_flight_and_back(real, make):
    end_ms = make.noon_ms + DAY_MS
    real.campaigns.create(even(make, flight_end_ms=end_ms), "tester")
    assert real.bid_one().token
    real.now_ms = end_ms
    assert real.bid_one().no_bid_reason in (pb.NO_BID_REASON_BUDGET, pb.NO_BID_REASON_NO_MATCH)
    real.now_ms = make.noon_ms + 60_000
    assert real.bid_one().token
    healthy(real)


# -- edits while money is out


@pytest.mark.parametrize("kind", [WIN, BILLING, LOSS])
def test_notices_of_a_line_item_that_was_deleted_while_reserved_settle(real, make, kind):
    other = make.line_item(line_item_id="other", action_worth_micros=WORTH)
    real.campaigns.create(even(make, lines=[make.line_item(action_worth_micros=2 * WORTH), other]), "tester")
    bid = real.bid_one()
    assert bid.line_item_id == "line"
    real.campaigns.update(even(make, lines=[other]), "tester")
    price = None if kind == LOSS else bid.bid_cpm_micros
    assert answer(real, bid, kind, price) == pb.NOTICE_OUTCOME_ACCEPTED
    books = account(real, "acme/spring/line")
    paid = {WIN: books.won_micros, BILLING: books.billed_micros, LOSS: 0}[kind]
    assert paid == (0 if kind == LOSS else -(-bid.bid_cpm_micros // 1000))
    assert books.reserved_micros == 0
    assert real.bid_one().line_item_id == "other"
    healthy(real)


def test_a_line_item_deleted_between_price_and_reservation_takes_no_money(real, make, monkeypatch):
    other = make.line_item(line_item_id="other", action_worth_micros=WORTH)
    real.campaigns.create(even(make, lines=[make.line_item(action_worth_micros=2 * WORTH), other]), "tester")
    reserve = real.ledger.reserve

    def edit_first(*arguments):
        monkeypatch.setattr(real.ledger, "reserve", reserve)
        real.campaigns.update(even(make, lines=[other]), "tester")
        return reserve(*arguments)

    monkeypatch.setattr(real.ledger, "reserve", edit_first)
    bid = real.bid_one()
    assert (bid.line_item_id, bool(bid.token)) == ("other", True)
    assert account(real, "acme/spring/line").reserved_micros == 0
    real.now_ms += 10_000
    assert real.bid_one().line_item_id == "other"
    healthy(real)


def test_all_campaigns_edited_while_bids_are_out_keep_what_was_learned_of_those_that_stay(real, make):
    real.campaigns.create(even(make), "tester")
    open_bids = []
    for step in range(60):
        real.now_ms += 1_000
        open_bids.append(real.bid_one())
        if step % 10 == 0:
            real.campaigns.create(even(make, campaign_id=f"c{step}", lines=[make.line_item(f"l{step}")]), "tester")
            real.campaigns.pause(f"c{step}", resume=False, who="tester")
    for bid in open_bids:
        if bid.token:
            assert answer(real, bid, BILLING, 1_000) == pb.NOTICE_OUTCOME_ACCEPTED
    healthy(real)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati"])
def test_a_zone_changed_in_the_middle_of_the_day(real, make, zone):
    """The budget day becomes the new zone's at once; no day of either zone is overspent, and bids go on."""
    daily = 300_000
    real.campaigns.create(even(make, daily_micros=daily), "tester")
    spent = {}

    def run(n, name):
        for _ in range(n):
            real.now_ms += 180_000
            bid = real.bid_one()
            if bid.token:
                answer(real, bid, BILLING, bid.bid_cpm_micros)
                spent[name] = spent.get(name, 0) + bid.bid_cpm_micros / 1000

    run(40, "before")
    real.campaigns.update(even(make, daily_micros=daily, time_zone=zone), "tester")
    run(40, "after")
    assert spent["before"] > 0
    assert spent["before"] <= daily
    assert spent.get("after", 0) <= daily
    assert account(real).billed_micros == pytest.approx(sum(spent.values()), abs=100)  # rounded once a lease
    real.now_ms += DAY_MS
    run(20, "tomorrow")
    assert 0 < spent["tomorrow"] <= daily
    healthy(real)


# -- currencies


def test_no_bid_is_made_at_a_rate_that_may_be_stale(path, make):
    """A budget has one currency, and only requests in it are bid on: there is no table of rates that could be old."""
    path.campaigns.create(even(make), "tester")
    assert path.bid_one(currency="EUR").no_bid_reason == pb.NO_BID_REASON_CURRENCY
    assert path.bid_one(currency="USD").token
