"""Two shops behind one HTTP address: each exchange bids by its key, and notices reach the shop of their path alone."""

from __future__ import annotations

import http.client
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from headrace import Client, Connection
from headrace.artifacts import ArtifactStore
from headrace.security.keys import create_key
from headrace.security.roles import Role
from headrace.v1 import campaigns_pb2

SHOPS = ("shoes", "tea")
BODY = json.dumps({"id": "a1", "imp": [{"id": "1", "banner": {"w": 1, "h": 1}}], "at": 1, "tmax": 1000}).encode()


class TwoShops:
    """A server process of both; ``keys`` are those of the exchanges, by shop."""

    def __init__(self, start: Any, folder: Path, factories: ModuleType) -> None:
        text = '[http]\nlisten = "127.0.0.1:0"\npublic_url = "https://bid.example.com"\n'
        text += f'[security]\nkeys = "{folder / "keys.toml"}"\n'
        for seed, shop in enumerate(SHOPS):
            store = ArtifactStore(folder / f"{shop}-artifacts")
            factories.write_artifact(store, "v1", seed=seed)
            store.publish("v1")
            text += f'[tenants.{shop}]\nartifact = "{store.root}"\ndata = "{folder / shop}"\n'
        (folder / "headrace.toml").write_text(text)
        file, now = folder / "keys.toml", datetime.now(UTC)
        self.keys = {shop: create_key(file, Role.AD_PLATFORM, tenant=shop, now=now)[1] for shop in SHOPS}
        self.owner = create_key(file, Role.ADMIN, now=now)[1]
        self.server = start(config=folder / "headrace.toml", data=None)
        self.port = int(re.findall(r"OpenRTB over HTTP on \S+:(\d+)", self.server.log.read_text())[-1])
        line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=20_000_000)
        asap = campaigns_pb2.PACING_PLAN_ASAP
        for shop in SHOPS:
            with self.client(shop) as client:
                client.fund_advertiser("deposit", "a1", 10**9)
                client.create_campaign(
                    campaigns_pb2.Campaign(
                        campaign_id=f"of-{shop}", advertiser_id="a1", line_items=[line], pacing_plan=asap
                    )
                )

    def client(self, shop: str) -> Client:
        return Client(self.server.address, Connection(api_key=self.owner, tenant=shop))

    def ask(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(verb, path, body, {"content-type": "application/json"} | named)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def bid(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.ask("POST", path, BODY, **headers)

    def tell(self, url: str, instead: str = "") -> int:
        """Call a notice URL, with another shop in its path where one is named."""
        parts = urlsplit(url.replace("${AUCTION_PRICE}", "0.5").replace("${AUCTION_CURRENCY}", "USD"))
        path = re.sub("/(shoes|tea)/", f"/{instead}/", parts.path) if instead else parts.path
        return self.ask("GET", f"{path}?{parts.query}")[0]

    def books(self, shop: str) -> tuple[int, int, int]:
        """Billed, won and reserved micros of the advertiser."""
        with self.client(shop) as client:
            (advertiser,) = client.list_campaigns("a1").advertisers
        return advertiser.billed_micros, advertiser.won_micros, advertiser.reserved_micros


@pytest.fixture
def shops(start: Any, tmp_path: Path, factories: ModuleType) -> TwoShops:
    return TwoShops(start, tmp_path, factories)


def test_each_exchange_bids_for_its_shop_and_is_billed_there(shops: TwoShops) -> None:
    offers = {}
    for shop in SHOPS:
        status, answer = shops.bid("/openrtb2/bid?exchange=adx", x_api_key=shops.keys[shop])
        assert status == 200
        offers[shop] = answer["seatbid"][0]["bid"][0]
        assert offers[shop]["cid"] == f"of-{shop}"
        assert offers[shop]["burl"].startswith(f"https://bid.example.com/openrtb2/{shop}/bill?token=")
    before = {shop: shops.books(shop) for shop in SHOPS}
    assert all(reserved > 0 for _, _, reserved in before.values())

    # a key of one shop neither bids nor reads for the other, and no key does nothing
    assert shops.bid("/openrtb2/bid", x_api_key=shops.keys["shoes"], headrace_tenant="tea")[0] == 403
    assert shops.bid("/openrtb2/tea/bid", x_api_key=shops.keys["shoes"])[0] in (403, 404)
    assert shops.bid("/openrtb2/bid")[0] == 401
    # a token of one shop is forged to the other, whatever the notice
    for kind in ("nurl", "burl", "lurl"):
        assert shops.tell(offers["shoes"][kind], instead="tea") == 403
        assert shops.tell(offers["tea"][kind], instead="shoes") == 403
        assert shops.tell(offers["tea"][kind], instead="wine") == 404
    assert {shop: shops.books(shop) for shop in SHOPS} == before

    assert [shops.tell(offers["shoes"][kind]) for kind in ("nurl", "burl")] == [204, 204]
    assert shops.tell(offers["tea"]["lurl"]) == 204
    assert shops.books("shoes") == (500, 0, 0)
    assert shops.books("tea") == (0, 0, 0)
    assert shops.server.stop() == 0
