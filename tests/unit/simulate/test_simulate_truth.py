"""The hindsight optimum is that of the linear programme."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from headrace.simulate.truth import optimum


def programme(value, cost, credit, budget):
    rows = [cost] + ([cost - credit] if credit is not None else [])
    limits = [budget] + ([0.0] if credit is not None else [])
    finite = np.isfinite(limits)
    found = linprog(-value, np.array(rows)[finite], np.array(limits)[finite], bounds=(0, 1))
    return -found.fun


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("goal", [None, 0.4, 0.8, 1.5])
def test_it_is_the_linear_programme_s(seed, goal):
    rng = np.random.default_rng(seed)
    n = 40
    value, cost = rng.lognormal(size=n), rng.lognormal(size=n)
    credit = None if goal is None else goal * value
    for budget in (0.1 * cost.sum(), 0.6 * cost.sum(), np.inf):
        found = optimum(value, cost, credit, budget)
        exact = programme(value, cost, credit, budget)
        assert found.bound == pytest.approx(exact, rel=1e-5)
        assert found.value <= found.bound * (1 + 1e-9)
        assert found.cost <= budget * (1 + 1e-9)
        if credit is not None:
            assert found.cost <= found.credit * (1 + 1e-9)


def test_ties_nothing_to_buy_and_goals_that_cannot_be_met():
    nothing = optimum(np.zeros(0), np.zeros(0), None, 10.0)
    assert (nothing.bound, nothing.cost) == (0.0, 0.0)
    equal = optimum(np.ones(4), np.ones(4), None, 2.5)
    assert (equal.bound, equal.cost) == (2.5, 2.5)
    assert optimum(np.ones(4), np.ones(4), None, 0.0).bound == 0.0
    dear = optimum(np.ones(4), np.ones(4), np.full(4, 0.5), np.inf)
    assert dear.bound == pytest.approx(0.0, abs=1e-6)
    assert dear.cost == 0.0
