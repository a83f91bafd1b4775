"""Kill -9 while every door hands out bids and takes bills: what callers were told holds, no money is spent twice."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2

ACCEPTED, DUPLICATE = bidder_pb2.NOTICE_OUTCOME_ACCEPTED, bidder_pb2.NOTICE_OUTCOME_DUPLICATE
BILLING = bidder_pb2.NOTICE_TYPE_BILLING
BUDGET_MICROS = 100_000_000
PRICE_CPM = 4_000_000
KILLS = 2
AT_ONCE = 8


class Callers:
    """Asks for bids over every way there is and bills every other one, until the server has gone.

    bids : tokens that arrived, with their price in CPM micros.   billed : those of which the bill was accepted.
    """

    def __init__(self, address: str, http_port: int) -> None:
        self.bids: dict[str, int] = {}
        self.billed: set[str] = set()
        self.over = threading.Event()
        self.ways = dict.fromkeys(("unary", "batch", "stream", "http"), 0)
        self._address = address
        self._port = http_port
        ways: list[Callable[[], None]] = [self._unary, self._batch, self._stream, self._http]
        self._threads = [threading.Thread(target=self._until_gone, args=(way,)) for way in ways]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()

    def _until_gone(self, way: Callable[[], None]) -> None:
        with contextlib.suppress(grpc.RpcError, grpc.FutureCancelledError, OSError, http.client.HTTPException):
            way()

    def _take(self, way: str, response: bidder_pb2.BidResponse) -> list[bidder_pb2.Notice]:
        taken = {one.token: one.bid_cpm_micros for one in response.impressions if one.token}
        self.bids |= taken
        self.ways[way] += len(taken)
        return [bidder_pb2.Notice(type=BILLING, token=token, price_cpm_micros=price) for token, price in taken.items()][
            ::2
        ]

    def _notify(self, channel: grpc.Channel, notices: list[bidder_pb2.Notice]) -> None:
        request = bidder_pb2.NotifyRequest(notices=notices)
        said = channel.unary_unary(method("Notify"))(request.SerializeToString(), timeout=10)
        outcomes = bidder_pb2.NotifyResponse.FromString(said).outcomes
        for told, outcome in zip(notices, outcomes, strict=True):
            assert outcome == ACCEPTED
            self.billed.add(told.token)

    def _unary(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            bid = channel.unary_unary(method("Bid"))
            while not self.over.is_set():
                calls = [bid.future(request(f"u{n}").SerializeToString(), timeout=5) for n in range(AT_ONCE)]
                calls[0].cancel()
                for call in calls[1:]:
                    notices = self._take("unary", bidder_pb2.BidResponse.FromString(call.result()))
                    if notices:
                        self._notify(channel, notices)

    def _batch(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            batch = bidder_pb2.BidBatchRequest(requests=[request(f"b{n}") for n in range(AT_ONCE)])
            while not self.over.is_set():
                said = channel.unary_unary(method("BidBatch"))(batch.SerializeToString(), timeout=5)
                for response in bidder_pb2.BidBatchResponse.FromString(said).responses:
                    self._take("batch", response)

    def _stream(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            while not self.over.is_set():
                sent = [bidder_pb2.BidStreamRequest(request=request(f"s{n}")) for n in range(4 * AT_ONCE)]
                answers = channel.stream_stream(method("BidStream"))(
                    iter([one.SerializeToString() for one in sent]), timeout=5
                )
                for n, body in enumerate(answers):
                    self._take("stream", bidder_pb2.BidStreamResponse.FromString(body).response)
                    if n == 3 * AT_ONCE:  # and goes away with answers on their way
                        answers.cancel()
                        break

    def _http(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        asked = {"id": "a", "imp": [{"id": "1", "banner": {}}, {"id": "2", "banner": {}}], "at": 1, "tmax": 1000}
        while not self.over.is_set():
            connection.request("POST", "/openrtb2/bid?exchange=adx", json.dumps(asked), JSON)
            answer = connection.getresponse()
            body = answer.read()
            seats = json.loads(body)["seatbid"] if answer.status == 200 else []
            offers = [offer for seat in seats for offer in seat["bid"]]
            for n, offer in enumerate(offers):
                token = re.search("token=([^&]+)", offer["burl"])[1]  # type: ignore[index]
                self.bids[token] = round(offer["price"] * 1_000_000)
                self.ways["http"] += 1
                if n % 2 == 0:
                    url = offer["burl"].replace("${AUCTION_PRICE}", repr(offer["price"]))
                    connection.request("GET", url[url.index("/openrtb2") :].replace("${AUCTION_CURRENCY}", "USD"))
                    told = connection.getresponse()
                    told.read()
                    assert (told.status, told.getheader("x-headrace-outcome")) == (204, "accepted")
                    self.billed.add(token)


JSON = {"content-type": "application/json"}


def method(name: str) -> str:
    return f"/headrace.v1.BidderService/{name}"


def request(name: str) -> bidder_pb2.BidRequest:
    imps = [bidder_pb2.Impression(impression_id=n) for n in "12"]
    first = bidder_pb2.AUCTION_TYPE_FIRST_PRICE
    return bidder_pb2.BidRequest(bid_request_id=name, exchange="adx", impressions=imps, auction_type=first)


@pytest.fixture(params=["native", "grpcio"])
def started(request: pytest.FixtureRequest, start: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    if request.param == "native":
        pytest.importorskip("headrace._door")
    monkeypatch.setenv("HEADRACE_SERVER_DOOR", request.param)
    monkeypatch.setenv("HEADRACE_HTTP_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HEADRACE_BIDDING_MAX_BID_CPM_MICROS", str(PRICE_CPM))
    return start


def open_campaign(client: Client) -> None:
    client.fund_advertiser("deposit-1", "a1", BUDGET_MICROS)
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=900_000_000)
    client.create_campaign(
        campaigns_pb2.Campaign(
            campaign_id="c1",
            advertiser_id="a1",
            limits=campaigns_pb2.Limits(lifetime_micros=BUDGET_MICROS),
            line_items=[line],
            pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
        )
    )


def books(client: Client) -> campaigns_pb2.Account:
    listed = client.list_campaigns()
    accounts = [*listed.advertisers, *(one for status in listed.campaigns for one in status.accounts)]
    for one in accounts:
        used = one.billed_micros + one.won_micros + one.reserved_micros + one.lease_unused_micros
        assert used <= one.budget_in_force_micros, one
    return next(one for one in accounts if one.account_id == "a1/c1")


def outcomes(client: Client, tokens: list[str], bids: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for first in range(0, len(tokens), 1000):
        some = tokens[first : first + 1000]
        found |= set(
            client.notify(
                [bidder_pb2.Notice(type=BILLING, token=token, price_cpm_micros=bids[token]) for token in some]
            ).outcomes
        )
    return found


def test_kill_9_under_every_way_to_bid_breaks_no_promise(started: Callable[[], Any]) -> None:
    bids: dict[str, int] = {}
    billed: set[str] = set()
    server = started()
    open_campaign(server.client)
    for _ in range(KILLS):
        port = int(re.findall(r"OpenRTB over HTTP on \S+:(\d+)", server.log.read_text())[-1])
        callers = Callers(server.address, port)
        end = time.monotonic() + 20
        while time.monotonic() < end and min(callers.ways.values()) < 40:
            threading.Event().wait(0.02)
        assert min(callers.ways.values()) >= 40, callers.ways
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        callers.join()
        bids |= callers.bids
        billed |= callers.billed
        server = started()
        books(server.client)
        assert outcomes(server.client, sorted(billed), bids) == {DUPLICATE}
    # a bill that the kill cut off may have been taken; every other bid's money is still there
    left = sorted(bids.keys() - billed)
    assert outcomes(server.client, left, bids) <= {ACCEPTED, DUPLICATE}
    after = books(server.client)
    assert after.late_micros == after.disputed_micros == 0
    # each bid is paid for once; what it costs is rounded up once a lease
    assert sum(bids.values()) // 1000 <= after.billed_micros <= sum(-(-price // 1000) for price in bids.values())
    assert after.billed_micros <= BUDGET_MICROS
    assert server.stop() == 0
