"""OpenRTB requests to bids and back, over one bidding path."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headrace.errors import InvalidRequestError, PermissionDeniedError
from headrace.front import Call, Reply
from headrace.front.settings import HttpConfig
from headrace.service.notices import NoticeUrls, read_notice
from headrace.service.openrtb import BID_PATH, OpenRtbService, bid_route, exchange_of
from headrace.v1 import campaigns_pb2 as pb

BASE = "https://bid.example.com/openrtb2"


def request(**fields: Any) -> dict[str, Any]:
    banner = {"w": 300, "h": 250}
    return {"id": "auction-1", "imp": [{"id": "1", "banner": banner}], "at": 1, "site": {"id": "s"}, **fields}


def impressions(*several: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": str(n), "banner": {}, **fields} for n, fields in enumerate(several, 1)]


class Rig:
    """One service over one path."""

    def __init__(self, path: Any, **options: Any) -> None:
        self.path = path
        clock = {"monotonic": lambda: path.monotonic_s}
        self.service = OpenRtbService(path.engine, lambda: path.now_ms, BASE, expires_s=3600, **clock, **options)
        self.urls = NoticeUrls(path.bidder)

    def call(self, body: Any, deadline: float = float("inf"), **metadata: str) -> Call:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Call(BID_PATH, raw, deadline, "127.0.0.1:1", metadata, None)

    def answer(self, body: Any, deadline: float = float("inf"), **metadata: str) -> Any:
        return self.service.bid([self.call(body, deadline, **metadata)])[0]

    def bid(self, **fields: Any) -> Any:
        reply = self.answer(request(**fields))
        assert isinstance(reply, Reply), reply
        return json.loads(reply.body) if reply.body else None

    def nbr(self, **fields: Any) -> str:
        reply = self.answer(request(**fields))
        assert reply.body == b"", reply
        return str(dict(reply.headers)["x-openrtb-nbr"])

    def notice(self, url: str) -> Any:
        path, _, query = url.partition("?")
        call = Call(path.replace(BASE, "/openrtb2"), query.encode(), float("inf"), "", {}, None)
        return self.urls.settle([call])[0]


@pytest.fixture
def rig(path: Any) -> Rig:
    path.create()
    return Rig(path)


def check_response(asked: dict[str, Any], given: dict[str, Any]) -> None:
    """Fields that OpenRTB 2.6 requires, of the types it requires."""
    assert given["id"] == asked["id"]
    assert isinstance(given["cur"], str)
    assert given["seatbid"]
    known = {impression["id"] for impression in asked["imp"]}
    for seat in given["seatbid"]:
        assert seat["bid"]
        for bid in seat["bid"]:
            assert {"id", "impid", "price", "nurl", "burl", "lurl", "adid", "cid", "crid", "mtype", "exp"} == set(bid)
            assert bid["impid"] in known
            assert isinstance(bid["price"], float)
            assert bid["price"] > 0
            assert bid["mtype"] in (1, 2, 3, 4)
            assert all(bid[url].startswith("https://") for url in ("nurl", "burl", "lurl"))


def test_a_bid_is_that_of_the_same_request_over_grpc(rig: Rig) -> None:
    asked = request()
    given = rig.bid()
    check_response(asked, given)
    (bid,) = given["seatbid"][0]["bid"]
    twin = rig.path.bid_one(auction_type=1)
    assert round(bid["price"] * 1e6) == twin.bid_cpm_micros
    assert (bid["cid"], bid["crid"], given["seatbid"][0]["seat"]) == ("spring", twin.item_id, "acme")
    assert given["cur"] == "USD"
    assert len(rig.path.ledger.open) == 2


def test_formats_are_named(rig: Rig) -> None:
    offered = [{"banner": {}}, {"video": {}}, {"audio": {}}, {"native": {}}]
    imps = [{"id": str(n), **media} for n, media in enumerate(offered)]
    bids = rig.bid(imp=imps)["seatbid"][0]["bid"]
    assert [bid["mtype"] for bid in bids] == [1, 2, 3, 4]


BAD = {
    "nothing": b"",
    "malformed JSON": b'{"id": "1", "imp": [',
    "no UTF-8": b'{"id": "\xff\xfe", "imp": [{"id": "1", "banner": {}}]}',
    "a lone surrogate": b'{"id": "\\ud800", "imp": [{"id": "1", "banner": {}}]}',
    "deep nesting": b'{"id": "1", "ext": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "NaN": b'{"id": "1", "imp": [{"id": "1", "banner": {}, "bidfloor": NaN}]}',
    "a number out of range": b'{"id": "1", "imp": [{"id": "1", "banner": {}, "bidfloor": 1e400}]}',
    "a huge whole number": b'{"id": "1", "imp": [{"id": "1", "banner": {}}], "at": ' + b"9" * 400 + b"}",
    "a negative floor": json.dumps(request(imp=impressions({"bidfloor": -1}))).encode(),
    "no impressions": json.dumps(request(imp=[])).encode(),
    "too many impressions": json.dumps(request(imp=impressions(*[{}] * 65))).encode(),
    "one impression twice": json.dumps(request(imp=impressions({}, {"id": "1"}))).encode(),
    "no format": json.dumps(request(imp=[{"id": "1"}])).encode(),
    "no id": json.dumps({"imp": impressions({})}).encode(),
    "a text for a number": json.dumps(request(at="first")).encode(),
    "a NUL in the user's id": json.dumps(request(user={"id": "a\0b"})).encode(),
    "a list": b"[]",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_requests_fail_alone_and_reserve_nothing(rig: Rig, body: bytes) -> None:
    good = rig.call(request())
    first, bad, last = rig.service.bid([good, rig.call(body), good])
    assert isinstance(bad, InvalidRequestError)
    assert isinstance(first, Reply)
    assert isinstance(last, Reply)
    assert first.body
    assert last.body
    assert len(rig.path.ledger.open) == 2


def test_unknown_fields_and_nulls_are_passed_over(rig: Rig) -> None:
    nothing = dict.fromkeys(("user", "device", "app", "regs", "cur", "wseat", "bseat", "tmax", "test", "bcat"))
    assert rig.bid(**nothing, ext={"deep": [{"x": 1.5}]}, source={"tid": "t"})["seatbid"]


def test_why_there_is_no_bid(rig: Rig) -> None:
    assert rig.nbr(cur=["EUR"]) == "508"
    assert rig.nbr(imp=impressions({"bidfloor": 10_000.0})) == "503"
    assert rig.nbr(imp=impressions({"bidfloor": 1.0, "bidfloorcur": "EUR"}), cur=["USD"]) == "508"
    assert rig.nbr(test=1) == "501"
    assert rig.nbr(wseat=["another"]) == "501"
    assert rig.nbr(bseat=["acme"]) == "501"
    late = rig.answer(request(), deadline=rig.path.monotonic_s - 1)
    assert ("x-openrtb-nbr", "15") in late.headers
    rig.path.ledger.owned = False
    assert rig.nbr() == "1"
    assert not rig.path.ledger.open


def test_no_bids_are_explained_where_the_settings_say_so(rig: Rig) -> None:
    said = Rig(rig.path, explain=True).bid(cur=["EUR"])
    assert said == {"id": "auction-1", "nbr": 508}


def test_impressions_with_a_floor_in_another_currency_are_left_out(rig: Rig) -> None:
    given = rig.bid(imp=impressions({"bidfloor": 0.1, "bidfloorcur": "EUR"}, {"bidfloor": 0.1}), cur=["USD", "EUR"])
    assert given is None  # the first floor names the currency, and there is no budget in it
    given = rig.bid(imp=impressions({"bidfloor": 0.1}, {"bidfloor": 0.1, "bidfloorcur": "EUR"}), cur=["USD", "EUR"])
    assert [bid["impid"] for bid in given["seatbid"][0]["bid"]] == ["1"]


def test_targeting_reads_country_categories_and_segments(path: Any) -> None:
    path.create(lines=[targeted(countries=["DE"], categories=["IAB1"], user_segments=["s9"])])
    rig = Rig(path)
    fit = {
        "device": {"geo": {"country": "DEU"}},
        "app": {"sectioncat": ["IAB1"]},
        "site": None,
        "user": {"id": "x", "data": [{"segment": [{"id": "s1"}, {"id": "s9"}]}]},
    }
    assert rig.bid(**fit)["seatbid"]
    assert rig.bid(**fit | {"device": {"geo": {"country": "FRA"}}}) is None
    assert rig.bid(**fit | {"app": {"cat": ["IAB2"]}}) is None
    assert rig.bid(**fit | {"user": {"id": "x"}}) is None
    assert rig.bid(**fit, regs={"gdpr": 1}) is None  # segments are personal, too


def targeted(**targeting: Any) -> pb.LineItem:
    return pb.LineItem(
        line_item_id="line", item_ids=["i0"], action_worth_micros=10_000_000, targeting=pb.Targeting(**targeting)
    )


def test_names_of_persons(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    decide = rig.path.engine.bid
    monkeypatch.setattr(rig.path.engine, "bid", lambda columns: asked.append(columns) or decide(columns))
    rig.bid(user={"buyeruid": "shopper", "id": "x"})
    rig.bid(user={"id": "x"})
    rig.bid(user={"buyeruid": "shopper"}, regs={"coppa": 1})
    rig.bid()
    assert [columns.names for columns in asked] == [["shopper"], ["\0x"], [""], [""]]


def test_the_exchange_is_named_by_the_endpoint() -> None:
    assert exchange_of("") == exchange_of("a=b") == ""
    assert exchange_of("a=b&exchange=adx") == "adx"


def test_versions(rig: Rig) -> None:
    assert ("x-openrtb-version", "2.6") in rig.answer(request(), **{"x-openrtb-version": "2.5"}).headers
    assert isinstance(rig.answer(request(), **{"x-openrtb-version": "3.0"}), InvalidRequestError)


def test_answers_never_sent_give_their_money_back(rig: Rig) -> None:
    calls = [rig.call(request(imp=impressions({}, {}))), rig.call(request(cur=["EUR"]))]
    bodies = [reply.body for reply in rig.service.bid(calls) if isinstance(reply, Reply)]
    assert len(rig.path.ledger.open) == 2
    rig.service.take_back(calls, bodies)
    assert not rig.path.ledger.open


def test_a_failure_while_answering_gives_the_money_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "headrace.service.openrtb.media_of", lambda impression: 1 if not rig.path.ledger.open else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        rig.answer(request())
    assert not rig.path.ledger.open


def test_the_door_reads_the_time_left() -> None:
    left = bid_route(HttpConfig(network_ms=20)).time_left
    assert left is not None
    assert left(b'{"tmax": 120, "ext": {"tmax": 5}}') == pytest.approx(0.1)
    assert [left(b) for b in (b"{}", b'{"tmax": null}', b"{", b'{"tmax": -5}', b"\xff", b"[" * 200_000)] == [None] * 6


def fill(url: str, price: str, currency: str = "USD") -> str:
    return url.replace("${AUCTION_PRICE}", price).replace("${AUCTION_CURRENCY}", currency)


def test_notices_settle(rig: Rig) -> None:
    (won, lost) = rig.bid(imp=impressions({}, {}))["seatbid"][0]["bid"]
    price = "1.25"
    for url in (won["nurl"], won["burl"]):
        assert rig.notice(fill(url, price)).headers == (("x-headrace-outcome", "accepted"),)
    assert rig.notice(fill(won["burl"], price)).headers == (("x-headrace-outcome", "duplicate"),)
    assert rig.notice(lost["lurl"].replace("${AUCTION_LOSS}", "102")).body == b""
    assert not rig.path.ledger.open
    assert rig.path.ledger.spent_of["acme", -1] == 1250


@pytest.mark.parametrize(
    ("query", "price"),
    [
        ("token=t&price=1.5", 1_500_000),
        ("token=t&price=0.0000011&currency=USD&bid_currency=USD", 2),
        ("token=t&price=1.5&currency=EUR&bid_currency=USD", None),
        ("token=t&price=1.5&currency=${AUCTION_CURRENCY}&bid_currency=USD", 1_500_000),
        ("token=t&price=${AUCTION_PRICE}", None),
        ("token=t&price=%24%7BAUCTION_PRICE%7D", None),
        ("token=t&price=nan", None),
        ("token=t&price=-1", None),
        ("token=t", None),
        ("token=%ff%00&price=1", 1_000_000),
    ],
)
def test_a_price_that_cannot_be_read_is_left_to_the_ledger_as_unknown(query: str, price: int | None) -> None:
    assert read_notice("/openrtb2/bill", query.encode())[2] == (-1 if price is None else price)


@pytest.mark.parametrize(
    ("said", "minimum"),
    [
        ("1.25", 1_250_000),
        ("0.0000011", 2),
        ("0", -1),
        ("-1", -1),
        ("nan", -1),
        ("${AUCTION_MIN_TO_WIN}", -1),
        ("", -1),
        ("9e9", 9 * 10**15),
    ],
)
@pytest.mark.parametrize("path", ["/openrtb2/win", "/openrtb2/bill", "/openrtb2/loss"])
def test_a_minimum_to_win_is_read_of_any_notice_or_taken_as_not_told(path: str, said: str, minimum: int) -> None:
    assert read_notice(path, f"token=t&price=1&min_to_win={said}".encode())[3] == minimum


def test_forged_and_missing_tokens_are_refused(rig: Rig) -> None:
    for query in ("token=forged&price=1", "price=1", ""):
        assert isinstance(rig.notice(f"{BASE}/bill?{query}"), PermissionDeniedError)


def test_shed_calls_hear_of_the_time(rig: Rig) -> None:
    (reply,) = rig.service.shed([rig.call(request())])
    assert isinstance(reply, Reply)
    assert ("x-openrtb-nbr", "15") in reply.headers
