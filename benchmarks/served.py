"""What is asked of a whole Headrace server, and the server: campaigns, requests, `headrace serve` on its core."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from load import SERVER_CORE, Process

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2, recommender_pb2

RECOMMEND = "/headrace.v1.RecommenderService/Recommend"
BID = "/headrace.v1.BidderService/Bid"
BID_BATCH = "/headrace.v1.BidderService/BidBatch"
BID_STREAM = "/headrace.v1.BidderService/BidStream"

K = 20
N_LINES, PER_COUNTRY = 1000, 10
"""Line items in all, and those that match a request from one country."""

FEW, MANY = "AA", "ZZ"
"""Countries whose requests match 10 line items and 64."""

EXACT = b"bench\x28\x01"
"""What stands in every slate that was searched for: the end of the artifact's name, and the tier."""
TOKEN = b"\x3a\x64AQEA"
"""Field and length of a token, and how each begins: only a bid has one."""


@contextmanager
def serving(
    folder: Path, *flags: str, log: Path | None = None, cores: str = str(SERVER_CORE), **environment: str
) -> Iterator[Process]:
    """`headrace serve` on the artifact of `folder`; data beside it, its log to a file where one is named."""
    command = ["-m", "headrace", "serve", "--artifact", str(folder / "artifacts"), "--data", str(folder / "data")]
    with ExitStack() as stack:
        stderr = stack.enter_context(log.open("w")) if log else None
        command += ["--listen", "127.0.0.1:0", *flags]
        yield stack.enter_context(Process.python(*command, stderr=stderr, cores=cores, **environment))


def fund(address: str, mode: int = campaigns_pb2.LEDGER_MODE_UNSPECIFIED) -> None:
    """One campaign of 1,000 line items: 10 match a request from FEW, 64 one from MANY, the others other countries."""
    countries = [FEW] * 10 + [MANY] * 64
    countries += [chr(66 + n // 10 % 20) + chr(65 + n // 200) for n in range(N_LINES - len(countries))]
    lines = [
        campaigns_pb2.LineItem(
            line_item_id=f"l{n}",
            item_ids=[f"i{(n * 10 + k) % 10_000}" for k in range(10)],
            action_worth_micros=20_000_000,
            targeting=campaigns_pb2.Targeting(countries=[country]),
        )
        for n, country in enumerate(countries)
    ]
    campaign = campaigns_pb2.Campaign(
        campaign_id="c",
        advertiser_id="a",
        limits=campaigns_pb2.Limits(lifetime_micros=10**15),
        line_items=lines,
        ledger_mode=mode,
        pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
    )
    with Client(address) as client:
        client.fund_advertiser("deposit", "a", 10**15)
        client.create_campaign(campaign)


def people(n: int, among: int, seed: int = 1) -> list[str]:
    """Who asks, call by call: uniformly with repetition."""
    return [f"u{row}" for row in random.Random(seed).choices(range(among), k=n)]


def recommend_bodies(user_ids: list[str]) -> list[bytes]:
    """A request of 20 items for each."""
    return [recommender_pb2.RecommendRequest(user_id=name, limit=K).SerializeToString() for name in user_ids]


def bid_requests(user_ids: list[str], country: str = FEW) -> list[bidder_pb2.BidRequest]:
    """A request of one impression for each."""
    return [
        bidder_pb2.BidRequest(
            bid_request_id=f"b{n}",
            user_id=name,
            country=country,
            exchange="adx",
            impressions=[bidder_pb2.Impression(impression_id="1")],
        )
        for n, name in enumerate(user_ids)
    ]


def bid_bodies(user_ids: list[str], country: str = FEW) -> list[bytes]:
    """The same, encoded."""
    return [request.SerializeToString() for request in bid_requests(user_ids, country)]


def batch_bodies(user_ids: list[str], size: int = 256) -> list[bytes]:
    """The same in calls of ``size`` requests."""
    requests = bid_requests(user_ids)
    return [
        bidder_pb2.BidBatchRequest(requests=requests[first : first + size]).SerializeToString()
        for first in range(0, len(requests) - size + 1, size)
    ]
