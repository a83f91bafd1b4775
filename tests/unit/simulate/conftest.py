"""Small scenarios, as a file would say them."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from headrace.simulate.driver import simulate
from headrace.simulate.loading import make_plan
from headrace.simulate.outcome import outcomes
from headrace.simulate.scenario import Scenario
from headrace.simulate.summary import summarize

SMALL: dict[str, Any] = {
    "name": "small",
    "seed": 3,
    "days": 0.25,
    "traffic": {"requests_per_day": 10_000},
    "exchanges": [
        {
            "name": "open",
            "floor_cpm_micros": 500_000,
            "competitors": [{"kind": "truthful", "bidders": 3, "median_cpm_micros": 2_500_000, "sigma": 0.6}],
        }
    ],
    "campaigns": [
        {
            "campaign_id": "spring",
            "advertiser_id": "acme",
            "limits": {"lifetime_micros": 750_000},
            "flight_end_ms": 1_740_981_600_000,
            "line_items": [{"line_item_id": "shoes", "action_worth_micros": 8_000_000}],
        }
    ],
    "values": {"spring/shoes": {"mean": 0.0006, "sigma": 0.8}},
}


def plan(change=lambda values: None):
    values = copy.deepcopy(SMALL)
    change(values)
    return make_plan(msgspec.convert(values, Scenario))


def run(change=lambda values: None, **settings):
    """A run, its results and its summary."""
    ran = simulate(plan(change), **settings)
    results = outcomes(ran)
    return SimpleNamespace(run=ran, results=results, summary=summarize(ran, results))


@pytest.fixture(scope="session")
def small():
    """``small.values``, ``small.plan(change)`` and ``small.run(change)``, where change edits the file's values."""
    return SimpleNamespace(values=SMALL, plan=plan, run=run)
