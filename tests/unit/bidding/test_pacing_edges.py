"""What may go wrong with time, budgets and boards: clocks that jump, zones that change, little and much traffic."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from headrace.bidding.pacing import progress
from headrace.bidding.pacing.experience import MATCHED, N_SEEN, Experience
from headrace.bidding.pacing.goals import PRIOR_ACTIONS
from headrace.events.store import Store
from headrace.v1 import bidder_pb2
from headrace.v1 import campaigns_pb2 as pb

EVEN = pb.PACING_PLAN_EVEN
SECOND_MS, HOUR_MS, DAY_MS = 1_000, 3_600_000, 86_400_000
DAILY = pb.Limits(daily_micros=20_000_000)


@pytest.fixture
def even(path):
    """The path with an even campaign of twenty units a day."""
    path.fund(amount_micros=10**12, entry_id="more")
    path.create(pacing_plan=EVEN, limits=DAILY)
    return path


def bid_for(path, start_ms, seconds, *, price_cpm=2_000_000, every_ms=SECOND_MS):
    """Auctions at a pace, billed at once where they are won; returns micros spent and how many bids there were."""
    spent, n_bids = 0, 0
    for number in range(int(seconds * 1000 / every_ms)):
        path.now_ms = start_ms + number * every_ms
        bid = path.bid_one(time_ms=path.now_ms)
        n_bids += bool(bid.token)
        if bid.bid_cpm_micros >= price_cpm:
            settle(path, bid.token, price_cpm)
            spent += price_cpm // 1000
        elif bid.token:
            path.notify(bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token=bid.token))
    return spent, n_bids


def settle(path, token, price_cpm=2_000_000):
    path.notify(bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_BILLING, token=token, price_cpm_micros=price_cpm))


def sound(path):
    _, terms, report = path.engine.pacing()
    assert np.isfinite(terms.multiplier).all()
    assert ((terms.multiplier >= 0) & (terms.multiplier <= 16)).all()
    assert (report.multiplier >= 0).all()
    return float(report.multiplier[0])


def test_one_auction_a_day_is_bid_on_at_its_value_every_day(even, make):
    for day in range(12):
        even.now_ms = make.noon_ms + day * DAY_MS
        bid = even.bid_one(time_ms=even.now_ms)
        assert bid.token
        assert sound(even) == 1.0
        settle(even, bid.token)
        assert not even.engine.pacing()[2].dual.any()


def test_a_million_auctions_a_second_are_solved_by_count_and_paced(even, make):
    n_bids = 0
    for batch in range(40):
        even.now_ms = make.noon_ms + batch  # 256 in a thousandth of a second
        answers = even.bid(*[make.bid_request(n_impressions=16, time_ms=even.now_ms) for _ in range(16)])
        tokens = [one.token for answer in answers for one in answer.impressions if one.token]
        n_bids += len(tokens)
        even.engine.take_back(tokens)
    assert sound(even) < 0.2
    assert n_bids > 0


def test_a_clock_set_forward_spends_no_more_than_the_plan(even, make):
    bid_for(even, make.noon_ms, 600, every_ms=2_000)
    before = sound(even)
    after_ms = make.noon_ms + 6 * HOUR_MS
    spent, n_bids = bid_for(even, after_ms, 300, every_ms=2_000)
    assert n_bids > 0
    assert sound(even) < 3 * before
    assert spent <= 3 * DAILY.daily_micros * 300 / (6 * 3600)


def test_a_clock_set_back_is_followed(even, make):
    bid_for(even, make.noon_ms + 8 * HOUR_MS, 300, every_ms=2_000)
    _, n_bids = bid_for(even, make.noon_ms, 600, every_ms=2_000)
    assert n_bids > 0
    planned = even.engine.planned_micros("spring")
    assert 0 < planned < DAILY.daily_micros
    bid_for(even, make.noon_ms + 599_000, 5)
    assert even.engine.pacer._course.now_ms >= make.noon_ms + 600_000
    # a small step back changes nothing
    now = even.engine.pacer._course.now_ms
    even.bid_one(time_ms=now - 60_000)
    assert even.engine.pacer._course.now_ms == now


def test_a_zone_changed_in_mid_day_makes_a_new_plan_to_the_new_midnight(even, make):
    bid_for(even, make.noon_ms, 300)
    before = sound(even)
    even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=DAILY, time_zone="Asia/Tokyo"), "tester")
    _, n_bids = bid_for(even, make.noon_ms + 300_000, 60)
    course = even.engine.pacer._course
    assert n_bids > 0
    assert course.plans.end_ms[0, -1] == make.noon_ms + 3 * HOUR_MS  # midnight in Tokyo
    assert sound(even) > before  # the same money for a quarter of the time


def test_a_cut_below_what_is_spent_stops_and_a_raise_goes_on_at_once(even, make):
    spent, _ = bid_for(even, make.noon_ms, 120)
    assert spent > 1_000
    even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=pb.Limits(daily_micros=1_000)), "tester")
    assert bid_for(even, make.noon_ms + 120_000, 30)[1] == 0
    even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=DAILY), "tester")
    assert bid_for(even, make.noon_ms + 150_000, 30)[1] > 0


def test_a_cut_by_half_causes_no_black_out(even, make):
    bid_for(even, make.noon_ms, 300)
    even.campaigns.update(
        make.campaign(pacing_plan=EVEN, limits=pb.Limits(daily_micros=DAILY.daily_micros // 2)), "tester"
    )
    _, n_bids = bid_for(even, make.noon_ms + 300_000, 60)
    assert n_bids == 60
    assert sound(even) > 0.0


def test_a_line_deleted_while_reserved_settles_and_the_rest_paces_on(even, make):
    lines = [make.line_item("a"), make.line_item("b", action_worth_micros=1_000_000)]
    even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=DAILY, lines=lines), "tester")
    even.now_ms = make.noon_ms
    bid = even.bid_one(time_ms=even.now_ms)
    assert bid.token
    even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=DAILY, lines=lines[1:]), "tester")
    settle(even, bid.token)
    assert bid_for(even, make.noon_ms + 1_000, 30)[1] > 0
    sound(even)


def test_an_outage_moves_the_plan_and_teaches_no_low_level(even, make):
    bid_for(even, make.noon_ms, 400)
    course = even.engine.pacer._course
    rate, multiplier = float(course.experience.rate()[0]), sound(even)
    bid_for(even, make.noon_ms + 400_000 + HOUR_MS, 2)
    assert course.experience.rate()[0] == pytest.approx(rate, rel=0.05)
    assert course.plans.start_ms[0, -1] >= make.noon_ms + 400_000 + HOUR_MS
    assert sound(even) == pytest.approx(multiplier, rel=0.3)


def test_what_is_known_of_a_line_item_does_not_fade_in_hours_that_are_not_its_own():
    experience, real = Experience(2), np.zeros((3, 2))
    seen = np.zeros((N_SEEN, 2))
    seen[MATCHED] = 100.0
    experience.add(60_000.0, float(HOUR_MS), seen, real, np.full(2, 1e-4))
    before = experience.rate()
    experience.add(12.0 * HOUR_MS, float(HOUR_MS), 0.0 * seen, real, np.array([0.0, 0.05]))
    rate = experience.rate()
    assert rate[0] == before[0] > 0.0
    assert rate[1] < 0.01 * before[1]


def test_bids_never_wait_for_a_solution_made_aside(even, make, monkeypatch):
    even.bid_one(time_ms=make.noon_ms)
    pacer, gate, entered = even.engine.pacer, threading.Event(), threading.Event()
    solve = type(pacer._course).solve

    def slow(self, *arguments):
        entered.set()
        assert gate.wait(20)
        solve(self, *arguments)

    monkeypatch.setattr(type(pacer._course), "solve", slow)
    with pacer.aside():
        even.bid_one(time_ms=make.noon_ms + 2_000)
        assert entered.wait(20)
        before = pacer.terms
        for second in range(3, 20):
            assert even.bid_one(time_ms=make.noon_ms + second * 1_000)
        assert pacer.terms is before
        gate.set()
    assert pacer._course.now_ms > make.noon_ms


def test_an_edit_while_it_is_solved_aside_keeps_terms_and_board_together(even, make):
    with even.engine.pacer.aside():
        for number in range(20):
            lines = [make.line_item(f"l{i}") for i in range(1 + number % 3)]
            even.campaigns.update(make.campaign(pacing_plan=EVEN, limits=DAILY, lines=lines), "tester")
            even.bid_one(time_ms=make.noon_ms + number * 5_000)
            board, terms, report = even.engine.pacing()
            assert len(terms.multiplier) == board.n_lines == len(report.dual)


def test_reported_purchases_correct_predictions_with_shrinkage(path, make):
    lines = [make.line_item("a", goals=pb.Goals(target_roas=1.0)), make.line_item("b")]
    path.create(lines=lines)
    path.bid_one(time_ms=make.noon_ms)
    goals = path.engine.pacer._course.goals
    assert [each.tolist() for each in goals.calibration()] == [[1.0, 1.0], [1.0, 1.0]]
    goals.reported = True
    goals.due[:] = 60.0, 0.0
    goals.actions[:] = 30.0, -3.0
    goals.earned[:] = 75.0, 0.0
    every = (30 + PRIOR_ACTIONS) / (60 + PRIOR_ACTIONS)
    campaign = (30 + PRIOR_ACTIONS * every) / (60 + PRIOR_ACTIONS)
    own = (30 + PRIOR_ACTIONS * campaign) / (60 + PRIOR_ACTIONS)
    actions, worth = goals.calibration()
    assert actions.tolist() == pytest.approx([own, campaign])
    assert worth[0] > 1.0
    assert goals.credit.tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert goals.allowed().tolist() == [[worth[0], 0.0], [0.0, 0.0]]


def test_progress_survives_a_restart_and_a_changed_goal_begins_anew(path, make, tmp_path):
    guarantee = pb.Guarantee(daily_impressions=1_000, penalty_cpm_micros=9_000_000)
    lines = [make.line_item("a", guarantee=guarantee, goals=pb.Goals(target_roas=0.5)), make.line_item("b")]
    path.create(lines=lines)
    bid_for(path, make.noon_ms, 30)
    path.bid_one(time_ms=make.noon_ms + 40_000)
    everything = path.engine.pacer.progress()
    kept = everything.lines
    assert [row.line_item_id for row in kept] == ["a"]
    assert kept[0].won > 0
    assert kept[0].won_today == kept[0].won
    assert kept[0].worth > 0
    store = Store(tmp_path / "other.db")
    assert progress.load(store) == progress.Kept([], [])
    progress.save(store, everything)
    assert progress.load(store) == everything._replace(purchases=[])
    store.close()
    course = path.engine.pacer._course
    course.goals.won[:], course.goals.worth[:] = 0.0, 0.0
    path.engine.pacer.restore(progress.Kept([*kept, kept[0]._replace(line_item_id="gone")]), path.now_ms)
    assert course.goals.won[:, 0].tolist() == [kept[0].won_today, kept[0].won]
    assert course.goals.worth[0] == kept[0].worth
    course.goals.worth[:] = 0.0
    path.engine.pacer.restore(progress.Kept([kept[0]._replace(own_credit=7.0)]), path.now_ms)
    assert course.goals.worth[0] == 0.0
    # the next local day counts its own impressions
    path.now_ms = make.noon_ms + DAY_MS
    path.bid_one(time_ms=path.now_ms)
    assert course.goals.won[0, 0] == 0.0
    assert course.goals.won[1, 0] == kept[0].won


def test_the_status_tells_multipliers_premiums_wins_and_mode(path, make):
    guarantee = pb.Guarantee(daily_impressions=1_000_000, penalty_cpm_micros=3_000_000)
    path.create(lines=[make.line_item("a", guarantee=guarantee, action_worth_micros=0), make.line_item("b")])
    status = path.admin.list(pb.ListCampaignsRequest(), path.call()).campaigns[0].line_items
    assert [each.mode for each in status] == [pb.PACING_MODE_UNSPECIFIED] * 2
    bid_for(path, make.noon_ms, 10)
    path.bid_one(time_ms=make.noon_ms + 20_000)
    first, second = path.admin.list(pb.ListCampaignsRequest(), path.call()).campaigns[0].line_items
    assert (first.line_item_id, second.line_item_id) == ("a", "b")
    assert first.premium_cpm_micros == 3_000_000
    assert second.premium_cpm_micros == 0
    assert second.multiplier == 1.0
    assert second.won_impressions == second.won_impressions_today > 0
    assert first.mode == second.mode == pb.PACING_MODE_RESOLVE
