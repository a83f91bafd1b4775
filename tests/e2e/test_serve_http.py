"""A real server process, reached by an exchange over HTTP: bids, notices, and the same books as over gRPC."""

from __future__ import annotations

import http.client
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2

BUDGET_MICROS = 50_000_000
REQUEST = {
    "id": "auction-1",
    "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}, {"id": "2", "video": {"mimes": ["video/mp4"]}}],
    "site": {"id": "s1", "cat": ["IAB1"]},
    "device": {"geo": {"country": "DEU"}},
    "user": {"buyeruid": "u1"},
    "at": 1,
    "tmax": 1000,
    "cur": ["USD"],
}


class Exchange:
    """What an exchange does: one connection, bid requests, and URLs called with their macros replaced."""

    def __init__(self, log: Path) -> None:
        found = re.findall(r"OpenRTB over HTTP on \S+:(\d+)", log.read_text())
        self._connection = http.client.HTTPConnection("127.0.0.1", int(found[-1]), timeout=10)

    def ask(self, verb: str, path: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
        self._connection.request(verb, path, body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        return response.status, response.read(), dict(response.getheaders())

    def bid(self, **fields: Any) -> list[dict[str, Any]]:
        status, body, headers = self.ask("POST", "/openrtb2/bid?exchange=adx", json.dumps(REQUEST | fields).encode())
        if status == 204:
            return []
        assert (status, headers["content-type"], headers["x-openrtb-version"]) == (200, "application/json", "2.6"), body
        return [bid for seat in json.loads(body)["seatbid"] for bid in seat["bid"]]

    def tell(self, url: str, price: str = "") -> int:
        url = url.replace("${AUCTION_PRICE}", price).replace("${AUCTION_CURRENCY}", "USD")
        return self.ask("GET", url[url.index("/openrtb2") :].replace("${AUCTION_LOSS}", "102"))[0]

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def server(start: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HEADRACE_HTTP_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("HEADRACE_HTTP_PUBLIC_URL", "https://bid.example.com")
    server = start()
    server.client.fund_advertiser("deposit-1", "a1", BUDGET_MICROS)
    for name in ("c1", "c2"):
        server.client.create_campaign(campaign(name))
    return server


@pytest.fixture
def exchange(server: Any) -> Any:
    exchange = Exchange(server.log)
    yield exchange
    exchange.close()


def campaign(name: str) -> campaigns_pb2.Campaign:
    """c1 is for the exchange over HTTP, c2 for the one over gRPC, by the country that they send."""
    targeting = campaigns_pb2.Targeting(countries=[{"c1": "DE", "c2": "FR"}[name]])
    line = campaigns_pb2.LineItem(
        line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000, targeting=targeting
    )
    return campaigns_pb2.Campaign(
        campaign_id=name,
        advertiser_id="a1",
        limits=campaigns_pb2.Limits(lifetime_micros=BUDGET_MICROS // 2),
        line_items=[line],
        pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
    )


def books(client: Client, name: str) -> dict[str, int]:
    listed = client.list_campaigns()
    account = {one.account_id: one for status in listed.campaigns for one in status.accounts}[f"a1/{name}"]
    fields = ("billed_micros", "won_micros", "reserved_micros", "late_micros", "disputed_micros")
    return {field: getattr(account, field) for field in fields}


def settle_over_grpc(client: Client, price: int) -> None:
    """The same two impressions: one won and billed, one lost."""
    imps = [bidder_pb2.Impression(impression_id=name) for name in "12"]
    first = bidder_pb2.AUCTION_TYPE_FIRST_PRICE
    request = bidder_pb2.BidRequest(
        bid_request_id="b", user_id="u1", country="FR", exchange="adx", impressions=imps, auction_type=first
    )
    won, lost = client.within(5).bid(request).impressions
    said = [(won, "WIN", price), (won, "BILLING", price), (lost, "LOSS", None)]
    for offer, kind, paid in said:
        number = bidder_pb2.NoticeType.Value(f"NOTICE_TYPE_{kind}")
        notice = bidder_pb2.Notice(type=number, token=offer.token, price_cpm_micros=paid)
        assert list(client.notify([notice]).outcomes) == [bidder_pb2.NOTICE_OUTCOME_ACCEPTED]


def test_bid_win_bill_and_loss_leave_the_books_as_over_grpc(server: Any, exchange: Exchange) -> None:
    won, lost = exchange.bid()
    assert (won["cid"], won["impid"], won["mtype"], lost["mtype"]) == ("c1", "1", 1, 2)
    assert won["nurl"].startswith("https://bid.example.com/openrtb2/win?token=")
    assert books(server.client, "c1")["reserved_micros"] > 0
    price = "0.7654321"
    assert [exchange.tell(won["nurl"], price), exchange.tell(won["burl"], price)] == [204, 204]
    assert exchange.tell(lost["lurl"]) == 204
    assert exchange.tell(won["burl"], price) == 204  # a duplicate counts once
    settle_over_grpc(server.client, 765_433)
    assert books(server.client, "c1") == books(server.client, "c2")
    assert books(server.client, "c1")["billed_micros"] == 766
    assert books(server.client, "c1")["reserved_micros"] == 0


def test_purchases_are_reported_as_json(server: Any, exchange: Exchange) -> None:
    won, lost = exchange.bid()
    assert exchange.tell(won["nurl"], "0.5") == exchange.tell(lost["lurl"]) == 204
    tokens = [re.search(r"token=([^&]+)", each["burl"])[1] for each in (won, lost)]  # type: ignore[index]
    actions = [{"action_id": f"order {n}", "token": token, "count": 2} for n, token in enumerate(tokens)]
    status, body, _ = exchange.ask("POST", "/v1/actions", json.dumps({"actions": actions}).encode())
    assert (status, json.loads(body)) == (200, {"outcomes": ["ACTION_OUTCOME_ACCEPTED", "ACTION_OUTCOME_NOT_WON"]})
    assert exchange.ask("POST", "/v1/actions", b'{"actions": []}')[0] == 400
    assert exchange.ask("POST", "/v1/actions", b"none")[0] == 400
    (action,) = server.client.explain_bid(tokens[0]).actions
    assert (action.count, action.worth_micros) == (2, 0)


def test_wrong_notices_move_no_money(server: Any, exchange: Exchange) -> None:
    won, _ = exchange.bid()
    before = books(server.client, "c1")
    token = re.search(r"token=([^&]+)", won["burl"])[1]  # type: ignore[index]
    forged = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    assert exchange.tell(f"/openrtb2/bill?token={forged}&price=1") == 403
    assert exchange.tell("/openrtb2/bill?token=none&price=1") == 400
    assert exchange.tell("/openrtb2/bill?price=1") == 400
    assert exchange.ask("HEAD", f"/openrtb2/bill?token={token}&price=1")[0] == 405
    assert exchange.ask("POST", f"/openrtb2/bill?token={token}&price=1", b"{}")[0] == 405
    assert books(server.client, "c1") == before
    # the macro was not replaced: the money may be gone, so it is told apart
    assert exchange.tell(f"/openrtb2/bill?token={token}&price=%24%7BAUCTION_PRICE%7D") == 204
    assert books(server.client, "c1")["billed_micros"] == before["billed_micros"]


def test_wrong_requests_have_their_code_and_right_ones_go_on(server: Any, exchange: Exchange) -> None:
    assert exchange.ask("POST", "/openrtb2/bid", b"{")[0] == 400
    assert exchange.ask("POST", "/openrtb2/bid", json.dumps(REQUEST | {"imp": []}).encode())[0] == 400
    assert exchange.ask("GET", "/openrtb2/bid")[0] == 405
    assert exchange.ask("POST", "/openrtb2/nothing", b"{}")[0] == 404
    status, body, headers = exchange.ask("POST", "/openrtb2/bid", json.dumps(REQUEST | {"cur": ["EUR"]}).encode())
    assert (status, body, headers["x-openrtb-nbr"]) == (204, b"", "508")
    assert len(exchange.bid()) == 2
    reserved = books(server.client, "c1")["reserved_micros"]
    status, _, headers = exchange.ask("POST", "/openrtb2/bid", json.dumps(REQUEST | {"tmax": 1}).encode())
    assert (status, headers["x-openrtb-nbr"]) == (204, "15")  # less than the network takes
    assert books(server.client, "c1")["reserved_micros"] == reserved


def test_health_and_a_clean_stop(server: Any, exchange: Exchange) -> None:
    assert exchange.ask("GET", "/healthz")[0] == 200
    assert exchange.ask("GET", "/readyz")[0] == 200
    assert server.stop(signal.SIGTERM) == 0
    assert "Traceback" not in server.log.read_text()
