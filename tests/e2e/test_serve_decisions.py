"""A real server records what it decides; its bids are explained while it runs, after a kill -9, and once erased."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, errors
from headrace.decisions.reading import read_recording
from headrace.v1 import bidder_pb2, campaigns_pb2, events_pb2


def open_campaign(client: Client) -> None:
    client.fund_advertiser("deposit-1", "a1", 50_000_000)
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000)
    abroad = campaigns_pb2.LineItem(line_item_id="abroad", item_ids=["i1"], action_worth_micros=20_000_000)
    abroad.targeting.countries.append("FR")
    campaign = campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[line, abroad])
    campaign.pacing_plan = campaigns_pb2.PACING_PLAN_ASAP
    client.create_campaign(campaign)


def bid(client: Client, name: str, **fields: Any) -> bidder_pb2.ImpressionBid:
    request = bidder_pb2.BidRequest(
        bid_request_id=name, exchange="adx", impressions=[bidder_pb2.Impression(impression_id="1")], **fields
    )
    return client.within(5).bid(request).impressions[0]


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "headrace", *arguments], capture_output=True, text=True, timeout=60)


def test_a_bid_is_explained_by_the_running_server_and_its_command(start: Any) -> None:
    server = start()
    client: Client = server.client
    open_campaign(client)
    offer = bid(client, "b1", country="DE")
    won = bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_WIN, token=offer.token, price_cpm_micros=4_000)
    client.notify([won])
    action = bidder_pb2.Action(
        action_id="order 1", token=offer.token, time_ms=1_760_000_000_000, worth_micros=5_000_000
    )
    assert client.report_actions([action]).outcomes == [bidder_pb2.ACTION_OUTCOME_ACCEPTED]
    assert client.report_actions([action]).outcomes == [bidder_pb2.ACTION_OUTCOME_DUPLICATE]
    answer = client.explain_bid(offer.token)
    assert (answer.bid_cpm_micros, answer.exchange, answer.recomputed) == (offer.bid_cpm_micros, "adx", True)
    assert (answer.would_have_won_at_cpm_micros, answer.price_source) == (4_000, bidder_pb2.PRICE_SOURCE_PAID)
    reasons = {each.line_item_id: each.reason for each in answer.candidates}
    assert reasons == {"l1": bidder_pb2.CANDIDATE_REASON_BID, "abroad": bidder_pb2.CANDIDATE_REASON_COUNTRY}
    assert client.explain_bid(bid_request_id="b1") == answer
    shown = headrace("explain", "--token", offer.token, "--at", server.address, "--json")
    assert (shown.returncode, json.loads(shown.stdout)["would_have_won_at_cpm_micros"]) == (0, "4000")
    told = headrace("explain", "--request-id", "b1", "--at", server.address)
    assert "c1/abroad: COUNTRY; needed one of countries: FR" in told.stdout
    assert "purchases reported: 1 at 2025-10-09T08:53:20+00:00, each worth 5000000 micros" in told.stdout
    unknown = headrace("explain", "--token", "nobody's", "--at", server.address)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "a decision that is recorded" in unknown.stderr


def test_records_survive_a_kill_9(start: Any) -> None:
    server = start()
    open_campaign(server.client)
    offers = [bid(server.client, f"b{n}") for n in range(20)]
    assert server.client.explain_bid(offers[-1].token).recomputed  # all before it are written, too
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    client: Client = start().client
    assert all(client.explain_bid(offer.token).recomputed for offer in offers)


def test_who_is_erased_is_in_no_record(start: Any, tmp_path: Path) -> None:
    server = start()
    client: Client = server.client
    open_campaign(client)
    event = events_pb2.Event(
        event_id="e1", user_id="somebody", item_id="i1", type=events_pb2.EVENT_TYPE_VIEW, time_ms=1_700_000_000_000
    )
    client.record_events([event])
    offer, other = bid(client, "b1", user_id="somebody"), bid(client, "b2")
    client.explain_bid(offer.token)
    assert [key != 0 for key in read_recording(tmp_path / "data").auctions["subject"]] == [True, False]
    client.erase_person("somebody")
    assert server.stop() == 0
    client = start().client
    assert set(read_recording(tmp_path / "data").auctions["subject"]) == {0}
    assert client.explain_bid(offer.token).recomputed  # what is left is campaigns and amounts
    with pytest.raises(errors.NotFoundError):
        client.explain_bid(bid_request_id="b1")
    assert client.explain_bid(bid_request_id="b2").bid_cpm_micros == other.bid_cpm_micros


def test_the_records_of_a_server_are_run_again_and_measured(start: Any, headrace_train: Any, tmp_path: Path) -> None:
    server = start()
    client: Client = server.client
    open_campaign(client)
    offers = [bid(client, f"b{n}") for n in range(12)]
    kinds = (bidder_pb2.NOTICE_TYPE_WIN, bidder_pb2.NOTICE_TYPE_LOSS)
    told = [
        bidder_pb2.Notice(type=kinds[n % 2], token=offer.token, price_cpm_micros=1_000 if n % 2 == 0 else None)
        for n, offer in enumerate(offers)
    ]
    told[1].minimum_to_win_cpm_micros = 10**12
    client.notify(told)
    assert server.stop() == 0
    (tmp_path / "none.toml").write_text('[campaigns."*"]\npaused = true\n')
    _, out, _ = headrace_train(
        "rerun", "--records", tmp_path / "data", "--parameters", tmp_path / "none.toml", "--json"
    )
    again = json.loads(out)
    assert (again["recorded"]["bids"], again["base"]["bids"], again["changed"]["bids"]) == (12.0, 12.0, 0.0)
    assert again["recorded"]["wins"] == 6.0
    _, out, _ = headrace_train("regret", "--records", tmp_path / "data", "--out", tmp_path / "regret.html", "--json")
    (campaign,) = json.loads(out)["campaigns"]
    lost = sum(share for share in campaign["parts"].values() if share is not None)
    assert campaign["share_of_optimum"] + lost == pytest.approx(1.0)
    assert campaign["parts"]["prediction"] is None
    assert campaign["known_price_share"] == pytest.approx(7 / 12)
    assert (tmp_path / "regret.html").exists()
