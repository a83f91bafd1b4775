"""What a real server process learned of prices is there after it was stopped, and a torn snapshot stops nobody."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2

FIRST_PRICE, LOSS = bidder_pb2.AUCTION_TYPE_FIRST_PRICE, bidder_pb2.NOTICE_TYPE_LOSS
SNAPSHOT = "prices.snapshot"


def open_campaign(client: Client) -> None:
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=200_000_000)
    asap = campaigns_pb2.PACING_PLAN_ASAP
    client.fund_advertiser("deposit-1", "a1", 10**12)
    client.create_campaign(
        campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[line], pacing_plan=asap)
    )


def offers(client: Client, name: str) -> list[bidder_pb2.ImpressionBid]:
    impressions = [bidder_pb2.Impression(impression_id=str(n)) for n in range(32)]
    request = bidder_pb2.BidRequest(
        bid_request_id=name, user_id="u1", exchange="adx", auction_type=FIRST_PRICE, impressions=impressions
    )
    return list(client.within(5).bid(request).impressions)


def price(client: Client, name: str) -> int:
    return middle(offers(client, name))


def middle(found: list[bidder_pb2.ImpressionBid]) -> int:
    """The middle one of many bids: a few are drawn at random."""
    return sorted(offer.bid_cpm_micros for offer in found)[len(found) // 2]


def lose(client: Client, first: int) -> int:
    """Lose to prices 1.5 times the first bid until bids have risen towards them; the last bid."""
    minimum, end = first * 3 // 2, time.monotonic() + 20
    for n in range(10_000):
        found = offers(client, f"lost-{n}")
        notices = [
            bidder_pb2.Notice(type=LOSS, token=offer.token, minimum_to_win_cpm_micros=minimum) for offer in found
        ]
        client.notify(notices)
        last = middle(found)
        if last > first * 5 // 4:
            return last
        assert time.monotonic() < end, (first, last)
    raise AssertionError("bids never rose")


def test_prices_are_known_again_after_a_stop(start: Any, tmp_path: Path) -> None:
    server = start()
    open_campaign(server.client)
    first = price(server.client, "first")
    last = lose(server.client, first)
    assert server.stop() == 0
    kept = (tmp_path / "data" / SNAPSHOT).read_bytes()

    again = start()
    assert abs(price(again.client, "again") - last) < 0.15 * last
    assert again.stop() == 0

    (tmp_path / "data" / SNAPSHOT).write_bytes(kept[: len(kept) // 2])
    torn = start()
    assert abs(price(torn.client, "torn") - first) < 0.05 * first
    assert f"{SNAPSHOT} is not used" in torn.log.read_text()
