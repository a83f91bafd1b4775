"""Why a bid was made or not: each way out by name, the price that would have won, and what cannot be told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from headrace.commands.explain import _lines as lines_of
from headrace.decisions.erasure import Erasures
from headrace.decisions.prices import price_at
from headrace.decisions.reading import KEEP_MS, read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.segments import segment_paths
from headrace.decisions.settings import DecisionsConfig
from headrace.errors import DataError, InvalidRequestError, NotFoundError
from headrace.ledger.ledger import Reason
from headrace.service.explain import ExplainService
from headrace.v1 import bidder_pb2 as pb

FIRST = pb.AUCTION_TYPE_FIRST_PRICE


@pytest.fixture
def explain(path, tmp_path):
    """Explains decisions of the path: by keyword, the fields of ExplainBidRequest."""
    folder = tmp_path / "decisions"
    config = DecisionsConfig(no_bid_rate=1.0, candidate_limit=6)
    recorder = DecisionRecorder(folder, config, Erasures(lambda _: (0, []), folder), lambda: path.now_ms)
    path.engine.record(recorder)
    service = ExplainService(folder, recorder)

    def explain(**fields):
        (answer,) = service.explain([pb.ExplainBidRequest(**fields)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    yield explain
    recorder.close()


@pytest.fixture(autouse=True)
def ban_i9(path, monkeypatch):
    """Nobody is shown the item i9."""
    people = path.engine._view.people
    read, banned = type(people).read, np.zeros(len(path.artifact.item_ids), np.uint32)
    banned[path.artifact.item_ids.find("i9")] = 1
    monkeypatch.setattr(type(people), "read", lambda self, *asked: read(self, *asked)._replace(banned=banned))


def fates(answer):
    """Each line item's reason, without the prefix."""
    return {
        each.line_item_id: pb.CandidateReason.Name(each.reason).removeprefix("CANDIDATE_REASON_")
        for each in answer.candidates
    }


def needs(answer, line_item_id):
    (needed,) = [each.needed for each in answer.candidates if each.line_item_id == line_item_id]
    return needed


def test_every_way_out_has_its_name(path, make, explain):
    path.create(
        lines=[
            make.line_item("best", action_worth_micros=4_000_000),
            make.line_item("second", action_worth_micros=3_000_000),
            make.line_item("worthless", action_worth_micros=1),
            make.line_item("capped", max_bid_cpm_micros=2),
            make.line_item("abroad", targeting={"countries": ["FR", "IT"]}),
            make.line_item("tea", targeting={"categories": ["tea"]}),
            make.line_item("insiders", targeting={"user_segments": ["insiders"]}),
            make.line_item("night", targeting={"hours": [1, 2]}),
            make.line_item("weekend", targeting={"dayparts": [{"weekdays": [6, 7], "start_hour": 0, "end_hour": 24}]}),
            make.line_item("poor", limits={"lifetime_micros": 0}),
            make.line_item("nothing", item_ids=["i9"]),
        ]
    )
    path.create(campaign_id="resting", lines=[make.line_item("paused")], paused=True)
    path.create(campaign_id="later", lines=[make.line_item("flight")], flight_start_ms=path.now_ms + 1)
    path.fund("euro", entry_id="other", currency="EUR")
    path.create(campaign_id="foreign", advertiser_id="euro", currency="EUR", lines=[make.line_item("currency")])
    bid = path.bid_one(country="DE", categories=["cars"], floor_cpm_micros=1_000_000)
    answer = explain(token=bid.token)
    assert fates(answer) == {
        "best": "BID",
        "second": "OUTRANKED",
        "worthless": "BELOW_FLOOR",
        "capped": "BELOW_FLOOR",
        "poor": "EXHAUSTED",
        "abroad": "COUNTRY",
        "tea": "CATEGORY",
        "insiders": "SEGMENT",
        "night": "HOUR",
        "weekend": "HOUR",
        "nothing": "NO_ITEM",
        "paused": "PAUSED",
        "flight": "FLIGHT",
        "currency": "CURRENCY",
    }
    assert [each.line_item_id for each in answer.candidates[:2]] == ["best", "second"]
    assert needs(answer, "abroad") == "one of countries: FR, IT"
    assert needs(answer, "night") == "another hour than Tuesday 12:00 in UTC"
    assert "above" in needs(answer, "second")
    assert "ties" not in needs(answer, "second")
    assert answer.recomputed
    assert (answer.fit, answer.payable, answer.matched) == (9, 8, 6)
    assert (answer.bid_cpm_micros, answer.no_bid_reason) == (bid.bid_cpm_micros, 0)
    assert answer.candidates[0].value_cpm_micros == bid.value_cpm_micros
    assert answer.candidates[0].item_id == bid.item_id


@pytest.mark.parametrize(
    ("fields", "floor", "reason", "needed"),
    [
        ({"action_worth_micros": 1}, 1_000_000, "BELOW_FLOOR", "its value at 1000000 CPM micros or more; it was"),
        ({"max_bid_cpm_micros": 5}, 9, "BELOW_FLOOR", "its highest bid at 9 CPM micros or more; it was 5"),
        ({"limits": {"lifetime_micros": 0}}, 0, "EXHAUSTED", "money left"),
        ({"limits": {"lifetime_micros": 1}}, 1_000_000, "UNAFFORDABLE", "999000 CPM micros more"),
        ({"item_ids": ["i9"]}, 0, "NO_ITEM", "an item that may be shown"),
        ({"targeting": {"countries": ["FR"]}}, 0, "COUNTRY", "one of countries: FR"),
    ],
)
def test_a_no_bid_names_what_was_lacking(path, make, explain, fields, floor, reason, needed):
    path.create(lines=[make.line_item(**fields)])
    path.bid(make.bid_request(bid_request_id="a", country="DE", floor_cpm_micros=floor))
    answer = explain(bid_request_id="a")
    assert fates(answer) == {"line": reason}
    assert needed in needs(answer, "line")
    assert answer.recomputed
    assert answer.bid_cpm_micros == 0
    assert answer.no_bid_reason != 0
    assert answer.would_have_won_at_cpm_micros >= max(floor, 1)
    assert answer.price_source == pb.PRICE_SOURCE_ESTIMATED


def test_a_tie_is_told_as_one(path, make, explain):
    path.create(campaign_id="b", lines=[make.line_item("third")])
    path.create(campaign_id="a", lines=[make.line_item("second"), make.line_item("first")])
    answer = explain(token=path.bid_one().token)
    assert fates(answer) == {"second": "BID", "first": "OUTRANKED", "third": "OUTRANKED"}
    for name in ("first", "third"):
        assert "too, and ties go to the campaign first by id, then to its line item named first" in needs(answer, name)


def test_the_command_says_what_cut_a_paced_value(path, make, explain):
    lines = [make.line_item("capped", max_bid_cpm_micros=500), make.line_item("poor", limits={"lifetime_micros": 1})]
    path.create(lines=[*lines, make.line_item("free", action_worth_micros=1_000)])
    shown = {line.split(":")[0].strip(): line for line in lines_of(explain(token=path.bid_one().token))}
    assert "cut to 500, its highest bid" in shown["spring/capped"]
    assert "cut to 1000, what was left to spend" in shown["spring/poor"]
    assert "cut" not in shown["spring/free"]


def test_a_paced_line_item_is_told_its_multiplier(path, make, explain, monkeypatch):
    path.create()
    pacer = path.engine.pacer
    monkeypatch.setattr(type(pacer), "advance", lambda self, now_ms: None)
    pacer._course.terms = pacer.terms._replace(multiplier=np.array([0.25]))
    bid = path.bid_one(floor_cpm_micros=1_000_000)
    floor = bid.value_cpm_micros // 2
    path.bid(make.bid_request(bid_request_id="b", floor_cpm_micros=floor))
    answer = explain(bid_request_id="b")
    assert (fates(answer), answer.no_bid_reason) == ({"line": "PACED"}, pb.NO_BID_REASON_PACED)
    assert needs(answer, "line").startswith("a multiplier of 0.5 or more; it was 0.25")
    assert answer.recomputed


def test_candidates_beyond_the_limit_are_not_recorded(path, make, explain):
    path.create(lines=[make.line_item(f"l{i}", action_worth_micros=10_000 * (20 - i)) for i in range(9)])
    answer = explain(token=path.bid_one().token)
    assert [fate == "NOT_RECORDED" for fate in fates(answer).values()] == [False] * 6 + [True] * 3
    assert answer.recomputed


def test_a_refusal_of_the_ledger_is_told(path, make, explain):
    path.create(lines=[make.line_item("a"), make.line_item("b")])
    path.ledger.closed = Reason.BRAKE
    path.bid(make.bid_request(bid_request_id="x"))
    assert set(fates(explain(bid_request_id="x")).values()) == {"REFUSED"}


def test_a_deadline_that_passed_is_told(path, make, explain):
    path.create()
    path.monotonic_s = 10.0
    path.bid(make.bid_request(bid_request_id="x"), deadline=5.0)
    answer = explain(bid_request_id="x")
    assert (fates(answer), answer.no_bid_reason) == ({"line": "LATE"}, pb.NO_BID_REASON_INSUFFICIENT_TIME)


def test_one_of_several_impressions_is_asked_for_by_its_place(path, make, explain):
    path.create()
    path.bid(make.bid_request(bid_request_id="x", n_impressions=3))
    assert [explain(bid_request_id="x", impression=place).impression for place in range(3)] == [0, 1, 2]
    with pytest.raises(NotFoundError):
        explain(bid_request_id="x", impression=3)


def test_a_first_price_bid_is_computed_anew_with_its_shade(path, explain):
    path.create()
    bid = path.bid_one(auction_type=FIRST, floor_cpm_micros=10_000)
    answer = explain(token=bid.token)
    best = answer.candidates[0]
    assert answer.recomputed
    assert best.bid_cpm_micros == bid.bid_cpm_micros < best.paced_cpm_micros
    assert best.shade == best.bid_cpm_micros / best.paced_cpm_micros
    assert 0.0 < answer.win_rate <= 1.0


def test_a_bid_is_computed_anew_with_the_prices_of_its_moment(path, make, explain, tmp_path):
    path.create(lines=[make.line_item(action_worth_micros=100_000)])
    view = path.engine._view
    tokens, bids = [], []
    for power in (1.0, 3.0, 0.3, 3.0):
        market = view.model.market._replace(win_rate=view.model.market.win_rate**power)
        path.engine.set_model(dataclasses.replace(view.model, market=market), view.people, view.find_item)
        offer = path.bid_one(auction_type=FIRST)
        tokens.append(offer.token)
        bids.append(offer.bid_cpm_micros)
        assert explain(token=offer.token).recomputed
        path.now_ms += KEEP_MS
    assert len({*bids[:3]}) == 3
    assert bids[3] == pytest.approx(bids[1], rel=0.02), "in between silence taught something"
    assert all(explain(token=token).recomputed for token in tokens)
    recording = read_recording(tmp_path)
    assert len(recording.models) == 4  # one whole, and what was learned since
    rates = [recording.models[each["model"]].curve(each["market_row"])[1] for each in recording.auctions]
    np.testing.assert_allclose(rates[1], rates[3], atol=0.05)
    assert not np.allclose(rates[0], rates[1], atol=0.2)


def test_what_would_have_won_is_known_where_it_was_told_and_else_estimated(path, make, explain):
    path.create()
    tokens = [path.bid_one(floor_cpm_micros=1_000).token for _ in range(4)]
    tokens.append(path.bid_one(auction_type=FIRST).token)
    win, loss = pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_LOSS
    path.notify(
        pb.Notice(type=win, token=tokens[0], price_cpm_micros=5_000),
        pb.Notice(type=loss, token=tokens[1], minimum_to_win_cpm_micros=10**12),
        pb.Notice(type=loss, token=tokens[2]),
        pb.Notice(type=win, token=tokens[4], price_cpm_micros=7_000),
    )
    paid, told, lost, silent, first = (explain(token=token) for token in tokens)
    assert (paid.would_have_won_at_cpm_micros, paid.price_source) == (5_000, pb.PRICE_SOURCE_PAID)
    assert (paid.notice, paid.price_cpm_micros) == (win, 5_000)
    assert (told.would_have_won_at_cpm_micros, told.price_source) == (10**12, pb.PRICE_SOURCE_MINIMUM_TO_WIN)
    assert (lost.price_source, lost.notice) == (pb.PRICE_SOURCE_ESTIMATED, loss)
    assert lost.would_have_won_at_cpm_micros >= lost.bid_cpm_micros
    assert silent.notice == pb.NOTICE_TYPE_UNSPECIFIED
    assert first.price_source == pb.PRICE_SOURCE_ESTIMATED
    assert first.would_have_won_at_cpm_micros <= first.bid_cpm_micros


def test_records_outlive_their_artifact_and_campaign(path, make, explain):
    path.create()
    token = path.bid_one().token
    path.campaigns.update(make.campaign(lines=[make.line_item("another")]), "tester")
    answer = explain(token=token)
    assert fates(answer) == {"line": "BID"}
    assert answer.artifact_version == path.artifact.version


def test_what_is_not_recorded_is_not_found(path, make, explain):
    path.create()
    token = path.bid_one().token
    with pytest.raises(NotFoundError, match=r"decisions\.keep_days"):
        explain(token=token[:-1] + "!")
    with pytest.raises(NotFoundError, match="bid_request_id"):
        explain(bid_request_id="never heard of")


@pytest.mark.parametrize(
    "fields", [{}, {"token": "t", "bid_request_id": "b"}, {"bid_request_id": "b", "impression": 64}]
)
def test_a_wrong_question_says_what_is_wrong(explain, fields):
    with pytest.raises(InvalidRequestError):
        explain(**fields)


def test_a_truncated_file_still_explains_what_is_whole(path, make, explain, tmp_path):
    path.create()
    first = path.bid_one().token
    assert explain(token=first).recomputed
    last = path.bid_one().token
    assert explain(token=last).recomputed
    (segment,) = segment_paths(tmp_path / "decisions")
    with segment.open("r+b") as file:
        file.truncate(segment.stat().st_size - 1)
    assert explain(token=first).recomputed
    with pytest.raises(NotFoundError):
        explain(token=last)
    with segment.open("r+b") as file:
        file.write(b"HRECORDS\xff\xff\xff\xff")
    with pytest.raises(DataError, match="format version"):
        explain(token=first)


def test_prices_follow_the_model_within_what_is_possible():
    edges, rates = np.array([0.0, 10.0, 20.0]), np.array([0.0, 0.5, 0.5])
    low, high = np.array([0.0, 5.0, 0.0, 10.0, 0.0, 100.0]), np.array([np.inf, 10.0, 4.0, np.inf, 10.0, 200.0])
    share = np.array([0.25, 0.5, 0.5, 0.5, 1.0, 0.5])
    assert price_at(edges, rates, low, high, share).tolist() == [5.0, 7.5, 2.0, 30.0, 10.0, 100.0]
