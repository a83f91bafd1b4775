"""The bidding path on the real ledger: money is reserved, settled, refused and never overspent."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from headrace.bidding.campaigns import CampaignStore
from headrace.clock import RequestClock
from headrace.errors import InvalidRequestError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.service.bidder import BidderService, Kind
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2

WIN, BILLING, LOSS = pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_BILLING, pb.NOTICE_TYPE_LOSS
ACCEPTED, DUPLICATE = pb.NOTICE_OUTCOME_ACCEPTED, pb.NOTICE_OUTCOME_DUPLICATE


@pytest.fixture
def real(tmp_path, factories, make):
    """The path of ``path``, on a ledger of its own with a store beside."""
    store = Store(tmp_path / "ledger" / "money.db")
    ledger = Ledger(tmp_path / "ledger", store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    path = make.path(tmp_path, factories.make_artifact(), ledger)
    path.fund()
    yield path
    ledger.close()
    store.close()
    path.close()


def account(path, name):
    return next(state for state in path.ledger.accounts() if state.account_id == name)


def notice(kind, token, price=None):
    return pb.Notice(type=kind, token=token, price_cpm_micros=price)


def test_a_won_and_billed_impression_reaches_the_books_once(real):
    real.create(lines=[campaigns_pb2.LineItem(line_item_id="l", item_ids=["i1"], action_worth_micros=100_000)])
    bid = real.bid_one()
    assert account(real, "acme/spring/l").reserved_micros == -(-bid.bid_cpm_micros // 1000)
    price = bid.bid_cpm_micros - 500
    assert real.notify(notice(WIN, bid.token, price)) == [ACCEPTED]
    assert real.notify(notice(BILLING, bid.token, price), notice(BILLING, bid.token, price)) == [ACCEPTED, DUPLICATE]
    assert real.notify(notice(LOSS, bid.token)) == [pb.NOTICE_OUTCOME_CONFLICT]
    books = account(real, "acme")
    assert books.billed_micros == pytest.approx(price / 1000, abs=1)
    assert books.reserved_micros == 0
    real.ledger.check_invariant()


@pytest.mark.parametrize("failing", ["headrace.bidding.campaigns._insert", "headrace.ledger.budgets.put_account"])
def test_an_edit_that_fails_half_way_leaves_limits_and_document_as_they_were(real, make, monkeypatch, failing):
    real.create(limits=campaigns_pb2.Limits(lifetime_micros=5_000_000))
    module, _, name = failing.rpartition(".")
    before = getattr(importlib.import_module(module), name)

    def fail(*arguments):
        before(*arguments)
        raise OSError("the power is gone")

    dearer = make.campaign(limits=campaigns_pb2.Limits(lifetime_micros=9_000_000))
    with monkeypatch.context() as injected:
        injected.setattr(failing, fail)
        with pytest.raises(OSError, match="power"):
            real.campaigns.update(dearer, "tester")
        with pytest.raises(OSError, match="power"):
            real.campaigns.create(make.campaign("autumn"), "tester")
    again = CampaignStore(real.store, real.ledger, max_bid_cpm=10**9, clock_ms=lambda: make.noon_ms)
    for campaigns in (real.campaigns, again):
        assert [one.limits.lifetime_micros for one in campaigns.find("", [])] == [5_000_000]
    assert account(real, "acme/spring").budget_in_force_micros == 5_000_000
    assert {state.account_id for state in real.ledger.accounts()} == {"acme", "acme/spring", "acme/spring/line"}
    real.campaigns.update(dearer, "tester")
    assert account(real, "acme/spring").budget_in_force_micros == 9_000_000


def test_a_lost_auction_gives_the_money_back(real):
    real.create()
    bid = real.bid_one()
    assert real.notify(notice(LOSS, bid.token)) == [ACCEPTED]
    assert account(real, "acme/spring").reserved_micros == 0


def test_notices_that_nobody_can_vouch_for(real):
    real.create()
    token = real.bid_one().token
    changed = token[:-2] + ("AA" if token[-2:] != "AA" else "BB")
    for odd in (changed, "never issued", "x" * 256):
        assert real.notify(notice(WIN, odd, 100))[0] in (pb.NOTICE_OUTCOME_FORGED, pb.NOTICE_OUTCOME_REFUSED)
    assert real.notify(notice(WIN, token, 10**12)) == [pb.NOTICE_OUTCOME_DISPUTED]
    real.ledger.check_invariant()


@pytest.mark.parametrize(
    "bad",
    [
        pb.Notice(token="t"),
        pb.Notice(type=9, token="t"),
        pb.Notice(type=WIN),
        pb.Notice(type=WIN, token="t" * 257),
        pb.Notice(type=WIN, token="t", price_cpm_micros=-1),
    ],
)
def test_malformed_notices_are_refused_as_a_whole(real, bad):
    with pytest.raises(InvalidRequestError):
        real.notify(bad)
    with pytest.raises(InvalidRequestError):
        real.notify()
    with pytest.raises(InvalidRequestError):
        real.notify(*[notice(LOSS, "t")] * 1001)


def test_a_budget_is_never_overspent_and_spent_nearly_whole(real, make):
    budget = 500_000
    real.create(limits=campaigns_pb2.Limits(daily_micros=budget))
    reasons = set()
    for n in range(40):
        (answer,) = real.bid(make.bid_request(n_impressions=2, time_ms=make.noon_ms + n))
        for bid in answer.impressions:
            if bid.token:
                real.notify(notice(BILLING, bid.token, bid.bid_cpm_micros))
            else:
                reasons.add(bid.no_bid_reason)
        real.ledger.check_invariant()
    spent = account(real, "acme/spring").billed_micros
    assert budget - 100_000 <= spent <= budget
    assert reasons == {pb.NO_BID_REASON_BUDGET}


def test_a_new_budget_day_begins_at_local_midnight(real, make):
    real.create(limits=campaigns_pb2.Limits(daily_micros=100_000), time_zone="Asia/Tokyo")
    assert real.bid_one(time_ms=make.noon_ms).token
    assert real.bid_one(time_ms=make.noon_ms + 2_000).no_bid_reason == pb.NO_BID_REASON_BUDGET
    midnight_in_tokyo = make.noon_ms + 3 * 3_600_000
    real.now_ms = midnight_in_tokyo
    assert real.bid_one(time_ms=midnight_in_tokyo - 1).no_bid_reason == pb.NO_BID_REASON_BUDGET
    assert real.bid_one(time_ms=midnight_in_tokyo + 1_000).token


def test_the_kill_switch_holds_every_bid(real):
    real.create()
    real.ledger.brake("", "", True, "stop", "tester")
    assert real.bid_one().no_bid_reason == pb.NO_BID_REASON_BRAKE
    real.ledger.brake("", "", False, "go", "tester")
    assert real.bid_one().token


def test_a_fenced_ledger_says_so(real):
    real.create()
    real.ledger.fence("restored", "tester")
    assert real.bid_one().no_bid_reason == pb.NO_BID_REASON_FENCED


def test_a_cut_binds_at_once_and_a_raise_frees(real, make):
    real.create(limits=campaigns_pb2.Limits(lifetime_micros=300_000))
    assert real.bid_one().token
    real.campaigns.update(make.campaign(limits=campaigns_pb2.Limits(lifetime_micros=1)), "tester")
    assert real.bid_one().no_bid_reason == pb.NO_BID_REASON_BUDGET
    real.campaigns.update(make.campaign(limits=campaigns_pb2.Limits(lifetime_micros=10**6)), "tester")
    assert real.bid_one().token
    real.ledger.check_invariant()


def test_a_late_deadline_returns_the_reservation(real):
    real.create()
    reserve = real.ledger.reserve

    def slow(*arguments):
        real.monotonic_s += 1.0
        return reserve(*arguments)

    real.ledger.reserve = slow
    assert real.bid_one(deadline=0.5).no_bid_reason == pb.NO_BID_REASON_INSUFFICIENT_TIME
    assert account(real, "acme/spring").reserved_micros == 0


def fails(*_: object, **__: object) -> None:
    raise RuntimeError("a step after the reservation failed")


@pytest.mark.parametrize(
    "step",
    ["headrace.bidding.draft.Draft.decide", "headrace.bidding.engine.Seen", "headrace.service.bidder._encode"],
)
def test_a_step_that_fails_after_the_reservation_returns_the_money(real, monkeypatch, step):
    real.create()
    monkeypatch.setattr(step, fails)
    with pytest.raises(RuntimeError):
        real.bid_one()
    assert account(real, "acme/spring").reserved_micros == 0


def test_a_candidate_that_fails_returns_what_others_reserved(real, make, monkeypatch):
    real.create(lines=[make.line_item("good"), make.line_item("bad", action_worth_micros=9_000_000)])
    reserve, calls = real.ledger.reserve, []

    def refuse_one_then_fail(accounts, cpm, exchanges, now_ms):
        calls.append(len(accounts))
        if len(calls) > 1:
            fails()
        tokens, reasons = reserve(accounts, cpm, exchanges, now_ms)
        real.ledger.release_reservations(tokens[:1])
        return [None, *tokens[1:]], np.array([1, *reasons[1:]], np.int8)

    monkeypatch.setattr(real.ledger, "reserve", refuse_one_then_fail)
    with pytest.raises(RuntimeError):
        real.bid(make.bid_request(n_impressions=3))
    assert calls == [3, 1]
    assert account(real, "acme/spring").reserved_micros == 0


def test_tokens_that_cannot_be_signed_return_the_money(real, monkeypatch):
    real.create()
    monkeypatch.setattr(real.ledger._keys, "issue", fails)
    with pytest.raises(RuntimeError):
        real.bid_one()
    assert account(real, "acme/spring").reserved_micros == 0


def test_a_batch_that_fails_returns_what_its_companions_reserved(real, make, monkeypatch):
    real.create()
    bid, calls = real.engine.bid, []

    def fail_at_the_second(requests):
        calls.append(requests)
        return bid(requests) if len(calls) < 2 else fails()

    monkeypatch.setattr(real.engine, "bid", fail_at_the_second)
    batch = pb.BidBatchRequest(requests=[make.bid_request()])
    with pytest.raises(RuntimeError):
        real.bidder.bid_batches(Kind.BATCH, real.calls(batch, batch))
    assert account(real, "acme/spring").reserved_micros == 0


def expire(path):
    path.now_ms += 3_600_000
    path.ledger.tick(path.now_ms)
    path.ledger.flush()


def test_a_bill_after_its_reservation_expired_is_late(real):
    real.create(ledger_mode=campaigns_pb2.LEDGER_MODE_EXPIRE)
    bid = real.bid_one()
    expire(real)
    assert account(real, "acme/spring").reserved_micros == 0
    bill = notice(BILLING, bid.token, bid.bid_cpm_micros)
    assert real.notify(bill, bill) == [pb.NOTICE_OUTCOME_LATE, DUPLICATE]
    books = account(real, "acme/spring")
    assert (books.billed_micros, books.late_micros) == (0, -(-bid.bid_cpm_micros // 1000))
    assert real.notify(notice(WIN, bid.token, bid.bid_cpm_micros)) == [DUPLICATE]
    real.ledger.check_invariant()


def test_a_win_after_its_reservation_expired_is_late_and_its_loss_is_not(real):
    real.create(ledger_mode=campaigns_pb2.LEDGER_MODE_EXPIRE)
    bid = real.bid_one()
    expire(real)
    assert real.notify(notice(WIN, bid.token, 100), notice(LOSS, bid.token)) == [pb.NOTICE_OUTCOME_LATE, ACCEPTED]


def test_a_bill_after_a_loss_is_late_in_hold_mode(real):
    real.create()
    bid = real.bid_one()
    said = [notice(LOSS, bid.token), notice(BILLING, bid.token, 1_000), notice(BILLING, bid.token, 1_000)]
    assert real.notify(*said) == [ACCEPTED, pb.NOTICE_OUTCOME_LATE, DUPLICATE]
    assert account(real, "acme/spring").late_micros == 1


def test_a_notice_older_than_the_billing_window_is_refused_and_kept(real):
    real.create()
    bid = real.bid_one()
    real.now_ms += 31 * 86_400_000
    assert real.notify(notice(BILLING, bid.token, 1_000)) == [pb.NOTICE_OUTCOME_REFUSED]
    assert account(real, "acme/spring").billed_micros == 0
    assert real.ledger._store.read("SELECT outcome FROM ledger_reconciliation") == [(pb.NOTICE_OUTCOME_REFUSED,)]


def test_a_bill_before_its_win_counts_once(real):
    real.create()
    bid = real.bid_one()
    price = bid.bid_cpm_micros
    assert real.notify(notice(BILLING, bid.token, price), notice(WIN, bid.token, price)) == [ACCEPTED, DUPLICATE]
    books = account(real, "acme/spring")
    assert (books.billed_micros, books.won_micros, books.reserved_micros) == (-(-price // 1000), 0, 0)


def test_a_notice_by_a_clock_behind_its_bid_counts(real, make):
    real.create()
    bid = real.bid_one(time_ms=make.noon_ms + 300_000)
    assert real.notify(notice(BILLING, bid.token, 1_000)) == [ACCEPTED]


def test_a_notice_of_a_bid_that_the_books_have_not_seen_is_late_and_fences(real, tmp_path, factories, make):
    real.create()
    bid = real.bid_one()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "ledger.keys").write_bytes((tmp_path / "ledger" / "ledger.keys").read_bytes())
    store = Store(folder / "money.db")
    ledger = Ledger(folder, store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    other = make.path(folder, factories.make_artifact(), ledger)
    other.fund()
    other.create()
    assert other.notify(notice(BILLING, bid.token, 1_000)) == [pb.NOTICE_OUTCOME_LATE]
    assert account(other, "acme").billed_micros == 0
    assert other.bid_one().no_bid_reason == pb.NO_BID_REASON_FENCED
    ledger.close()
    store.close()
    other.close()


def test_a_forged_notice_moves_nothing(real):
    real.create()
    bid = real.bid_one()
    before = real.ledger.accounts()
    forged = bid.token[:20] + ("A" if bid.token[20] != "A" else "B") + bid.token[21:]
    for kind in (WIN, BILLING, LOSS):
        assert real.notify(notice(kind, forged, 1_000)) == [pb.NOTICE_OUTCOME_FORGED]
    assert real.ledger.accounts() == before
    assert real.notify(notice(BILLING, bid.token, 1_000)) == [ACCEPTED]


@pytest.mark.parametrize("absurd", [2**63 - 1, 253_402_300_799_999, -(2**63)])
def test_a_replay_outlives_a_request_of_an_absurd_time(real, make, absurd):
    real.create()
    bidder = BidderService(real.engine, real.ledger, real.config, RequestClock(make.noon_ms))
    (refused,) = bidder.bid(Kind.REQUEST, real.calls(make.bid_request(time_ms=absurd)))
    assert isinstance(refused, InvalidRequestError)
    (answer,) = bidder.bid(Kind.REQUEST, real.calls(make.bid_request(time_ms=make.noon_ms)))
    assert pb.BidResponse.FromString(answer).impressions[0].token


def test_an_expired_flight_and_a_budget_of_zero_take_no_money(real, make):
    real.create(flight_start_ms=make.noon_ms - 2_000, flight_end_ms=make.noon_ms)
    real.create(campaign_id="nothing", limits=campaigns_pb2.Limits(lifetime_micros=0))
    assert real.bid_one().no_bid_reason == pb.NO_BID_REASON_BUDGET
    assert account(real, "acme").reserved_micros == 0


def test_every_reason_of_the_ledger_has_one_of_the_contract():
    from headrace.bidding.engine import _REASONS
    from headrace.ledger.ledger import Reason

    assert len(_REASONS) == len(Reason)
    assert set(_REASONS.values()) <= set(pb.NoBidReason.values())
