"""A real server process: money, bids, notices, kill -9, and two processes at one ledger."""

from __future__ import annotations

import resource
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from headrace import Client, errors
from headrace.client import health
from headrace.v1 import bidder_pb2, campaigns_pb2, events_pb2

ACCEPTED, DUPLICATE = bidder_pb2.NOTICE_OUTCOME_ACCEPTED, bidder_pb2.NOTICE_OUTCOME_DUPLICATE
BIDDER = "headrace.v1.BidderService"
BUDGET_MICROS = 50_000_000
NOT_OWNER = bidder_pb2.NO_BID_REASON_LEDGER_NOT_OWNER


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.01)


def campaign() -> campaigns_pb2.Campaign:
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000)
    return campaigns_pb2.Campaign(
        campaign_id="c1",
        advertiser_id="a1",
        limits=campaigns_pb2.Limits(lifetime_micros=BUDGET_MICROS),
        line_items=[line],
        pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
    )


def open_campaign(client: Client) -> None:
    client.fund_advertiser("deposit-1", "a1", BUDGET_MICROS)
    client.create_campaign(campaign())


def bid(client: Client, name: str, user_id: str = "u1") -> bidder_pb2.ImpressionBid:
    request = bidder_pb2.BidRequest(
        bid_request_id=name, user_id=user_id, exchange="adx", impressions=[bidder_pb2.Impression(impression_id="1")]
    )
    return client.within(5).bid(request).impressions[0]


def notice(kind: int, offer: bidder_pb2.ImpressionBid, price: int | None = None) -> bidder_pb2.Notice:
    return bidder_pb2.Notice(type=kind, token=offer.token, price_cpm_micros=price)  # type: ignore[arg-type]


def account(client: Client, name: str = "a1/c1") -> campaigns_pb2.Account:
    listed = client.list_campaigns()
    return {one.account_id: one for status in listed.campaigns for one in status.accounts}[name]


def invariant(client: Client) -> None:
    listed = client.list_campaigns()
    for one in [*listed.advertisers, *(one for status in listed.campaigns for one in status.accounts)]:
        used = one.billed_micros + one.won_micros + one.reserved_micros + one.lease_unused_micros
        assert used <= one.budget_in_force_micros, one


def test_from_money_to_a_settled_bid(start: Any) -> None:
    client: Client = start().client
    assert bid(client, "b0").no_bid_reason == bidder_pb2.NO_BID_REASON_NO_MATCH
    open_campaign(client)
    offers = [bid(client, f"b{n}") for n in range(1, 21)]
    assert {offer.campaign_id for offer in offers} == {"c1"}
    assert all(offer.bid_cpm_micros > 0 and offer.token and offer.item_id in ("i1", "i2") for offer in offers)
    price = offers[0].bid_cpm_micros // 2
    won = [notice(bidder_pb2.NOTICE_TYPE_WIN, offer, price) for offer in offers[:10]]
    lost = [notice(bidder_pb2.NOTICE_TYPE_LOSS, offer) for offer in offers[10:]]
    assert list(client.notify([*won, *lost]).outcomes) == [ACCEPTED] * 20
    billed = [notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, price) for offer in offers[:10]]
    assert list(client.notify(billed).outcomes) == [ACCEPTED] * 10
    assert list(client.notify(billed).outcomes) == [DUPLICATE] * 10
    after = account(client)
    assert after.billed_micros == pytest.approx(10 * price / 1000, abs=10)
    assert (after.won_micros, after.reserved_micros) == (0, 0)
    invariant(client)


def test_first_bids_keep_the_default_deadline(start: Any) -> None:
    request = bidder_pb2.BidRequest(
        bid_request_id="b1", user_id="u1", impressions=[bidder_pb2.Impression(impression_id="1")]
    )
    first = start()
    open_campaign(first.client)
    assert first.client.bid(request).impressions[0].bid_cpm_micros > 0
    assert first.stop() == 0
    assert start().client.bid(request).impressions[0].bid_cpm_micros > 0


def test_brake_and_pause_stop_bids_and_survive_a_restart(start: Any) -> None:
    server = start()
    open_campaign(server.client)
    server.client.set_brake(engaged=True, reason="a test")
    assert bid(server.client, "b1").no_bid_reason == bidder_pb2.NO_BID_REASON_BRAKE
    assert server.stop() == 0
    client: Client = start().client
    assert bid(client, "b2").no_bid_reason == bidder_pb2.NO_BID_REASON_BRAKE
    client.set_brake(engaged=False, reason="a test")
    assert bid(client, "b3").bid_cpm_micros > 0
    client.pause_campaign("c1")
    assert bid(client, "b4").no_bid_reason == bidder_pb2.NO_BID_REASON_BUDGET


def test_an_operator_fences_the_ledger_and_closes_a_reservation(start: Any) -> None:
    client: Client = start().client
    open_campaign(client)
    offer = bid(client, "b1")
    assert account(client).reserved_micros > 0
    assert client.close_reservation(offer.token, price_cpm_micros=2_000, reason="a test").outcome == ACCEPTED
    assert (account(client).reserved_micros, account(client).billed_micros) == (0, 2)
    with pytest.raises(errors.NotFoundError, match="lease_id"):
        client.close_reservation(lease_id=1, reason="a test")
    client.set_fence(engaged=True, reason="a test")
    assert bid(client, "b2").no_bid_reason == bidder_pb2.NO_BID_REASON_FENCED
    client.set_fence(engaged=False, reason="a test")
    assert bid(client, "b3").bid_cpm_micros > 0
    invariant(client)


def test_errors_of_campaigns_name_what_is_wrong(start: Any) -> None:
    client: Client = start().client
    with pytest.raises(errors.NotFoundError, match="fund it first"):
        client.create_campaign(campaign())
    open_campaign(client)
    with pytest.raises(errors.AlreadyExistsError, match="c1"):
        client.create_campaign(campaign())
    forged = bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token="no token of ours")
    assert list(client.notify([forged]).outcomes) in (
        [bidder_pb2.NOTICE_OUTCOME_FORGED],
        [bidder_pb2.NOTICE_OUTCOME_REFUSED],
    )


def test_forged_late_repeated_and_early_notices(start: Any) -> None:
    client: Client = start().client
    open_campaign(client)
    early, late, kept = (bid(client, f"b{n}") for n in range(3))
    price = early.bid_cpm_micros // 2
    win, bill, loss = bidder_pb2.NOTICE_TYPE_WIN, bidder_pb2.NOTICE_TYPE_BILLING, bidder_pb2.NOTICE_TYPE_LOSS
    assert list(client.notify([notice(bill, early, price), notice(win, early, price)]).outcomes) == [
        ACCEPTED,
        DUPLICATE,
    ]
    said = [notice(loss, late), notice(bill, late, price), notice(bill, late, price)]
    assert list(client.notify(said).outcomes) == [ACCEPTED, bidder_pb2.NOTICE_OUTCOME_LATE, DUPLICATE]
    forged = notice(bill, kept, price)
    forged.token = kept.token[:30] + ("A" if kept.token[30] != "A" else "B") + kept.token[31:]
    assert list(client.notify([forged]).outcomes) == [bidder_pb2.NOTICE_OUTCOME_FORGED]
    books = account(client)
    assert books.billed_micros == -(-price // 1000)
    assert books.late_micros == -(-price // 1000)
    assert books.reserved_micros == -(-kept.bid_cpm_micros // 1000)
    invariant(client)


def test_kill_9_loses_no_settled_money(start: Any) -> None:
    server = start()
    open_campaign(server.client)
    offers = [bid(server.client, f"b{n}") for n in range(30)]
    price = offers[0].bid_cpm_micros
    bills = [notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, price) for offer in offers[:15]]
    assert list(server.client.notify(bills).outcomes) == [ACCEPTED] * 15
    before = account(server.client)
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    client: Client = start().client
    after = account(client)
    assert after.billed_micros == before.billed_micros
    assert after.budget_in_force_micros == before.budget_in_force_micros
    invariant(client)
    assert list(client.notify(bills).outcomes) == [DUPLICATE] * 15
    rest = [notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, price) for offer in offers[15:]]
    assert list(client.notify(rest).outcomes) == [ACCEPTED] * 15
    assert account(client).billed_micros == pytest.approx(2 * before.billed_micros, abs=2)
    assert bid(client, "again").bid_cpm_micros > 0
    invariant(client)


def test_second_process_bids_once_the_first_has_drained(start: Any) -> None:
    first = start()
    open_campaign(first.client)
    offer = bid(first.client, "b1")
    second = start()
    assert bid(second.client, "b2").no_bid_reason == NOT_OWNER
    assert health.check(second.address, BIDDER) == "NOT_SERVING"
    assert health.check(second.address) == "SERVING"
    assert second.client.recommend("u1").items
    with pytest.raises(errors.LedgerNotOwnerError, match="owns the ledger"):
        second.client.pause_campaign("c1")
    assert first.stop() == 0
    wait_until(lambda: health.check(second.address, BIDDER) == "SERVING")
    assert bid(second.client, "b3").bid_cpm_micros > 0
    bill = notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, offer.bid_cpm_micros)
    assert list(second.client.notify([bill]).outcomes) == [ACCEPTED]
    invariant(second.client)


def test_second_process_bids_after_the_first_was_killed(start: Any) -> None:
    first = start()
    open_campaign(first.client)
    second = start()
    assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: bid(second.client, "b1").bid_cpm_micros > 0)
    invariant(second.client)


def test_edit_reaches_the_other_process(start: Any) -> None:
    first = start()
    second = start()
    open_campaign(first.client)
    wait_until(lambda: len(second.client.list_campaigns().campaigns) == 1)


def test_swapping_artifacts_keeps_bidding(start: Any) -> None:
    server = start()
    open_campaign(server.client)
    assert bid(server.client, "b1").bid_cpm_micros > 0
    assert server.client.reload_artifact("v2").changed
    request = bidder_pb2.BidRequest(bid_request_id="b2", impressions=[bidder_pb2.Impression(impression_id="1")])
    assert server.client.within(5).bid(request).artifact_version == "v2"


def limit_file_size(server: Any, n_bytes: int) -> None:
    """What a full device does to a process, without filling one: writes beyond the size fail."""
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (n_bytes if n_bytes else hard, hard))


def test_full_disk_refuses_what_must_be_kept_and_goes_on_recommending(start: Any) -> None:
    server = start()
    client: Client = server.client
    open_campaign(client)
    offer = bid(client, "b1")
    event = events_pb2.Event(
        event_id="e1", user_id="u1", item_id="i1", type=events_pb2.EVENT_TYPE_VIEW, time_ms=1_700_000_000_000
    )
    limit_file_size(server, 1)
    with pytest.raises(errors.StoreFullError, match="nothing was lost"):
        client.record_events([event])
    with pytest.raises(errors.StoreFullError):
        client.notify([notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, offer.bid_cpm_micros)])
    assert bid(client, "b2").no_bid_reason == bidder_pb2.NO_BID_REASON_JOURNAL_UNAVAILABLE
    assert len(client.recommend("u1").items) == 20
    limit_file_size(server, 0)
    assert client.record_events([event]).accepted == 1
    wait_until(lambda: bid(client, "b3").bid_cpm_micros > 0)
    bill = notice(bidder_pb2.NOTICE_TYPE_BILLING, offer, offer.bid_cpm_micros)
    assert list(client.notify([bill]).outcomes) == [ACCEPTED]
    invariant(client)
