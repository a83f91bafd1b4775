"""Stopping a real server process in the middle of everything: what was taken is answered, and no money is left over."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import pytest

from headrace import Client, errors
from headrace.v1 import bidder_pb2, campaigns_pb2

STREAM = "/headrace.v1.BidderService/BidStream"
GONE = (errors.UnavailableError, errors.DeadlineError)
"""What a client is told of a call that no server took."""


@pytest.fixture
def server(start: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server with a campaign that bids on everything, over both protocols."""
    monkeypatch.setenv("HEADRACE_HTTP_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HEADRACE_HTTP_BODY_TIMEOUT_S", "60")
    server = start()
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=20_000_000)
    asap = campaigns_pb2.PACING_PLAN_ASAP
    server.client.fund_advertiser("deposit-1", "a1", 10**12)
    server.client.create_campaign(
        campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[line], pacing_plan=asap)
    )
    return server


def http_address(log: Path) -> tuple[str, int]:
    return "127.0.0.1", int(re.findall(r"OpenRTB over HTTP on \S+:(\d+)", log.read_text())[-1])


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.005)


class Traffic:
    """Everything at once, until nobody answers; ``tokens`` are of all bids that came back."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.tokens: list[str] = []
        self.failures: list[BaseException] = []
        self.n_slates = self.n_swaps = self.n_http_bids = self.n_stream_bids = 0
        self.stream_end: grpc.StatusCode | None = None
        self.over = threading.Event()
        jobs = [self.recommend, self.recommend, self.swap, self.bid_over_http, self.bid_on_a_stream]
        self.threads = [threading.Thread(target=self._run, args=(job,)) for job in jobs]
        for thread in self.threads:
            thread.start()

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            self.failures.append(error)

    def join(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def counts(self) -> tuple[int, ...]:
        """What was answered so far, by kind."""
        return self.n_slates, self.n_swaps, self.n_http_bids, self.n_stream_bids

    def recommend(self) -> None:
        with Client(self.server.address) as client:
            while True:
                try:
                    assert len(client.within(1).recommend("u3", limit=10).items) == 10
                except GONE:
                    return
                self.n_slates += 1

    def swap(self) -> None:
        with Client(self.server.address) as client:
            while True:
                wanted = "v1" if self.n_swaps % 2 else "v2"
                try:
                    assert client.reload_artifact(wanted).artifact.version == wanted
                except GONE:
                    return
                self.n_swaps += 1

    def bid_over_http(self) -> None:
        body = json.dumps({"id": "1", "imp": [{"id": "1", "banner": {"w": 1, "h": 1}}], "at": 1, "tmax": 1000}).encode()
        with contextlib.closing(http.client.HTTPConnection(*http_address(self.server.log), timeout=10)) as connection:
            while True:
                try:
                    connection.request("POST", "/openrtb2/bid?exchange=adx", body, {"content-type": "application/json"})
                    answer = connection.getresponse()
                    text = answer.read()
                except (OSError, http.client.HTTPException):
                    return  # the connection is closed: nobody took the request
                if answer.status == 503:
                    return
                for seat in json.loads(text)["seatbid"] if answer.status == 200 else []:
                    self.tokens += parse_qs(urlsplit(seat["bid"][0]["lurl"]).query)["token"]
                    self.n_http_bids += 1

    def bid_on_a_stream(self) -> None:
        """Many requests are on their way at any time; the stream is never closed from this side."""
        impressions = [bidder_pb2.Impression(impression_id="1")]

        def requests() -> Iterator[bytes]:
            while not self.over.wait(0.001):
                for n in range(20):
                    request = bidder_pb2.BidRequest(bid_request_id=str(n), exchange="adx", impressions=impressions)
                    yield bidder_pb2.BidStreamRequest(request=request).SerializeToString()

        with grpc.insecure_channel(self.server.address) as channel:
            answers = channel.stream_stream(STREAM)(requests())
            try:
                for answer in answers:
                    message = bidder_pb2.BidStreamResponse.FromString(answer)
                    self.tokens += [offer.token for offer in message.response.impressions if offer.token]
                    self.n_stream_bids += 1
            except grpc.RpcError as end:
                self.stream_end = end.code()


def give_back(client: Client, tokens: list[str]) -> set[int]:
    """Report bids as lost; the outcomes."""
    outcomes: set[int] = set()
    for first in range(0, len(tokens), 100):
        losses = [
            bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token=token) for token in tokens[first : first + 100]
        ]
        outcomes |= set(client.notify(losses).outcomes)
    return outcomes


def test_sigterm_in_the_middle_of_everything_finishes_it_and_leaves_no_money(server: Any, start: Any) -> None:
    traffic = Traffic(server)
    wait_until(lambda: bool(traffic.failures) or min(traffic.counts()) > 1, seconds=30)
    assert traffic.failures == []
    assert server.stop() == 0
    traffic.join()
    assert traffic.failures == []
    assert traffic.stream_end == grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in server.log.read_text()
    client = start().client
    assert client.list_campaigns().advertisers[0].reserved_micros > 0
    assert give_back(client, traffic.tokens) == {bidder_pb2.NOTICE_OUTCOME_ACCEPTED}
    assert client.list_campaigns().advertisers[0].reserved_micros == 0, "a bid that nobody got kept its money"


def test_a_second_signal_ends_at_once_and_the_books_survive(server: Any, start: Any) -> None:
    request = bidder_pb2.BidRequest(
        bid_request_id="b", exchange="adx", impressions=[bidder_pb2.Impression(impression_id="1")]
    )
    offer = server.client.within(5).bid(request).impressions[0]
    with socket.create_connection(http_address(server.log)) as slow:
        # a request whose body never comes holds up the drain
        slow.sendall(b"POST /openrtb2/bid HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        slow.sendall(b"content-length: 9\r\n\r\n{")
        wait_until(lambda: stands(server))
        server.send(signal.SIGTERM)
        wait_until(lambda: "draining" in server.log.read_text())
        with pytest.raises(Exception, match="timed out"):
            server.process.wait(0.5)
        began = time.monotonic()
        assert server.stop(signal.SIGTERM) == -signal.SIGTERM
        assert time.monotonic() - began < 5
    client = start().client
    assert give_back(client, [offer.token]) == {bidder_pb2.NOTICE_OUTCOME_ACCEPTED}
    assert client.list_campaigns().advertisers[0].reserved_micros == 0


def stands(server: Any) -> bool:
    """Whether the server has read what was sent before: it answers requests that came after."""
    with contextlib.closing(http.client.HTTPConnection(*http_address(server.log), timeout=10)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
