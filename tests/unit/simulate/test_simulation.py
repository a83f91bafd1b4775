"""Whole runs of small scenarios: budgets, books and determinism."""

from __future__ import annotations


def test_a_small_day_is_delivered_and_its_books_are_the_exchanges(small):
    done = small.run()
    campaign = done.summary["campaigns"][0]
    assert campaign["delivered"] >= 0.97
    assert campaign["overspend_micros"] == 0
    assert campaign["share_of_optimum"] >= 0.9
    assert done.summary["ledger"]["books_equal"]
    assert done.summary["ledger"]["billed_micros"] >= done.summary["ledger"]["charged_micros"]
