"""User-written strategies in the bidding path, and the limits that hold whatever they say."""

from __future__ import annotations

import itertools
import logging
import textwrap
from pathlib import Path

import pytest

from headrace.bidding.settings import BiddingConfig
from headrace.bidding.strategies.sandbox import WRONG_ANSWERS
from headrace.bidding.strategies.strategy import load_strategies
from headrace.errors import InvalidRequestError
from headrace.v1 import bidder_pb2 as pb

EXAMPLES = Path(__file__).parents[3] / "examples" / "strategies"
MINUTE_MS = 60_000
WORTH = 160_000
"""Micros a purchase, so that impressions are worth 2.5 CPM units and no other limit binds."""


@pytest.fixture
def run(tmp_path, factories, make):
    """A funded path whose line items ``mine`` follow a strategy of the given body."""
    paths = []

    def run(body="", *, examples=(), lines=(), people=None, **config):
        file = tmp_path / "mine.py"
        text = "@strategy\ndef mine(ask, x=0):\n" + textwrap.indent(textwrap.dedent(body).strip("\n"), "    ") + "\n"
        file.write_text(text)
        specs = ([f"{file}:mine"] if body else []) + [f"{EXAMPLES / name}.py:{name}" for name in examples]
        settings = BiddingConfig(strategies=tuple(specs), **config)
        folder = tmp_path / str(len(paths))
        folder.mkdir()
        strategies = load_strategies(specs)
        path = make.path(folder, factories.make_artifact(), make.ledger(), settings, people, strategies)
        paths.append(path)
        path.fund(amount_micros=10**12)
        path.create(
            lines=[
                make.line_item(**{"action_worth_micros": WORTH, "strategy": "mine"} | line) for line in lines or [{}]
            ]
        )
        return path

    yield run
    for path in paths:
        path.close()


def state(path):
    (state,) = path.engine.strategies()
    return state


def test_a_strategy_prices_the_line_items_that_name_it(run):
    path = run("return ask.value_cpm * 0.25 + x", lines=[{"strategy_parameters": [7]}])
    bid = path.bid_one()
    assert bid.bid_cpm_micros == int(bid.value_cpm_micros * 0.25 + 7)
    assert bid.token
    assert (state(path).asked, state(path).wrong, state(path).cut) == (1, 0, 0)
    assert state(path).bid_micros == bid.bid_cpm_micros // 1000


def test_it_is_told_what_the_built_in_rule_would_bid(run, make):
    told = run("return ask.shaded_cpm")
    plain = run("return 0", lines=[{"strategy": ""}], explore_share=0.0)
    for first in (False, True):
        kind = pb.AUCTION_TYPE_FIRST_PRICE if first else pb.AUCTION_TYPE_SECOND_PRICE
        for floor in (0, 1_500_000):
            asked = {"auction_type": kind, "floor_cpm_micros": floor}
            assert told.bid_one(**asked).bid_cpm_micros == plain.bid_one(**asked).bid_cpm_micros > 0
    assert run("return ask.first_price + 1").bid_one(auction_type=kind).bid_cpm_micros == 2
    assert run("return ask.first_price + 1").bid_one().bid_cpm_micros == 1
    assert run("return ask.floor_cpm + 1").bid_one(floor_cpm_micros=1_000_000).bid_cpm_micros == 1_000_001


def test_budget_and_time_left_are_of_the_scarcest_plan(run, make):
    body = "return 1000 * ask.budget_left + 1000000 * ask.time_left"
    path = run(body)
    assert path.bid_one().bid_cpm_micros == 1_001_000  # no plan
    path.campaigns.update(
        make.campaign(
            pacing_plan=1,
            limits={"daily_micros": 10**9},
            lines=[make.line_item(action_worth_micros=WORTH, strategy="mine")],
        ),
        "tester",
    )
    assert path.bid_one(time_ms=path.now_ms).bid_cpm_micros == 1_001_000  # it begins at noon
    path.now_ms += 6 * 3_600_000
    assert path.bid_one().bid_cpm_micros == pytest.approx(501_000, abs=50_000)


def test_passing_says_strategy_and_below_the_floor_says_so(run):
    path = run("return 0 if ask.value_cpm < x else ask.paced_cpm", lines=[{"strategy_parameters": [1e15]}])
    assert path.bid_one().no_bid_reason == pb.NO_BID_REASON_STRATEGY
    assert path.bid_one(floor_cpm_micros=10**9).no_bid_reason == pb.NO_BID_REASON_BELOW_FLOOR
    low = run("return 1000")
    assert low.bid_one(floor_cpm_micros=1001).no_bid_reason == pb.NO_BID_REASON_STRATEGY
    assert low.bid_one(floor_cpm_micros=1000).bid_cpm_micros == 1000


def test_a_strategy_replaces_the_bid_and_not_the_rank(run):
    lines = [
        {"line_item_id": "dear", "action_worth_micros": 2 * WORTH, "strategy": ""},
        {"line_item_id": "loud", "strategy": "mine"},
    ]
    path = run("return ask.highest_cpm", lines=lines)
    assert path.bid_one().line_item_id == "dear"
    lines[0]["strategy"], lines[1]["strategy"] = "mine", ""
    quiet = run("return 1", lines=lines)
    bid = quiet.bid_one()
    assert (bid.line_item_id, bid.bid_cpm_micros) == ("dear", 1)


def test_a_strategy_that_bids_a_million_is_cut_to_every_limit(run, make):
    million = "return 1e6 * 1e6"
    value = run(million).bid_one().value_cpm_micros
    assert run(million).bid_one().bid_cpm_micros == 2 * value
    assert run(million, strategy_max_over_value=0.5).bid_one().bid_cpm_micros == value // 2
    assert run(million, strategy_max_bid_cpm_micros=5_000).bid_one().bid_cpm_micros == 5_000
    assert run(million, max_bid_cpm_micros=6_000).bid_one().bid_cpm_micros == 6_000
    assert run(million, lines=[{"max_bid_cpm_micros": 7_000}]).bid_one().bid_cpm_micros == 7_000
    assert run("return ask.highest_cpm", strategy_max_bid_cpm_micros=5_000).bid_one().bid_cpm_micros == 5_000
    path = run(million, lines=[{"limits": {"lifetime_micros": 1}}])
    path.now_ms += 10_000
    assert path.bid_one().bid_cpm_micros == 1_000
    assert path.bid_one().no_bid_reason == pb.NO_BID_REASON_BUDGET
    assert state(path).cut == 2


def test_a_strategy_that_spends_too_fast_rests_until_the_next_minute(run):
    path = run("return 1000 * 1000", strategy_max_micros_per_minute=5_000)
    bids = [path.bid_one() for _ in range(8)]
    assert [bool(bid.token) for bid in bids] == [True] * 5 + [False] * 3
    assert bids[-1].no_bid_reason == pb.NO_BID_REASON_STRATEGY
    assert state(path).held
    path.now_ms += MINUTE_MS
    assert path.bid_one().token
    assert not state(path).held


def test_a_clock_set_back_does_not_hold_a_strategy_for_ever(run):
    path = run("return 1000 * 1000", strategy_max_micros_per_minute=1_000)
    assert path.bid_one().token
    assert not path.bid_one().token
    path.now_ms -= 1_000
    assert not path.bid_one().token
    path.now_ms -= 60 * MINUTE_MS
    assert path.bid_one().token


def test_requests_times_that_stray_lift_no_limit_on_spend(run):
    path = run("return 1000 * 1000", strategy_max_micros_per_minute=5_000)
    now_ms = path.now_ms
    bids = []
    for stray in (0, -4, 4, -4, 4, -4, 4, -4):
        path.now_ms = now_ms + stray * MINUTE_MS
        bids += [path.bid_one() for _ in range(6)]
    assert sum(bool(bid.token) for bid in bids) <= 10  # of this minute and of the latest one


def test_no_limit_on_spend_where_none_is_set(run):
    path = run("return ask.highest_cpm", strategy_max_micros_per_minute=0)
    assert all(path.bid_one().token for _ in range(20))


@pytest.mark.parametrize("nonsense", ["math.exp(1e6)", "math.sqrt(-1)", "-1e-9", "-math.inf"])
def test_a_strategy_that_overflows_bids_nothing(run, nonsense):
    path = run(f"return {nonsense}")
    bid = path.bid_one()
    assert (bid.no_bid_reason, bid.bid_cpm_micros, bid.token) == (pb.NO_BID_REASON_STRATEGY, 0, "")
    assert (state(path).asked, state(path).wrong, state(path).off) == (1, 1, False)


def test_a_strategy_that_errs_too_often_gives_way_to_the_built_in_rule(run, make, caplog):
    path = run("return math.log(x)", lines=[{"strategy_parameters": [-1]}])
    requests = [make.bid_request(n_impressions=50) for _ in range(WRONG_ANSWERS // 50)]
    with caplog.at_level(logging.ERROR):
        for request in requests:
            assert path.bid_one().no_bid_reason == pb.NO_BID_REASON_STRATEGY
            path.bid(request)
    assert "strategy mine is switched off: 102 of 102 answers" in caplog.text
    assert state(path).off
    bid = path.bid_one()
    assert bid.bid_cpm_micros == bid.value_cpm_micros
    path.now_ms += MINUTE_MS
    path.create(campaign_id="summer", lines=[])  # a new board brings it not back
    assert path.bid_one().token
    assert state(path).asked == 102


def test_a_strategy_that_errs_seldom_stays(run, make):
    path = run("return -1 if ask.floor_cpm == 1 else 1000")
    for floor in itertools.islice(itertools.cycle([2] * 150 + [1]), 151 * 3):
        path.bid(make.bid_request(n_impressions=50, floor_cpm_micros=floor))
    assert state(path).wrong == 150
    assert not state(path).off


def test_a_strategy_that_loops_costs_what_its_turns_cost(run):
    body = "y = 0\nfor i in range(8):\n    for j in range(8):\n        y += i * j\nreturn y"
    path = run(body)
    assert path.bid_one().bid_cpm_micros == 28 * 28
    assert state(path).strategy.call_ns < 100_000


def test_only_strategies_of_the_configuration_may_be_named(run, make):
    path = run("return 1")
    with pytest.raises(InvalidRequestError, match="line item line: strategy: got 'theirs', expected mine"):
        path.create(campaign_id="other", lines=[make.line_item(strategy="theirs")])
    with pytest.raises(InvalidRequestError, match=r"strategy_parameters: got \[1.0, 2.0\], expected at most 1 \(x\)"):
        path.create(campaign_id="other", lines=[make.line_item(strategy="mine", strategy_parameters=[1, 2])])
    with pytest.raises(InvalidRequestError, match="finite numbers"):
        path.create(campaign_id="other", lines=[make.line_item(strategy="mine", strategy_parameters=[float("nan")])])
    with pytest.raises(InvalidRequestError, match="strategy_parameters: got 1, expected a strategy, too"):
        path.create(campaign_id="other", lines=[make.line_item(strategy_parameters=[1])])


def test_line_items_of_a_strategy_that_is_gone_do_not_bid(run, make, factories, tmp_path):
    path = run("return 1000")
    assert path.bid_one().token
    again = make.path(tmp_path / "0", path.artifact, path.ledger)
    assert again.bid_one().no_bid_reason == pb.NO_BID_REASON_STRATEGY
    assert again.engine.strategies() == []


def test_the_examples_bid_as_they_say(run, make):
    path = run(examples=["threshold"], lines=[{"strategy": "threshold"}])
    value = path.bid_one().value_cpm_micros
    for least, passes in ((value, False), (value + 1, True)):
        line = make.line_item(action_worth_micros=WORTH, strategy="threshold", strategy_parameters=[least])
        path.campaigns.update(make.campaign(lines=[line]), "tester")
        bid = path.bid_one()
        assert (bid.bid_cpm_micros == 0) == passes
        assert bid.bid_cpm_micros in (0, value)
    rooted = run(examples=["square_root"], lines=[{"strategy": "square_root", "strategy_parameters": [1e6, 2]}])
    assert rooted.bid_one().bid_cpm_micros == int((1e6 * value / 2 + 1e12) ** 0.5 - 1e6)
