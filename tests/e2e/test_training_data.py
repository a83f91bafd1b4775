"""Training on public data as its publishers distribute it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace_training.evaluate import evaluate_files
from headrace_training.ingest import Ingester, open_log
from headrace_training.mapping import Columns, Mapping

DATA = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[3] / "shared" / "data"))

pytestmark = pytest.mark.data


def need(name: str) -> Path:
    path = DATA / name
    if not path.exists():
        if os.environ.get("CI") and os.environ.get("HEADRACE_DATA"):
            pytest.fail(f"{path} is missing")
        pytest.skip(f"no {name} in {DATA}; set HEADRACE_DATA")
    return path


def test_popularity_on_gowalla_is_the_known_figure() -> None:
    folder = need("gowalla-lightgcn")
    report = evaluate_files(folder / "train.txt.gz", folder / "test.txt.gz", model="popularity")
    assert (report["users"], report["items"]) == (29_858, 40_981)
    assert report["overlap_pairs"] == report["unseen_test_items"] == report["cold_users"] == 0
    assert report["recall@20"] == pytest.approx(0.0416, abs=5e-5)


def test_a_gift_shop_s_invoices_are_all_accounted_for(tmp_path: Path) -> None:
    columns = Columns(user="CustomerID", item="StockCode", time="InvoiceDate", quantity="Quantity", price="UnitPrice")
    log = open_log(tmp_path, create=True)
    summary = Ingester(log, Mapping(columns=columns, timezone="Europe/London")).run(
        [need("online-retail-uci") / "online_retail.parquet"]
    )
    events = log.read_columns()
    log.store.close()
    assert summary.rows == 541_909
    # two of the lines without a customer have a negative price as well and are refused for it
    assert (summary.missing_user, sum(summary.rejected.values())) == (135_078, 2)
    assert summary.accepted + summary.duplicates == 541_909 - 135_080
    assert summary.returns == 8_905
    assert (len(events.user_names), len(events.item_ids)) == (4_372, 3_684)
