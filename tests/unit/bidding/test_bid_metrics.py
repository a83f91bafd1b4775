"""What the bidding path counts of itself, and what the metrics say of its campaigns and their money."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from headrace.bidding.requests import BELOW_FLOOR, NO_MATCH
from headrace.ledger.ledger import AccountState
from headrace.telemetry import shop
from headrace.telemetry.page import Page
from headrace.v1 import campaigns_pb2

EVEN = campaigns_pb2.PACING_PLAN_EVEN


def labels_of(page, family):
    """Labels of a family's samples, to their values."""
    found = {each.name: each for each in page.collect()}
    return {tuple(one.labels.values()): one.value for one in found[family.name].samples} if family.name in found else {}


def test_every_impression_is_counted_by_its_reason(path, make):
    path.create(lines=[make.line_item(targeting={"countries": ["DE"]})])
    offers = path.bid(
        make.bid_request(country="DE", n_impressions=2),
        make.bid_request(country="FR"),
        make.bid_request(country="DE", floor_cpm_micros=90_000_000_000),
    )
    reasons = path.engine.counts.reasons.totals()
    assert (reasons[0], reasons[NO_MATCH], reasons[BELOW_FLOOR]) == (2, 1, 1)
    assert reasons.sum() == 4
    total = sum(one.bid_cpm_micros for offer in offers for one in offer.impressions)
    assert path.engine.counts.offered_micros() == {"USD": total // 1000}


def test_money_of_bids_is_counted_by_currency(path, make):
    path.fund("euro", entry_id="another", currency="EUR")
    path.create()
    path.create(campaign_id="herbst", advertiser_id="euro", currency="EUR")
    bids = {currency: path.bid_one(currency=currency).bid_cpm_micros for currency in ("USD", "EUR", "EUR")}
    path.bid_one(currency="USD")
    assert path.engine.counts.offered_micros() == {"USD": 2 * bids["USD"] // 1000, "EUR": 2 * bids["EUR"] // 1000}


def test_not_the_owner_is_a_reason_too(path):
    path.create()
    path.ledger.owned = False
    path.bid_one()
    assert path.engine.counts.reasons.totals()[4] == 1


def test_plans_of_all_campaigns_are_those_of_each(path, make):
    path.create(campaign_id="asap")
    path.create(campaign_id="bare", lines=[], pacing_plan=EVEN)
    lines = [make.line_item("a"), make.line_item("b", limits=campaigns_pb2.Limits(daily_micros=10**5))]
    path.create(campaign_id="even", lines=lines, limits=campaigns_pb2.Limits(daily_micros=10**6), pacing_plan=EVEN)
    path.create(campaign_id="free", pacing_plan=EVEN)
    board, planned, _ = path.engine.plans()
    assert np.isnan(planned).all()
    for minute in range(3):
        path.now_ms = make.noon_ms + 60_000 * minute
        path.bid_one(time_ms=path.now_ms)
    board, planned, multipliers = path.engine.plans()
    ids = [campaign.campaign_id for campaign in board.campaigns]
    assert sorted(ids) == ["asap", "bare", "even", "free"]
    for campaign_id, micros, multiplier in zip(ids, planned.tolist(), multipliers.tolist(), strict=True):
        assert multiplier == path.engine.multiplier(campaign_id)
        if campaign_id == "even":
            assert micros == pytest.approx(path.engine.planned_micros(campaign_id), abs=1)
            assert micros > 0
        elif campaign_id == "asap":
            assert np.isnan(micros)


def test_only_so_many_campaigns_have_metrics_of_their_own(path):
    for name in ("c", "a", "b"):
        path.create(campaign_id=name, limits=campaigns_pb2.Limits(lifetime_micros=10**6))
    accounts = {one.account_id: one for one in path.ledger.accounts()}
    page = Page()
    shop._write_campaigns(page, "tea", path.engine, accounts, 2)
    assert labels_of(page, shop.CAMPAIGNS) == {("tea",): 3}
    assert [key[-1] for key in labels_of(page, shop.CAMPAIGN_BUDGET)] == ["a", "b"]
    assert labels_of(page, shop.PACING_ERROR) == {}


def test_who_is_steered_by_dual_updates_is_told(path, make):
    lines = [make.line_item("a"), make.line_item("b")]
    path.create(campaign_id="even", lines=lines, limits=campaigns_pb2.Limits(daily_micros=10**6), pacing_plan=EVEN)
    path.create(campaign_id="free")
    path.bid_one()
    accounts = {one.account_id: one for one in path.ledger.accounts()}
    told = []
    for _ in range(2):
        page = Page()
        shop._write_campaigns(page, "tea", path.engine, accounts, 9)
        told.append({key[-1]: value for key, value in labels_of(page, shop.STEERED).items()})
        path.engine.pacing()[2].dual[1] = True
    assert told == [{"even": 0.0, "free": 0.0}, {"even": 1.0, "free": 0.0}]


def account(account_id, in_force, committed):
    return AccountState(account_id, 0, in_force, committed, 0, 0, 0, 1, 2, 3)


def test_money_is_summed_over_advertisers_of_a_currency_and_each_account_is_checked():
    ledger = SimpleNamespace(currency={"a": "USD", "b": "USD", "e": "EUR"}.get)
    accounts = [account("a", 100, 60), account("a/c", 50, 51), account("b", 10, 10), account("e", 7, 5)]
    page = Page()
    shop._write_money(page, "tea", ledger, accounts)
    assert labels_of(page, shop.BUDGET) == {("tea", "EUR"): 7, ("tea", "USD"): 110}
    assert labels_of(page, shop.LEDGER["billed_micros"]) == {("tea", "EUR"): 5, ("tea", "USD"): 70}
    assert labels_of(page, shop.LEDGER["stranded_micros"]) == {("tea", "EUR"): 3, ("tea", "USD"): 6}
    assert labels_of(page, shop.OVERSPENT) == {("tea",): 1}
