"""The demo: from a year of purchases to a served recommendation and a paced bid.

``python demo/run.py [--data online_retail.parquet] [--households N]``; ``make demo`` runs it. It calls the two commands
as a user would, and the server over gRPC; what it makes stays in ``demo/out`` and ``demo/report.html``.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import market
import report
from headrace import Client
from headrace.client import Slate
from headrace.v1 import campaigns_pb2, catalog_pb2, events_pb2
from shop import Shop, complete_journey, online_retail

HERE = Path(__file__).parent
OUT = HERE / "out"
BIN = Path(sys.executable).parent
ADVERTISER = "demo-brand"
WORTH_MICROS = 2_000_000
SEED = 20


def say(text: str = "") -> None:
    print(text, flush=True)


def heading(number: int, text: str) -> None:
    say(f"\n── {number}. {text} " + "─" * max(0, 90 - len(text)))


def train(*arguments: str | Path) -> dict[str, object]:
    """Run ``headrace-train``; its progress goes to the terminal, its JSON comes back."""
    command = [BIN / "headrace-train", *arguments, "--json"]
    say("$ headrace-train " + " ".join(_short(argument) for argument in arguments))
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, check=True, text=True)
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def _short(argument: str | Path) -> str:
    return str(argument.relative_to(HERE.parent)) if isinstance(argument, Path) else argument


@contextmanager
def server(artifact: Path, data: Path) -> Iterator[Client]:
    """``headrace serve`` on a free port; stopped by SIGTERM, and its exit code must be 0."""
    say("$ headrace serve --artifact demo/out/store --data demo/out/data --config demo/serve.toml")
    command = [str(BIN / "headrace"), "serve", "--artifact", str(artifact), "--data", str(data)]
    command += ["--config", str(HERE / "serve.toml")]
    process = subprocess.Popen([*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = process.stdout.readline().strip()
        if not ready:
            raise SystemExit(f"the server did not start: exit code {process.wait()}")
        say(ready)
        address = next(word for word in ready.replace(",", " ").split() if word.startswith("127.0.0.1:"))
        with Client(address) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    if code:
        raise SystemExit(f"the server ended with exit code {code}")
    say("The server drained and ended with exit code 0.")


def ingest(shop: Shop, name: str, table: pa.Table) -> None:
    path = OUT / f"{name}.parquet"
    pq.write_table(table, path)
    summary = train("ingest", path, "--mapping", shop.mapping, "--log", OUT / "log")
    say("   " + ", ".join(f"{key} {value:,}" for key, value in summary.items() if isinstance(value, int)))


def fit() -> dict[str, object]:
    heading(2, "Train and publish")
    prices = OUT / "auctions.csv"
    np.savetxt(prices, market.market_prices(20_000, seed=1) / 1e6, fmt="%.6f", header="price_cpm", comments="")
    fitted = train("fit", "--log", OUT / "log", "--store", OUT / "store", "--auctions", prices)
    if fitted["report"]:
        say(f"   what was tried, learned and measured: {os.path.relpath(str(fitted['report']))}")
    published = train("publish", "--store", OUT / "store")
    say(f"   published {published['current']}")
    return train("show", "--store", OUT / "store")


def held_out(shop: Shop, alpha: float) -> list[tuple[str, dict[str, float]]]:
    """Recall and ndcg of the served model, with the alpha that its training chose, and of the baselines."""
    from headrace_training.evaluate_log import evaluate_log
    from headrace_training.ingest import open_log
    from headrace_training.settings import FitSettings

    heading(3, f"The weeks from {shop.split:%Y-%m-%d} on, which training has not seen")
    ingest(shop, "later", shop.between(shop.split, None))
    log = open_log(OUT / "log")
    try:
        found = evaluate_log(log, int(shop.split.timestamp() * 1000), FitSettings(alpha=alpha))
    finally:
        log.store.close()
    users = found.pop("users")
    everything, new = f"all items, {users['all']:.0f} {shop.person}s", f"new to the {shop.person}, {users['new']:.0f}"
    say(f"   {'':18}{everything:>30}{new:>30}")
    say(f"   {'':18}" + f"{'recall@20':>15}{'ndcg@20':>15}" * 2)
    for name, row in found.items():
        say(f"   {name:18}" + "".join(f"{value:15.4f}" for value in row.values()))
    return list(found.items())


def recommend(client: Client, shop: Shop, people: Sequence[str]) -> None:
    heading(4, f"Recommend for three {shop.person}s over gRPC")
    for person in people:
        slate = client.recommend(person, limit=5, include_attributes=True)
        say(f"   {shop.person} {person} ({slate.tier.name.lower()}, artifact {slate.artifact_version})")
        for item in slate.items:
            say(f"      {item.score:6.3f}  {item.attributes.get('name', item.item_id)}")


def record(client: Client, shop: Shop, person: str, item_id: str, now: dt.datetime) -> None:
    heading(5, "An event changes the next answer")
    before = client.recommend(person, limit=1000, include_attributes=True)
    say(f"   {shop.person} {person} buys “{shop.names.get(item_id, item_id)}” for the first time")
    answer = client.record_events(
        [
            events_pb2.Event(
                event_id="demo-purchase-1",
                user_id=person,
                item_id=item_id,
                type=events_pb2.EVENT_TYPE_PURCHASE,
                time_ms=int(now.timestamp() * 1000),
                request_id=before.request_id,
            )
        ]
    )
    after = client.recommend(person, limit=1000, include_attributes=True, min_sequence=answer.sequence)
    say(f"   its place in their slate: {place(before, item_id)} before, {place(after, item_id)} now; the first of it:")
    old = {item.item_id: item.score for item in before.items}
    for item in after.items[:5]:
        change = f"was {old[item.item_id]:6.3f}" if item.item_id in old else "was further down"
        say(f"      {item.score:6.3f}  ({change})  {item.attributes.get('name', item.item_id)}")
    if [(item.item_id, item.score) for item in after.items] == [(item.item_id, item.score) for item in before.items]:
        raise SystemExit("the answer did not change")


def place(slate: Slate, item_id: str) -> str:
    ids = [item.item_id for item in slate.items]
    return str(ids.index(item_id) + 1) if item_id in ids else "none of the first 1000"


def fill_catalog(client: Client, shop: Shop) -> None:
    items = [
        catalog_pb2.Item(item_id=item, attributes={"name": name, "category": shop.categories.get(item, "")})
        for item, name in shop.names.items()
    ]
    for start in range(0, len(items), 1000):
        client.upsert_items(items[start : start + 1000])


def promoted(shop: Shop, history: pa.Table) -> dict[str, list[str]]:
    """Two campaigns: the best sellers of the two best-selling broad categories, or of a shop without categories."""
    counts = (
        history.group_by(shop.columns["item"]).aggregate([([], "count_all")]).sort_by([("count_all", "descending")])
    )
    sellers = [str(item) for item in counts[shop.columns["item"]].to_pylist() if str(item) in shop.names][:2000]
    if not shop.categories:
        return {"best-sellers": sellers[:20], "long-runners": sellers[20:40]}
    by_category: dict[str, list[str]] = collections.defaultdict(list)
    for item in sellers:
        by_category[shop.categories[item]].append(item)
    broad = [(name, items) for name, items in by_category.items() if len(items) >= 20][:2]
    return {re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"): items[:20] for name, items in broad}


def typical(shop: Shop, history: pa.Table) -> list[str]:
    """Three people in the middle of the order by number of purchases."""
    counts = pc.value_counts(history[shop.columns["user"]].drop_null()).to_pylist()
    order = sorted(counts, key=lambda entry: (entry["counts"], entry["values"]))
    return [str(entry["values"]) for entry in order[len(order) // 2 - 1 :][:3]]


def never_bought(shop: Shop, history: pa.Table, person: str) -> str:
    """A best seller that is new to the person."""
    users, items = history[shop.columns["user"]], history[shop.columns["item"]]
    bought = {str(item) for item in items.filter(pc.equal(pc.cast(users, pa.string()), person)).to_pylist()}
    return next(item for group in promoted(shop, history).values() for item in group if item not in bought)


def create_campaigns(client: Client, shop: Shop, history: pa.Table, day: dt.datetime, n_impressions: int) -> list[str]:
    heading(6, f"Two campaigns for {day:%A %Y-%m-%d}")
    # together about a third of what every impression of the day would cost
    budget = round(n_impressions * market.MEDIAN_CPM_MICROS / 1000 / 6)
    client.fund_advertiser("demo-deposit-1", ADVERTISER, 10 * budget, currency=shop.currency)
    start = int(day.timestamp() * 1000)
    for name, items in promoted(shop, history).items():
        client.create_campaign(
            campaigns_pb2.Campaign(
                campaign_id=name,
                advertiser_id=ADVERTISER,
                name=name,
                currency=shop.currency,
                flight_start_ms=start,
                flight_end_ms=start + 86_400_000,
                limits=campaigns_pb2.Limits(daily_micros=budget),
                line_items=[
                    campaigns_pb2.LineItem(line_item_id="main", item_ids=items, action_worth_micros=WORTH_MICROS)
                ],
            )
        )
        say(f"   {name}: {len(items)} products, budget of the day {budget / 1e6:.6f} {shop.currency}")
    return [status.campaign.campaign_id for status in client.list_campaigns(ADVERTISER).campaigns]


def bid(client: Client, shop: Shop, history: pa.Table, day: dt.datetime) -> market.Day:
    visits = shop.visits(shop.between(day, day + dt.timedelta(days=1)))
    n_impressions = sum(market.impressions_of(visit) for visit in visits)
    campaigns = create_campaigns(client, shop, history, day, n_impressions)
    heading(7, f"The day's {len(visits)} visits as bid requests with {n_impressions} impressions")
    say(f"   market prices: {market.LANDSCAPE}")
    outcome = market.replay(client, visits, campaigns, shop.currency, SEED)
    say(f"   {outcome.bids} bids, {sum(outcome.wins.values())} wins; no bid: {outcome.no_bids or 'none'}")
    for name, trace in outcome.traces.items():
        off = max((abs(s - p) for s, p in zip(trace.spent, trace.planned, strict=True)), default=0)
        say(
            f"   {name}: {outcome.wins.get(name, 0)} wins, spent {trace.spent[-1] / 1e6:.6f} of plan "
            f"{trace.planned[-1] / 1e6:.6f} {shop.currency}, furthest from the plan {off / 1e6:.6f}"
        )
    invariant(client, outcome)
    return outcome


def invariant(client: Client, outcome: market.Day) -> None:
    """Per node: billed + won + reserved + lease_unused <= budget in force; and the books equal what the market took."""
    answer = client.list_campaigns(ADVERTISER)
    accounts = [*answer.advertisers, *(account for status in answer.campaigns for account in status.accounts)]
    for account in accounts:
        used = account.billed_micros + account.won_micros + account.reserved_micros + account.lease_unused_micros
        if used > account.budget_in_force_micros:
            raise SystemExit(f"the ledger's invariant is broken at {account.account_id}")
    billed = answer.advertisers[0].billed_micros
    paid = outcome.paid_nanos / 1000
    say(f"   ledger: billed + won + reserved + leased <= budget at all {len(accounts)} accounts: true")
    say(f"   ledger: billed {billed} micros; the market took {paid:.3f} micros (each lease rounds up once)")


def day_after(shop: Shop) -> dt.datetime:
    """The first day from the split on that has visits."""
    first = pc.min(shop.between(shop.split, None)[shop.columns["time"]]).as_py()
    return dt.datetime(first.year, first.month, first.day, tzinfo=dt.UTC)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--data", type=Path, help="the UCI Online Retail file as Parquet, instead of completejourney"
    )
    arguments.add_argument("--households", type=int, default=0, help="only so many households; 0 for all")
    options = arguments.parse_args()
    began = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    shop = online_retail(options.data) if options.data else complete_journey(options.households)
    say(f"{shop.title}. {shop.note}")

    heading(1, f"Ingest what was bought before {shop.split:%Y-%m-%d}")
    history = shop.between(None, shop.split)
    ingest(shop, "history", history)
    manifest = fit()
    rows = held_out(shop, float(str(manifest["alpha"])))
    people = typical(shop, history)
    day = day_after(shop)
    with server(OUT / "store", OUT / "data") as client:
        fill_catalog(client, shop)
        recommend(client, shop, people)
        record(client, shop, people[0], never_bought(shop, history, people[0]), day)
        outcome = bid(client, shop, history, day)
    write_report(shop, manifest, rows, outcome)
    say(f"\nDone in {time.monotonic() - began:.0f} s; the plots are in {os.path.relpath(HERE / 'report.html')}")


def write_report(
    shop: Shop, manifest: dict[str, object], rows: list[tuple[str, dict[str, float]]], outcome: market.Day
) -> None:
    cells = [[name, *(f"{row[key]:.4f}" for key in rows[0][1])] for name, row in rows]
    found = manifest["metrics"]
    assert isinstance(found, dict)
    metrics = [[name, f"{value:,.4f}"] for name, value in sorted(found.items())]
    spend = [
        [name, str(outcome.wins.get(name, 0)), f"{trace.planned[-1] / 1e6:.6f}", f"{trace.spent[-1] / 1e6:.6f}"]
        for name, trace in outcome.traces.items()
    ]
    report.write(
        HERE / "report.html",
        f"Headrace on {shop.title}",
        [
            ("The data", f"<p>{shop.note} Trained on what was bought before {shop.split:%Y-%m-%d}.</p>"),
            ("The held-out weeks", report.table(["model", *rows[0][1]], cells) + report.recall_plot(rows)),
            ("What the artifact says of itself", report.table(["metric on its own last slice", "value"], metrics)),
            (
                "The day's bids",
                report.table(["campaign", "wins", "planned", "spent"], spend) + report.pacing_plot(outcome),
            ),
            ("Prices", report.landscape_plot(outcome)),
        ],
    )


if __name__ == "__main__":
    main()
