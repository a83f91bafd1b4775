"""Two shops in one process: what one does, the other neither sees nor feels."""

from __future__ import annotations

import contextlib
import http.client
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace import Client, Connection, errors
from headrace.artifacts import ArtifactStore
from headrace.client import health
from headrace.config import Config, load_config
from headrace.security.access import KeyedAccess
from headrace.security.keys import create_key
from headrace.security.roles import Role
from headrace.service.dispatch import Gates
from headrace.service.monitor import Monitor
from headrace.service.server import Server
from headrace.service.tenants import Tenants
from headrace.v1 import bidder_pb2, campaigns_pb2, catalog_pb2, events_pb2

NOW_MS = time.time_ns() // 1_000_000
SHOPS = ("shoes", "tea")


def write_config(folder: Path, factories: ModuleType) -> tuple[Path, Path]:
    """A configuration of both shops, the artifacts that it names, and where its keys file is to be."""
    text = '[server]\nlisten = "127.0.0.1:0"\nworkers = 2\n[telemetry]\nmetrics_listen = "127.0.0.1:0"\n'
    text += f'[security]\nkeys = "{folder / "keys.toml"}"\n'
    for seed, shop in enumerate(SHOPS):
        store = ArtifactStore(folder / f"{shop}-artifacts")
        for version in ("v1", "v2"):
            factories.write_artifact(store, f"{shop}-{version}", seed=seed)
        store.publish(f"{shop}-v1")
        text += f'[tenants.{shop}]\nartifact = "{store.root}"\ndata = "{folder / shop}"\n'
    file = folder / "headrace.toml"
    file.write_text(text)
    return file, folder / "keys.toml"


class Shops:
    """A server of both, and an admin's client of each by name."""

    def __init__(self, config: Config, keys: Path, stack: contextlib.ExitStack) -> None:
        self.keys = keys
        self.stack = stack
        _, self.of_all = create_key(keys, Role.ADMIN, now=datetime.now(UTC))
        wholes = {shop: create_key(keys, Role.ADMIN, tenant=shop, now=datetime.now(UTC))[1] for shop in SHOPS}
        self.wholes = wholes
        tenants = stack.enter_context(Tenants(config))
        self.access = access = KeyedAccess(keys, config.tenants)
        monitor = stack.enter_context(Monitor(config, tenants.parts()))
        server = Server(tenants.methods(), config, Gates(access=access, observer=monitor.observer))
        self.metrics = monitor.serve(access, {})
        self.address = server.start()
        stack.callback(server.drain)
        stack.enter_context(tenants.following(server.set_serving))
        self.shoes, self.tea = (self.client(wholes[shop]) for shop in SHOPS)

    def scrape(self, key: str, **headers: str) -> tuple[int, str]:
        """Status and page of the metrics."""
        connection = http.client.HTTPConnection(self.metrics, timeout=10)
        connection.request("GET", "/metrics", headers={"x-api-key": key} | headers)
        answer = connection.getresponse()
        with contextlib.closing(connection):
            return answer.status, answer.read().decode()

    def client(self, key: str, tenant: str = "") -> Client:
        return self.stack.enter_context(Client(self.address, Connection(api_key=key, tenant=tenant))).within(10)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory, factories: ModuleType) -> Iterator[Shops]:
    file, keys = write_config(tmp_path_factory.mktemp("shops"), factories)
    with contextlib.ExitStack() as stack:
        yield Shops(load_config(file, environment={}), keys, stack)


def purchase(event_id: str, user_id: str, item_id: str = "i7") -> events_pb2.Event:
    kind = events_pb2.EVENT_TYPE_PURCHASE
    return events_pb2.Event(event_id=event_id, user_id=user_id, item_id=item_id, type=kind, time_ms=NOW_MS)


def test_a_user_of_one_shop_is_a_stranger_in_the_other(shops: Shops) -> None:
    told = shops.shoes.record_events([purchase("e1", "ann"), purchase("e2", "ann", "i8")])
    assert not shops.shoes.recommend("ann", min_sequence=told.sequence).cold_start
    stranger = shops.tea.recommend("ann")
    assert stranger.cold_start
    assert stranger.event_sequence < told.sequence
    with pytest.raises(errors.PreconditionError, match="min_sequence"):
        shops.tea.recommend("ann", min_sequence=told.sequence)


def test_events_of_one_id_are_two_in_two_shops_and_erased_apart(shops: Shops) -> None:
    assert shops.shoes.record_events([purchase("same", "bob")]).duplicates == 0
    assert shops.tea.record_events([purchase("same", "bob")]).duplicates == 0
    assert shops.shoes.erase_person("bob").erased
    assert shops.shoes.recommend("bob").cold_start
    assert not shops.tea.recommend("bob").cold_start


def test_an_item_of_one_shop_is_not_the_other_s(shops: Shops) -> None:
    secret = catalog_pb2.Item(item_id="i5", price_micros=7, attributes={"name": "unreleased boot"})
    shops.shoes.upsert_items(
        [secret, catalog_pb2.Item(item_id="i6", unavailable=True), catalog_pb2.Item(item_id="new")]
    )
    seen = {item.item_id: item for item in shops.tea.recommend("u1", limit=100, include_attributes=True).items}
    own = {item.item_id: item for item in shops.shoes.recommend("u1", limit=100, include_attributes=True).items}
    assert own["i5"].attributes == {"name": "unreleased boot"}
    assert (seen["i5"].attributes, seen["i5"].price_micros) == ({}, 0)
    assert "i6" in seen
    assert "i6" not in own
    assert shops.tea.delete_items(["new"]).deleted == 0


def test_campaigns_money_and_tokens_stay_in_their_shop(shops: Shops) -> None:
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=20_000_000)
    asap = campaigns_pb2.PACING_PLAN_ASAP
    campaign = campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[line], pacing_plan=asap)
    shops.shoes.fund_advertiser("deposit", "a1", 50_000_000)
    shops.shoes.create_campaign(campaign)
    assert not shops.tea.list_campaigns().campaigns
    assert not shops.tea.list_campaigns().advertisers
    with pytest.raises(errors.NotFoundError):
        shops.tea.list_campaigns(campaign_ids=["c1"])
    with pytest.raises(errors.NotFoundError, match="no advertiser"):
        shops.tea.create_campaign(campaign)

    request = bidder_pb2.BidRequest(
        bid_request_id="b1", user_id="u1", impressions=[bidder_pb2.Impression(impression_id="1")]
    )
    offer = shops.shoes.bid(request).impressions[0]
    assert offer.bid_cpm_micros > 0
    assert shops.tea.bid(request).impressions[0].no_bid_reason == bidder_pb2.NO_BID_REASON_NO_MATCH
    loss = bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_LOSS, token=offer.token)
    assert list(shops.tea.notify([loss]).outcomes) == [bidder_pb2.NOTICE_OUTCOME_FORGED]
    shops.tea.set_brake(engaged=True, reason="the other shop must not feel it")
    assert shops.shoes.bid(request).impressions[0].bid_cpm_micros > 0
    assert list(shops.shoes.notify([loss]).outcomes) == [bidder_pb2.NOTICE_OUTCOME_ACCEPTED]


def test_artifacts_are_swapped_apart(shops: Shops) -> None:
    assert shops.tea.reload_artifact("tea-v2").changed
    assert shops.tea.current_artifact().artifact.version == "tea-v2"
    assert shops.shoes.current_artifact().artifact.version == "shoes-v1"
    with pytest.raises(errors.NotFoundError):
        shops.shoes.reload_artifact("tea-v2")


def test_an_admin_of_all_says_which_shop_and_others_only_have_their_own(shops: Shops) -> None:
    for shop in SHOPS:
        version = shops.client(shops.of_all, shop).current_artifact().artifact.version
        assert version.startswith(shop)
    with pytest.raises(errors.NotFoundError, match="headrace-tenant"):
        shops.client(shops.of_all).current_artifact()
    with pytest.raises(errors.NotFoundError, match="tenant: got 'wine'"):
        shops.client(shops.of_all, "wine").current_artifact()


def test_metrics_of_a_shop_are_its_own(shops: Shops) -> None:
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=1)
    for client, name in ((shops.shoes, "boots"), (shops.tea, "oolong")):
        client.fund_advertiser(f"for {name}", f"{name} ltd", 50_000_000)
        client.create_campaign(
            campaigns_pb2.Campaign(campaign_id=f"secret-{name}", advertiser_id=f"{name} ltd", line_items=[line])
        )
        client.recommend("u1")
    for shop, own, other in (("shoes", "boots", "oolong"), ("tea", "oolong", "boots")):
        status, page = shops.scrape(shops.wholes[shop])
        assert status == 200
        assert f'tenant="{shop}"' in page
        assert f"secret-{own}" in page
        assert other not in page
        assert f'tenant="{next(each for each in SHOPS if each != shop)}"' not in page
        _, page = shops.scrape(shops.of_all, **{"headrace-tenant": shop})
        assert other not in page
    status, page = shops.scrape(shops.of_all)
    assert all(f"secret-{name}" in page for name in ("boots", "oolong"))
    assert shops.scrape(shops.wholes["tea"], **{"headrace-tenant": "shoes"})[0] == 403
    assert shops.scrape("hr_no_key")[0] == 401
    storefront = create_key(shops.keys, Role.STOREFRONT, tenant="tea", now=datetime.now(UTC))[1]
    shops.access.refresh()
    assert shops.scrape(storefront)[0] == 403


def test_health_says_that_all_bid(shops: Shops) -> None:
    assert health.check(shops.address, "headrace.v1.BidderService") == "SERVING"


def wait_until_refused(client: Client, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client.current_artifact()
        except errors.UnauthenticatedError:
            return
    pytest.fail("the revoked key is in force")


def test_a_served_process_with_tenants_and_keys(
    headrace: Any, start: Any, tmp_path: Path, factories: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, keys = write_config(tmp_path, factories)
    with monkeypatch.context() as environment:
        environment.setenv("HEADRACE_SECURITY_KEYS", str(keys))
        code, out, err = headrace("keys", "create", "--role", "admin", "--note", "the owner")
    assert code == 0
    whole = out.strip()
    key_id = whole.split("_")[1]
    (tmp_path / "owner.key").write_text(whole + "\n")
    server = start(config=file, data=None)
    assert server.ready_line.startswith("headrace serves artifacts shoes-v1 to shoes, tea-v1 to tea on 127.0.0.1:")
    at = ("--at", server.address, "--tenant", "tea")
    code, _, refused = headrace("reload", *at)
    assert code == 2
    assert headrace("reload", *at, "--key-file", tmp_path / "owner.key")[:2] == (0, "already serving tea-v1\n")
    monkeypatch.setenv("HEADRACE_API_KEY", whole)
    assert headrace("reload", "tea-v2", *at)[:2] == (0, "now serving tea-v2\n")
    listed = f"key\t{key_id}\tadmin\t-\tin force\tnever\tthe owner\n"
    assert headrace("keys", "list", "--file", keys)[:2] == (0, listed)
    assert headrace("keys", "revoke", "--file", keys, key_id)[0] == 0
    with Client(server.address, Connection(api_key=whole, tenant="tea")) as client:
        wait_until_refused(client)
    server.send(signal.SIGHUP)
    assert server.stop() == 0
    assert whole.rpartition("_")[2] not in server.log.read_text() + keys.read_text() + err + refused
