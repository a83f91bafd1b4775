"""A server's metrics as Prometheus reads them: they equal what was sent, and each tenant sees its own."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace import Client, Connection, errors
from headrace.artifacts import ArtifactStore
from headrace.config import Config, load_config
from headrace.front import check_door
from headrace.security.access import KeyedAccess
from headrace.security.keys import create_key
from headrace.security.roles import Role
from headrace.service.dispatch import Gates
from headrace.service.monitor import Monitor
from headrace.service.server import Server, make_admission
from headrace.service.tenants import Tenants
from headrace.telemetry.metrics import FAMILIES, FRESH_S
from headrace.v1 import bidder_pb2, campaigns_pb2, events_pb2

SHOPS = ("shoes", "tea")
DOCS = Path(__file__).parents[2] / "docs"
BUDGET_MICROS = 50_000_000

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Watched:
    """A server of two shops that asks for keys, with its metrics."""

    def __init__(self, config: Config, keys: Path, stack: contextlib.ExitStack) -> None:
        self.keys = {
            name: create_key(keys, role, tenant=tenant, now=datetime.now(UTC))[1]
            for name, role, tenant in (
                ("admin", Role.ADMIN, ""),
                ("shoes", Role.OPERATOR, "shoes"),
                ("tea", Role.OPERATOR, "tea"),
                ("shop", Role.STOREFRONT, "shoes"),
            )
        }
        tenants = stack.enter_context(Tenants(config))
        access = KeyedAccess(keys, config.tenants)
        monitor = stack.enter_context(Monitor(config, tenants.parts()))
        gates = Gates(access=access, admission=make_admission(config.admission), observer=monitor.observer)
        server = Server(tenants.methods(), config, gates)
        self.metrics = monitor.serve(access, {check_door(config.server.door): server.stats})
        self.address = server.start()
        stack.callback(server.drain)
        stack.enter_context(tenants.following(server.set_serving))
        self.stack = stack

    def client(self, key: str, tenant: str = "") -> Client:
        connection = Connection(api_key=self.keys.get(key, key), tenant=tenant)
        return self.stack.enter_context(Client(self.address, connection)).within(10)

    def page(self, key: str = "admin", **headers: str) -> str:
        request = urllib.request.Request(f"http://{self.metrics}/metrics", headers=headers)
        request.add_header("authorization", f"Bearer {self.keys.get(key, key)}")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.headers["content-type"].startswith("text/plain; version=")
            return str(response.read().decode())

    def samples(self, key: str = "admin") -> Samples:
        families = text_string_to_metric_families(self.page(key))
        return {(one.name, frozenset(one.labels.items())): one.value for each in families for one in each.samples}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, factories: ModuleType) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    text = '[server]\nlisten = "127.0.0.1:0"\nworkers = 2\n[telemetry]\nmetrics_listen = "127.0.0.1:0"\n'
    example = Path(__file__).parents[2] / "examples" / "strategies" / "threshold.py"
    text += f'[bidding]\nstrategies = ["{example}:threshold"]\n'
    for seed, shop in enumerate(SHOPS):
        store = ArtifactStore(folder / f"{shop}-artifacts")
        factories.write_artifact(store, f"{shop}-v1", seed=seed)
        store.publish(f"{shop}-v1")
        text += f'[tenants.{shop}]\nartifact = "{store.root}"\ndata = "{folder / shop}"\n'
    (folder / "headrace.toml").write_text(text)
    with contextlib.ExitStack() as stack:
        yield Watched(load_config(folder / "headrace.toml", environment={}), folder / "keys.toml", stack)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, frozenset(labels.items())), 0.0)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(FRESH_S / 5)


def campaign() -> campaigns_pb2.Campaign:
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000)
    limits = campaigns_pb2.Limits(daily_micros=BUDGET_MICROS // 2)
    return campaigns_pb2.Campaign(
        campaign_id="c1",
        advertiser_id="a1",
        limits=limits,
        line_items=[line],
        pacing_plan=campaigns_pb2.PACING_PLAN_EVEN,
    )


def now_ms() -> int:
    # not at import: a whole run takes longer than a request's time may stray
    return time.time_ns() // 1_000_000


def bid(client: Client, name: str, time_ms: int) -> bidder_pb2.ImpressionBid:
    one = bidder_pb2.Impression(impression_id="1")
    return client.bid(
        bidder_pb2.BidRequest(bid_request_id=name, user_id="u1", time_ms=time_ms, impressions=[one])
    ).impressions[0]


def test_numbers_are_those_of_what_was_sent(watched: Watched) -> None:
    shoes = watched.client("admin", "shoes")
    for _ in range(7):
        shoes.recommend("u1")
    for _ in range(2):
        with pytest.raises(errors.InvalidRequestError):
            shoes.recommend("u" * 300)
    shoes.recommend("a stranger")
    for _ in range(3):
        with pytest.raises(errors.UnauthenticatedError):
            watched.client("hr_nobody_knows").recommend("u1")
    with pytest.raises(errors.PermissionDeniedError):
        watched.client("shop").list_campaigns()
    kind = events_pb2.EVENT_TYPE_PURCHASE
    event = events_pb2.Event(event_id="e1", user_id="u1", item_id="i1", type=kind, time_ms=now_ms())
    sequence = shoes.record_events([event]).sequence

    method = {"tenant": "shoes", "method": "RecommenderService/Recommend"}
    until(lambda: value(watched.samples(), "headrace_requests_total", **method, status="OK") == 8)
    until(lambda: value(watched.samples(), "headrace_event_sequence", tenant="shoes") == sequence)
    seen = watched.samples()
    assert value(seen, "headrace_requests_total", **method, status="INVALID_ARGUMENT") == 2
    assert value(seen, "headrace_request_duration_seconds_count", **method) == 10
    assert 0 < value(seen, "headrace_request_duration_seconds_sum", **method) < 60
    assert value(seen, "headrace_batch_calls_sum", **method) == 10
    assert value(seen, "headrace_recommendations_total", tenant="shoes", tier="exact") == 7
    assert value(seen, "headrace_recommendations_total", tenant="shoes", tier="popular") == 1
    unknown = {"tenant": "", "method": "RecommenderService/Recommend", "reason": "unauthenticated"}
    assert value(seen, "headrace_refused_total", **unknown) == 3
    denied = {"tenant": "", "method": "CampaignsService/ListCampaigns", "reason": "permission_denied"}
    assert value(seen, "headrace_refused_total", **denied) == 1
    assert value(seen, "headrace_artifact_info", tenant="shoes", version="shoes-v1") == 1
    assert value(seen, "headrace_store_commit_duration_seconds_count", tenant="shoes") > 0
    assert value(seen, "headrace_recommendations_total", tenant="tea", tier="exact") == 0


def test_money_is_that_of_the_books(watched: Watched) -> None:
    tea = watched.client("admin", "tea")
    tea.fund_advertiser("deposit", "a1", BUDGET_MICROS)
    tea.create_campaign(campaign())
    start_ms = now_ms()
    offers = [bid(tea, f"b{i}", start_ms + 30_000 * i) for i in range(4)]
    tokens = [offer.token for offer in offers if offer.token]
    assert tokens
    win, billing = bidder_pb2.NOTICE_TYPE_WIN, bidder_pb2.NOTICE_TYPE_BILLING
    for type_ in (win, billing, billing):
        tea.notify([bidder_pb2.Notice(type=type_, token=tokens[0], price_cpm_micros=1_000_000)])
    until(lambda: value(watched.samples(), "headrace_notices_total", tenant="tea", outcome="duplicate") == 1)
    seen = watched.samples()
    assert value(seen, "headrace_notices_total", tenant="tea", outcome="accepted") == 2
    assert value(seen, "headrace_bids_total", tenant="tea") == len(tokens)
    no_bids = sum(
        n for (name, labels), n in seen.items() if name == "headrace_no_bids_total" and ("tenant", "tea") in labels
    )
    assert no_bids == len(offers) - len(tokens)
    usd = {"tenant": "tea", "currency": "USD"}
    assert value(seen, "headrace_bid_micros_total", **usd) == sum(offer.bid_cpm_micros for offer in offers) // 1000
    account = {one.account_id: one for one in tea.list_campaigns().advertisers}["a1"]
    assert account.billed_micros == 1000
    for name in ("budget_in_force", "billed", "won", "reserved", "late", "disputed", "stranded"):
        assert value(seen, f"headrace_ledger_{name}_micros", **usd) == getattr(account, f"{name}_micros")
    assert value(seen, "headrace_ledger_overspent_accounts", tenant="tea") == 0
    assert value(seen, "headrace_ledger_owned", tenant="tea") == 1
    of = usd | {"advertiser": "a1", "campaign": "c1"}
    planned, spent = (value(seen, f"headrace_campaign_{name}_micros", **of) for name in ("planned", "spent"))
    assert spent == 1000
    assert planned > 0
    assert value(seen, "headrace_campaign_pacing_error_ratio", **of) == pytest.approx(spent / planned - 1)


def test_an_operator_sees_the_metrics_of_its_tenant_only(watched: Watched) -> None:
    for shop in SHOPS:
        watched.client("admin", shop).recommend("u1")
    until(lambda: all(("headrace_bids_total", frozenset({("tenant", shop)})) in watched.samples() for shop in SHOPS))
    until(lambda: "RecommenderService" in watched.page("tea"))
    for own, other in (SHOPS, SHOPS[::-1]):
        page = watched.page(own)
        assert f'tenant="{own}"' in page
        assert other not in page
        assert 'tenant=""' not in page
        for of_all in ("process_cpu", "headrace_door", "headrace_build"):
            assert of_all not in page
    assert watched.page("admin", **{"headrace-tenant": "tea"}).count("shoes") == 0


@pytest.mark.parametrize(
    ("key", "headers", "status"),
    [
        ("hr_nobody_knows", {}, 401),
        ("shop", {}, 403),
        ("shoes", {"headrace-tenant": "tea"}, 403),
        ("admin", {"headrace-tenant": "nowhere"}, 404),
    ],
)
def test_who_may_not_see_metrics_does_not(watched: Watched, key: str, headers: dict[str, str], status: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        watched.page(key, **headers)
    with refused.value as answer:
        assert answer.code == status
        assert b"headrace_" not in answer.read()


def test_what_is_no_scrape_disturbs_nothing(watched: Watched) -> None:
    host, _, port = watched.metrics.rpartition(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(40)]
    for garbage in (
        b"\x16\x03\x01\x00garbage",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0",
    ):
        for one in idle[:4]:
            with contextlib.suppress(OSError):
                one.sendall(garbage)
    for one in idle:
        one.close()

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return "headrace_build_info" in watched.page()
        return False

    until(answers)


def test_a_served_process_has_metrics(start: Any, artifacts: Path, tmp_path: Path) -> None:
    config = tmp_path / "watched.toml"
    config.write_text(
        f'[server]\nartifact = "{artifacts}"\n[telemetry]\nmetrics_listen = "127.0.0.1:0"\nlog_format = "json"\n'
    )
    server = start(config=config)
    told = [json.loads(line) for line in server.log.read_text().splitlines()]
    address = next(event["message"].split()[-1] for event in told if event["message"].startswith("metrics on"))

    def page() -> str:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as response:
            return str(response.read().decode())

    server.client.recommend("u1")
    server.client.reload_artifact("v2")
    until(lambda: 'headrace_artifact_info{tenant="",version="v2"} 1.0' in page())
    seen = page()
    assert 'headrace_artifact_swaps_total{tenant=""} 1.0' in seen
    assert re.search(
        r'headrace_requests_total\{method="RecommenderService/Recommend",status="OK",tenant=""\} 1\.0', seen
    )
    assert re.search(r'headrace_build_info\{door="(native|grpcio)"', seen)
    assert server.stop() == 0


def exposed(samples: Samples) -> set[str]:
    return {
        re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds_" in name or "batch_calls_" in name else name
        for name, _ in samples
    }


def test_documents_name_what_a_scrape_has(watched: Watched) -> None:
    """docs/metrics.md has every metric and no other; the dashboard and the alerts ask for what is there."""
    shoes = watched.client("admin", "shoes")
    shoes.fund_advertiser("deposit", "a1", BUDGET_MICROS)
    shoes.create_campaign(campaign())
    for i in range(2):
        bid(shoes, f"b{i}", now_ms() + 30_000 * i)
    with pytest.raises(errors.UnauthenticatedError):
        watched.client("hr_nobody_knows").recommend("u1")
    wanted = {"headrace_campaign_pacing_error_ratio", "headrace_refused_total", "headrace_bid_micros_total"}
    until(lambda: wanted <= exposed(watched.samples()))
    seen = exposed(watched.samples())
    known = {family.exposed_name for family in FAMILIES}
    text = (DOCS / "metrics.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(headrace_\w+)` \|", text, re.MULTILINE)) == known
    assert {name for name in seen if name.startswith("headrace_")} <= known
    for family in FAMILIES:
        labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
        assert f"| `{family.exposed_name}` | {family.kind} | {labels} | {family.meaning} |" in text

    dashboard = json.loads((DOCS / "grafana" / "headrace.json").read_text("utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [one["definition"] for one in dashboard["templating"]["list"] if one["type"] == "query"]
    alerts = re.sub(
        r"summary:.*|description:.*|- (alert|name):.*|job=\S*", "", (DOCS / "grafana" / "alerts.yml").read_text("utf-8")
    )
    asked = {
        re.sub(r"_(bucket|sum|count)$", "", name) if "_seconds" in name or "batch_calls" in name else name
        for name in re.findall(r"\b((?:headrace|process)_\w+)", " ".join([*expressions, alerts]))
    }
    # a server that leases from an authority shows more, by its own test (test_serve_authority)
    elsewhere = {name for name in known if name.startswith("headrace_authority_")}
    assert asked <= seen | elsewhere, asked - seen
    # every metric is on the dashboard, too
    assert known <= {name for expression in expressions for name in known if name in expression}
