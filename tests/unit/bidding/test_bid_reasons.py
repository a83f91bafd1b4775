"""Every bid and every reason for none, at the service."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.predict import Strangers
from headrace.errors import InvalidRequestError
from headrace.ledger.ledger import Reason
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2


def test_a_bid_names_everything_that_the_exchange_and_the_books_need(path):
    path.create()
    bid = path.bid_one()
    assert bid.no_bid_reason == pb.NO_BID_REASON_UNSPECIFIED
    assert (bid.campaign_id, bid.line_item_id, bid.advertiser_id) == ("spring", "line", "acme")
    assert bid.item_id in ("i0", "i1")
    assert bid.token
    assert 0 < bid.probability < 1
    assert bid.value_cpm_micros == int(bid.probability * 10_000_000 * 1000)
    assert bid.bid_cpm_micros == min(bid.value_cpm_micros, path.config.max_bid_cpm_micros)


def reason_of(path, **fields):
    bid = path.bid_one(**fields)
    assert not bid.token
    assert bid.bid_cpm_micros == 0
    return bid.no_bid_reason


def test_no_campaign_at_all_is_no_match(path):
    assert reason_of(path) == pb.NO_BID_REASON_NO_MATCH


@pytest.mark.parametrize(
    ("targeting", "asked"),
    [
        ({"countries": ["DE"]}, {"country": "FR"}),
        ({"countries": ["DE"]}, {}),
        ({"categories": ["shoes"]}, {"categories": ["hats", "bags"]}),
        ({"user_segments": ["vip"]}, {"user_segments": ["new"]}),
        ({"hours": [11, 13]}, {}),
    ],
)
def test_targeting_that_does_not_fit_is_no_match(path, make, targeting, asked):
    path.create(lines=[make.line_item(targeting=targeting)])
    assert reason_of(path, **asked) == pb.NO_BID_REASON_NO_MATCH


@pytest.mark.parametrize(
    ("targeting", "asked"),
    [
        ({"countries": ["FR", "DE"]}, {"country": "DE"}),
        ({"categories": ["shoes", "hats"]}, {"categories": ["bags", "hats"]}),
        ({"user_segments": ["vip"]}, {"user_segments": ["new", "vip"]}),
        ({"hours": [12]}, {}),
        ({}, {"country": "DE", "categories": ["any"], "user_segments": ["thing"]}),
    ],
)
def test_targeting_that_fits_bids(path, make, targeting, asked):
    path.create(lines=[make.line_item(targeting=targeting)])
    assert path.bid_one(**asked).token


def test_hours_are_those_of_the_campaigns_zone(path, make):
    path.create(time_zone="Asia/Kolkata", lines=[make.line_item(targeting={"hours": [17]})])
    assert path.bid_one().token  # 12:00 UTC is 17:30
    path.now_ms = make.noon_ms - 31 * 60_000
    assert reason_of(path, time_ms=path.now_ms) == pb.NO_BID_REASON_NO_MATCH


@pytest.mark.parametrize("stray_ms", [-300_001, 300_001])
def test_a_sender_cannot_choose_the_budget_day(path, make, stray_ms):
    path.create()
    with pytest.raises(InvalidRequestError, match="time_ms"):
        path.bid_one(time_ms=make.noon_ms + stray_ms)
    assert path.bid_one(time_ms=make.noon_ms + stray_ms // 300_001 * 300_000).token


def test_another_currency(path):
    path.create()
    assert reason_of(path, currency="EUR") == pb.NO_BID_REASON_CURRENCY


def test_a_flight_not_begun_and_an_expired_one(path, make):
    path.create(flight_start_ms=make.noon_ms, flight_end_ms=make.noon_ms + 1000)
    assert reason_of(path, time_ms=make.noon_ms - 1) == pb.NO_BID_REASON_BUDGET
    assert path.bid_one(time_ms=make.noon_ms).token
    assert path.bid_one(time_ms=make.noon_ms + 999).token
    assert reason_of(path, time_ms=make.noon_ms + 1000) == pb.NO_BID_REASON_BUDGET


def test_a_paused_campaign_until_it_is_resumed(path):
    path.create()
    path.campaigns.pause("spring", resume=False, who="tester")
    assert reason_of(path) == pb.NO_BID_REASON_BUDGET
    path.campaigns.pause("spring", resume=True, who="tester")
    assert path.bid_one().token


@pytest.mark.parametrize("limit", ["lifetime_micros", "daily_micros"])
@pytest.mark.parametrize("where", ["campaign", "line"])
def test_a_budget_of_zero(path, make, limit, where):
    limits = campaigns_pb2.Limits(**{limit: 0})
    if where == "campaign":
        path.create(limits=limits)
    else:
        path.create(lines=[make.line_item(limits=limits)])
    assert reason_of(path) == pb.NO_BID_REASON_BUDGET


def test_an_empty_balance(path):
    path.create()
    path.fund(amount_micros=-(10**9), entry_id="refund")
    assert reason_of(path) == pb.NO_BID_REASON_BUDGET
    path.fund(amount_micros=10**9, entry_id="again")
    assert path.bid_one().token


def test_a_budget_that_the_last_bids_used_up(path, make):
    path.create(limits=campaigns_pb2.Limits(lifetime_micros=250_000))
    bids = [path.bid_one(time_ms=make.noon_ms + 1000 * n) for n in range(4)]
    # the third may only offer what is left
    assert [bid.bid_cpm_micros for bid in bids] == [100_000_000, 100_000_000, 50_000_000, 0]
    assert bids[3].no_bid_reason == pb.NO_BID_REASON_BUDGET


def test_a_floor_is_met_exactly_or_not_at_all(path, make):
    path.create(lines=[make.line_item(max_bid_cpm_micros=5_000_000)])
    assert path.bid_one(floor_cpm_micros=5_000_000).bid_cpm_micros == 5_000_000
    assert reason_of(path, floor_cpm_micros=5_000_001) == pb.NO_BID_REASON_BELOW_FLOOR


def test_worthless_actions_clear_no_floor(path, make):
    path.create(lines=[make.line_item(action_worth_micros=0)])
    assert reason_of(path) == pb.NO_BID_REASON_BELOW_FLOOR


@pytest.fixture
def banned(tmp_path, factories, make):
    """The path of ``path`` in a shop where i0 and i1 may not be shown."""
    artifact = factories.make_artifact()

    class Shop(Strangers):
        def read(self, names, now_ms):
            rows = np.zeros(len(artifact.item_ids), np.uint32)
            rows[[artifact.item_ids.find(item_id) for item_id in ("i0", "i1")]] = 1
            return super().read(names, now_ms)._replace(banned=rows)

    path = make.path(tmp_path, artifact, make.ledger(), people=Shop(artifact.item_factors.shape[1]))
    path.fund()
    yield path
    path.close()


def test_a_line_item_with_nothing_to_show_is_no_match_and_leaves_the_word_to_others(banned, make):
    nothing = make.line_item("nothing", action_worth_micros=20_000_000)
    banned.create(lines=[nothing])
    assert reason_of(banned) == pb.NO_BID_REASON_NO_MATCH
    banned.create(campaign_id="autumn", paused=True)
    assert reason_of(banned) == pb.NO_BID_REASON_BUDGET
    banned.campaigns.update(make.campaign("autumn", lines=[nothing]), "tester")
    banned.create(campaign_id="poor", lines=[make.line_item(item_ids=["i1", "i5"])], limits=limit(0))
    assert reason_of(banned) == pb.NO_BID_REASON_BUDGET
    banned.create(campaign_id="summer", lines=[nothing, make.line_item("shown", item_ids=["i1", "i5"])])
    (answer,) = banned.bid(make.bid_request(n_impressions=2))
    assert [(bid.line_item_id, bid.item_id) for bid in answer.impressions] == [("shown", "i5")] * 2
    banned.ledger.brake("", "", True, "test", "tester")
    assert reason_of(banned) == pb.NO_BID_REASON_BRAKE


def test_companions_keep_their_offers_when_some_have_nothing_to_show(banned, make):
    banned.create(lines=[make.line_item("a", targeting={"countries": ["DE"]})])
    banned.create(campaign_id="b", lines=[make.line_item("b", targeting={"countries": ["FR"]}, item_ids=["i5"])])
    answers = banned.bid(*(make.bid_request(country=country) for country in ("DE", "FR", "IT", "DE", "FR")))
    assert [answer.impressions[0].line_item_id for answer in answers] == ["", "b", "", "", "b"]
    reasons = [answer.impressions[0].no_bid_reason for answer in answers]
    assert reasons == [1, 0, 1, 1, 0]


def limit(lifetime_micros):
    return campaigns_pb2.Limits(lifetime_micros=lifetime_micros)


def test_a_process_that_does_not_own_the_ledger(path):
    path.create()
    path.ledger.owned = False
    assert reason_of(path) == pb.NO_BID_REASON_LEDGER_NOT_OWNER


@pytest.mark.parametrize("brake", [("", ""), ("adx", ""), ("", "acme")])
def test_brakes(path, brake):
    path.create()
    path.ledger.brake(*brake, True, "test", "tester")
    assert reason_of(path) == pb.NO_BID_REASON_BRAKE
    path.ledger.brake(*brake, False, "test", "tester")
    assert path.bid_one().token


@pytest.mark.parametrize(
    ("closed", "reason"),
    [
        (Reason.JOURNAL_UNAVAILABLE, pb.NO_BID_REASON_JOURNAL_UNAVAILABLE),
        (Reason.FENCED, pb.NO_BID_REASON_FENCED),
        (Reason.NOT_OWNER, pb.NO_BID_REASON_LEDGER_NOT_OWNER),
    ],
)
def test_what_closes_the_ledger_is_told_and_asked_once(path, make, closed, reason):
    path.create(lines=[make.line_item("a"), make.line_item("b")])
    path.ledger.closed = closed
    assert reason_of(path) == reason
    assert len(path.ledger.calls) == 1


def test_a_deadline_that_passed_before(path):
    path.create()
    path.monotonic_s = 10.0
    assert reason_of(path, deadline=9.9) == pb.NO_BID_REASON_INSUFFICIENT_TIME
    assert not path.ledger.calls


def test_a_deadline_that_passes_while_deciding_gives_the_money_back(path):
    path.create()
    reserve = path.ledger.reserve

    def slow(*arguments):
        path.monotonic_s += 1.0
        return reserve(*arguments)

    path.ledger.reserve = slow
    assert reason_of(path, deadline=0.5) == pb.NO_BID_REASON_INSUFFICIENT_TIME
    assert not path.ledger.open
    assert path.bid_one(deadline=5.0).token


def test_the_pacer_passes_when_the_budget_is_far_too_small_for_the_traffic(path, make):
    path.create(pacing_plan=campaigns_pb2.PACING_PLAN_EVEN, limits=campaigns_pb2.Limits(daily_micros=10_000_000))
    reasons = [path.bid_one(time_ms=make.noon_ms + second * 100).no_bid_reason for second in range(600)]
    assert pb.NO_BID_REASON_PACED in {path.bid_one(floor_cpm_micros=1_000_000).no_bid_reason}
    assert reasons.count(pb.NO_BID_REASON_BUDGET) == 0


def test_the_next_candidate_bids_when_the_best_is_refused(path, make):
    poor = make.line_item("poor", action_worth_micros=20_000_000, max_bid_cpm_micros=60_000_000)
    rich = make.line_item("rich", max_bid_cpm_micros=50_000_000)
    path.create(lines=[poor, rich])
    reserve = path.ledger.reserve
    refused = path.ledger.account_number("acme/spring/poor")

    def picky(numbers, amounts, exchanges, now_ms):
        tokens, reasons = reserve(numbers, amounts, exchanges, now_ms)
        reasons[numbers == refused] = Reason.BUDGET
        return [None if number == refused else token for number, token in zip(numbers, tokens, strict=True)], reasons

    path.ledger.reserve = picky
    assert path.bid_one().line_item_id == "rich"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("bid_request_id", ""),
        ("bid_request_id", "x" * 129),
        ("user_id", "x" * 257),
        ("country", "de"),
        ("country", "DEU"),
        ("categories", ["c"] * 17),
        ("categories", ["ü" * 33]),
        ("user_segments", ["s"] * 65),
        ("exchange", "e" * 65),
        ("currency", "usd"),
        ("auction_type", 9),
        ("time_ms", -1),
        ("time_ms", 1 << 60),
        ("floor_cpm_micros", -1),
        ("n_impressions", 0),
        ("n_impressions", 65),
    ],
)
def test_malformed_and_oversized_fields_are_named(path, field, value):
    named = {"n_impressions": "impressions"}.get(field, field)
    with pytest.raises(InvalidRequestError, match=named):
        path.bid_one(**{field: value})


def test_both_ids_and_a_repeated_impression_are_refused(path, make):
    with pytest.raises(InvalidRequestError, match="anonymous_id"):
        path.bid_one(user_id="u1", anonymous_id="cookie")
    twice = make.bid_request()
    twice.impressions.add(impression_id="0")
    (answer,) = path.bid(twice)
    assert isinstance(answer, InvalidRequestError)


def test_a_bad_request_leaves_its_companions_alone(path, make):
    path.create()
    bad, good = path.bid(make.bid_request(country="??"), make.bid_request())
    assert isinstance(bad, InvalidRequestError)
    assert good.impressions[0].token


def test_two_impressions_are_won_each_for_itself(path, make):
    path.create()
    (answer,) = path.bid(make.bid_request(n_impressions=2))
    tokens = {bid.token for bid in answer.impressions}
    assert len(tokens) == 2
    assert [bid.impression_id for bid in answer.impressions] == ["0", "1"]


def test_companions_do_not_change_a_price(path, make):
    path.create(lines=[make.line_item("a"), make.line_item("b", targeting={"countries": ["DE"]}, item_ids=["i5"])])
    path.create(campaign_id="other", lines=[make.line_item(action_worth_micros=7_000_000, item_ids=["i7", "i9"])])
    mixed = [
        make.bid_request(country=country, auction_type=kind, n_impressions=n, floor_cpm_micros=floor)
        for country in ("DE", "FR")
        for kind in (1, 2)
        for n in (1, 3)
        for floor in (0, 700_000)
    ]
    alone = [path.bid(request)[0] for request in mixed]
    together = path.bid(*mixed)
    for one, other in zip(alone, together, strict=True):
        for bid in [*one.impressions, *other.impressions]:
            assert bid.token
            bid.token = ""
        assert one == other
