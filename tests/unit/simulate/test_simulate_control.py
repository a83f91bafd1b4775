"""Control in short: hours of a small market with a swing, a shift, silence and a cut; the full numbers are those of
benchmarks/bench_control.py."""

from __future__ import annotations

import pytest


def busy(values):
    values["traffic"]["requests_per_day"] = 40_000
    values["campaigns"][0]["limits"] = {"lifetime_micros": 4_000_000}


CHANGES = {
    "nothing happens": (None, 0.03),
    "twice the prices": (lambda values: values.update(shocks=[{"at_hour": 2, "hours": 2, "factor": 2}]), 0.045),
    "a cut": (
        lambda values: values.update(edits=[{"at_hour": 3, "campaign_id": "spring", "lifetime_micros": 3_000_000}]),
        0.04,
    ),
    "our process starts anew": (
        lambda values: values.update(outages=[{"at_hour": 3, "hours": 0.1, "kind": "server"}]),
        0.03,
    ),
}


@pytest.fixture(scope="module")
def quiet(small):
    """Hours in which nothing happens."""
    return small.run(busy)


@pytest.mark.parametrize("name", CHANGES)
def test_spend_keeps_to_the_plan_and_the_budget_is_delivered(small, quiet, name):
    change, bound = CHANGES[name]
    done = small.run(lambda values: busy(values) or change(values)) if change else quiet
    campaign = done.summary["campaigns"][0]
    assert done.summary["overspend_micros"] == 0
    assert done.summary["ledger"]["books_equal"]
    assert campaign["delivered"] >= 0.99
    assert campaign["largest_deviation"] <= bound


def halves(values):
    """A line item of the first four hours of six and one of the last two, of one budget."""
    busy(values)
    first, last = ({"line_item_id": name, "action_worth_micros": 8_000_000} for name in ("boots", "shoes"))
    values["campaigns"][0]["line_items"] = [
        first | {"targeting": {"hours": [0, 1, 2, 3]}},
        last | {"targeting": {"hours": [4, 5]}},
    ]
    values["values"]["spring/boots"] = values["values"]["spring/shoes"]


def test_a_line_item_whose_hours_are_still_to_come_is_left_its_part_of_the_budget(small):
    done = small.run(halves)
    campaign = done.summary["campaigns"][0]
    assert campaign["delivered"] >= 0.99
    assert campaign["largest_deviation"] <= 0.05
    assert campaign["share_of_optimum"] > 0.95


def test_without_pacing_the_money_is_gone_early_and_the_value_is_less(small, quiet):
    hasty = small.run(lambda values: busy(values) or values["campaigns"][0].update(pacing_plan="PACING_PLAN_ASAP"))
    shares = [each.summary["campaigns"][0]["share_of_optimum"] for each in (quiet, hasty)]
    assert shares[0] > 0.97
    assert shares[1] < 0.8
    assert hasty.results[0].curve.spent[120] > 0.99 * hasty.results[0].spent
    assert hasty.summary["overspend_micros"] == 0
