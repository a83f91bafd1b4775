"""The ledger's proof beside a running server: audit, certificate, export, and a bill file settled through it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2

BUDGET_MICROS = 50_000_000


def headrace(*arguments: str, code: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "headrace", "ledger", *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def bids(client: Client, n_bids: int) -> list[bidder_pb2.ImpressionBid]:
    client.fund_advertiser("deposit-1", "a1", BUDGET_MICROS)
    line = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1", "i2"], action_worth_micros=20_000_000)
    client.create_campaign(
        campaigns_pb2.Campaign(
            campaign_id="c1", advertiser_id="a1", line_items=[line], pacing_plan=campaigns_pb2.PACING_PLAN_ASAP
        )
    )
    impressions = [bidder_pb2.Impression(impression_id="1")]
    made = [
        client.within(5).bid(bidder_pb2.BidRequest(bid_request_id=f"b{n}", exchange="adx", impressions=impressions))
        for n in range(n_bids)
    ]
    return [answer.impressions[0] for answer in made]


def test_a_running_servers_money_is_proved_and_its_bill_settled(start: Any, tmp_path: Path) -> None:
    server = start()
    data = str(tmp_path / "data")
    offers = bids(server.client, 6)
    assert all(offer.token for offer in offers)
    price = offers[0].bid_cpm_micros // 2
    kind = bidder_pb2.NOTICE_TYPE_BILLING
    server.client.notify([bidder_pb2.Notice(type=kind, token=offers[0].token, price_cpm_micros=price)])
    bill = tmp_path / "bill.csv"
    bill.write_text("token,price_cpm_micros\n" + "".join(f"{offer.token},{price}\n" for offer in offers[:4]))
    asked = ["reconcile", "--data", data, "--bills", str(bill), "--exchange", "adx", "--complete", "--json"]
    asked += ["--from", "2000-01-01", "--until", "2100-01-01"]
    settle = [*asked, "--apply", "--who", "ann", "--why", "bill of May", "--at", server.address]
    first = json.loads(headrace(*settle, code=1))
    assert first["classes"]["missing_in_ours"]["rows"] == 3
    assert first["classes"]["unclaimed"]["rows"] == 2
    assert first["applied"] == {"ACCEPTED": 5}
    again = json.loads(headrace(*settle))
    assert (again["classes"].keys(), again["applied"]) == ({"equal"}, {})
    stated = server.client.list_campaigns().campaigns[0].accounts[0]
    assert (stated.billed_micros, stated.reserved_micros) == (-(-4 * price // 1000), 0)
    audited = json.loads(headrace("audit", "--data", data, "--json"))
    assert audited["differences"] == []
    (campaign,) = (one for one in audited["accounts"] if one["account_id"] == "a1/c1")
    assert campaign["billed_micros"] == stated.billed_micros
    assert "a1/c1 (USD, hold): over: 0 micros; late: 0 bills, 0 micros" in headrace("certificate", "--data", data)
    headrace("export", "--data", data, "--to", str(tmp_path / "archive"))
    exported = json.loads(headrace("audit", "--journal", str(tmp_path / "archive"), "--json"))
    assert exported["differences"] == []
