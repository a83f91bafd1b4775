"""Real server processes that spend one budget: edits, brakes and notices through any of them, kills, outages."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from headrace import Client
from headrace.errors import PreconditionError
from headrace.telemetry.metrics import FAMILIES
from headrace.v1 import bidder_pb2, campaigns_pb2

BUDGET_MICROS = 50_000_000
LEFT_MICROS = 2_000_000
ACCEPTED = bidder_pb2.NOTICE_OUTCOME_ACCEPTED
UNREACHABLE = bidder_pb2.NO_BID_REASON_AUTHORITY_UNREACHABLE


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.01)


def configured(folder: Path, artifacts: Path, url: str, more: str = "") -> Path:
    file = folder / "headrace.toml"
    file.write_text(f'[server]\nartifact = "{artifacts}"\n[authority]\nurl = "{url}"\ntimeout_ms = 60000\n{more}')
    return file


def together(start: Any, folders: list[Path], config: Path) -> list[Any]:
    """Start servers at the same time, which make the authority's tables at the same time."""
    with ThreadPoolExecutor(len(folders)) as threads:
        return list(threads.map(lambda folder: start(folder, config=config), folders))


def open_campaign(client: Client) -> None:
    client.fund_advertiser("deposit-1", "a1", BUDGET_MICROS)
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000)
    client.create_campaign(
        campaigns_pb2.Campaign(
            campaign_id="c1", advertiser_id="a1", line_items=[line], pacing_plan=campaigns_pb2.PACING_PLAN_ASAP
        )
    )


def bid(client: Client, name: str) -> bidder_pb2.ImpressionBid:
    request = bidder_pb2.BidRequest(
        bid_request_id=name, user_id="u1", exchange="adx", impressions=[bidder_pb2.Impression(impression_id="1")]
    )
    return client.within(60).bid(request).impressions[0]


def win(client: Client, name: str) -> bidder_pb2.ImpressionBid:
    """Bid until money was allotted."""
    offers: list[bidder_pb2.ImpressionBid] = []

    def won() -> bool:
        offers.append(bid(client, name))
        return bool(offers[-1].bid_cpm_micros > 0)

    wait_until(won)
    return offers[-1]


def bill(client: Client, offer: bidder_pb2.ImpressionBid, price: int) -> int:
    notice = bidder_pb2.Notice(type=bidder_pb2.NOTICE_TYPE_BILLING, token=offer.token, price_cpm_micros=price)
    return int(client.notify([notice]).outcomes[0])


def spend(*clients: Client) -> None:
    """Bid with all of them until nearly all of the advertiser's money is reserved; a bid is a hundred thousand."""

    def spent() -> bool:
        for client in clients:
            bid(client, "s")
        of = account(clients[0])
        return of.billed_micros + of.won_micros + of.reserved_micros > 0.9 * LEFT_MICROS

    wait_until(spent)


def cut(client: Client, entry: str, micros: int) -> None:
    """Refund, again while others have not given back enough in its time."""

    def done() -> bool:
        with suppress(PreconditionError):
            client.fund_advertiser(entry, "a1", -micros)
            return True
        return False

    wait_until(done)


def account(client: Client, name: str = "a1") -> campaigns_pb2.Account:
    return {one.account_id: one for one in client.list_campaigns().advertisers}[name]


def command(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "headrace", *words], capture_output=True, text=True, check=True)
    return done.stdout


def test_four_servers_spend_one_budget(start: Any, tmp_path: Path, artifacts: Path) -> None:
    config = configured(tmp_path, artifacts, f"sqlite:///{tmp_path}/authority.db")
    servers = together(start, [tmp_path / f"data{i}" for i in range(4)], config)
    clients: list[Client] = [server.client for server in servers]
    open_campaign(clients[0])
    # a campaign made through one is bid for by all
    offers = [win(client, f"b{i}") for i, client in enumerate(clients)]
    # a bill that comes to another process than the bidder's is settled by the bidder's
    assert [bill(clients[(i + 1) % 4], offer, 1_000_000) for i, offer in enumerate(offers)] == [ACCEPTED] * 4
    wait_until(lambda: account(clients[2]).billed_micros == 4_000)
    # the kill switch through one reaches all
    clients[1].set_brake(engaged=True, reason="a test")
    wait_until(lambda: all(bid(client, "x").no_bid_reason == bidder_pb2.NO_BID_REASON_BRAKE for client in clients))
    clients[3].set_brake(engaged=False, reason="a test")
    # one is killed: its money waits for it, and a bill of its bid, too
    last = win(clients[0], "b9")
    servers[0].stop(signal.SIGKILL)
    assert bill(clients[1], last, 2_000_000) == ACCEPTED
    again = start(tmp_path / "data0", config=config)
    wait_until(lambda: account(again.client).billed_micros == 6_000)
    # a cut through one binds all
    cut(clients[1], "back", BUDGET_MICROS - LEFT_MICROS)
    spend(again.client, *clients[1:])
    assert "the books balance" in command("authority", "check", "--config", str(config))
    assert command("authority", "holders", "--config", str(config)).count("live") == 4
    for server in [again, *servers[1:]]:
        assert server.stop() == 0
    listed = command("authority", "holders", "--config", str(config))
    assert listed.count("gone") == 4
    allotted, used = (sum(int(line.split("\t")[n]) for line in listed.splitlines()[1:]) for n in (3, 4))
    assert 0.9 * LEFT_MICROS < allotted == used <= LEFT_MICROS  # what was not used went back


def test_servers_outlive_their_authority(start: Any, postgres: Any, tmp_path: Path, artifacts: Path) -> None:
    url = postgres.new_database()
    metrics = '[telemetry]\nmetrics_listen = "127.0.0.1:0"\n'
    config = configured(tmp_path, artifacts, url, metrics)
    one, two = together(start, [tmp_path / f"data{i}" for i in range(2)], config)
    open_campaign(one.client)
    mine, other = win(one.client, "b1"), win(two.client, "b1")
    postgres.crash()
    try:
        assert bid(one.client, "b2").bid_cpm_micros > 0  # from what is allotted, until that is used up
        assert bill(one.client, other, 1_000_000) == ACCEPTED  # kept here for the other
        assert bill(one.client, mine, 1_000_000) == ACCEPTED
        wait_until(lambda: bid(one.client, "b3").no_bid_reason == UNREACHABLE)
        page = read_metrics(tmp_path / "server.log")
        assert re.search(r"headrace_authority_reachable\S* 0", page)
        for family in FAMILIES:
            if family.exposed_name.startswith("headrace_authority_"):
                assert f"# TYPE {family.exposed_name} " in page
        doctor = subprocess.run(
            [sys.executable, "-m", "headrace", "doctor", "--config", str(config)], capture_output=True, text=True
        )
        assert "the authority does not answer" in doctor.stdout
    finally:
        postgres.start()
    win(one.client, "b4")
    wait_until(lambda: account(one.client).billed_micros == 2_000)
    assert "balance" in command("authority", "check", "--config", str(config))


def read_metrics(log: Path) -> str:
    """The page of the first server that says where it is."""
    found = re.search(r"metrics on ([0-9.:]+)", log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://{found[1]}/metrics") as page:
        text: str = page.read().decode()
    return text
