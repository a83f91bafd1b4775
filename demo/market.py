"""A day of shopping visits as an ad market: one bid request a visit, prices drawn from a stated landscape."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from headrace import Client
from headrace.v1 import bidder_pb2
from shop import Visit

MEDIAN_CPM_MICROS = 4_000_000
SIGMA = 0.6
FLOOR_CPM_MICROS = 500_000
LANDSCAPE = (
    f"log-normal, median {MEDIAN_CPM_MICROS / 1e6:.2f} per thousand impressions, sigma {SIGMA}, "
    f"floor {FLOOR_CPM_MICROS / 1e6:.2f}, second price"
)
MAX_IMPRESSIONS = 5


def market_prices(n: int, seed: int) -> np.ndarray:
    """n highest competing bids, int64 micros per thousand impressions (CPM), never below the floor."""
    prices = MEDIAN_CPM_MICROS * np.exp(SIGMA * np.random.default_rng(seed).standard_normal(n))
    return np.maximum(prices.astype(np.int64), FLOOR_CPM_MICROS)


@dataclass
class Trace:
    """What a campaign's books said through the day."""

    times: list[dt.datetime] = field(default_factory=list)
    spent: list[int] = field(default_factory=list)
    planned: list[int] = field(default_factory=list)


@dataclass
class Day:
    """The outcome of a replayed day; money in micros."""

    requests: int = 0
    impressions: int = 0
    bids: int = 0
    wins: dict[str, int] = field(default_factory=dict)
    expected_purchases: dict[str, float] = field(default_factory=dict)
    no_bids: dict[str, int] = field(default_factory=dict)
    prices_won: list[int] = field(default_factory=list)
    paid_nanos: int = 0
    traces: dict[str, Trace] = field(default_factory=dict)


def replay(client: Client, visits: list[Visit], campaign_ids: list[str], currency: str, seed: int) -> Day:
    """Send each visit as a bid request in time order; settle each bid against its market price at once."""
    day = Day(traces={campaign_id: Trace() for campaign_id in campaign_ids})
    prices = iter(market_prices(sum(impressions_of(visit) for visit in visits), seed))
    every = max(1, len(visits) // 96)
    for number, visit in enumerate(visits):
        response = client.bid(bid_request(visit, currency))
        notices = list(settle(response, prices, day))
        if notices:
            client.notify(notices)
        day.requests += 1
        if number % every == 0 or number == len(visits) - 1:
            record(client, visit.time, day)
    return day


def impressions_of(visit: Visit) -> int:
    return min(visit.n_lines, MAX_IMPRESSIONS)


def bid_request(visit: Visit, currency: str) -> bidder_pb2.BidRequest:
    return bidder_pb2.BidRequest(
        bid_request_id=visit.visit_id,
        user_id=visit.user_id,
        country=visit.country,
        categories=visit.categories[:16],
        time_ms=int(visit.time.timestamp() * 1000),
        exchange="demo",
        currency=currency,
        auction_type=bidder_pb2.AUCTION_TYPE_SECOND_PRICE,
        impressions=[
            bidder_pb2.Impression(impression_id=str(i), floor_cpm_micros=FLOOR_CPM_MICROS, placement="visit")
            for i in range(impressions_of(visit))
        ],
    )


def settle(response: bidder_pb2.BidResponse, prices: Iterator[int], day: Day) -> Iterator[bidder_pb2.Notice]:
    """The exchange's side: a bid wins when it reaches the market price, and pays that price."""
    for bid in response.impressions:
        price = int(next(prices))
        day.impressions += 1
        if not bid.token:
            reason = bidder_pb2.NoBidReason.Name(bid.no_bid_reason).removeprefix("NO_BID_REASON_").lower()
            day.no_bids[reason] = day.no_bids.get(reason, 0) + 1
            continue
        day.bids += 1
        if bid.bid_cpm_micros < price:
            yield bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token=bid.token)
            continue
        day.wins[bid.campaign_id] = day.wins.get(bid.campaign_id, 0) + 1
        expected = day.expected_purchases.get(bid.campaign_id, 0.0)
        day.expected_purchases[bid.campaign_id] = expected + bid.probability
        day.prices_won.append(price)
        day.paid_nanos += price
        for kind in (bidder_pb2.NOTICE_TYPE_WIN, bidder_pb2.NOTICE_TYPE_BILLING):
            yield bidder_pb2.Notice(type=kind, token=bid.token, price_cpm_micros=price)


def record(client: Client, time: dt.datetime, day: Day) -> None:
    for status in client.list_campaigns().campaigns:
        trace = day.traces[status.campaign.campaign_id]
        account = status.accounts[0]
        trace.times.append(time)
        trace.spent.append(account.billed_micros + account.won_micros)
        trace.planned.append(status.planned_spend_micros)
