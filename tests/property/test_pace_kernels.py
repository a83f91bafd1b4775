"""The pacing kernels agree with their plain twins, and their solutions keep every budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import pace
from headrace.reference import pace as plain

seeds = st.integers(0, 2**32 - 1)
amounts = st.sampled_from([0.0, 1.0, 1e3, 1e7, np.inf])


def table(rng, n_lines):
    """Values and the spend that they make."""
    values = np.where(rng.random((n_lines, pace.N_VALUE_BINS)) < 0.1, rng.random((n_lines, pace.N_VALUE_BINS)), 0.0)
    costs = np.sort(rng.random(pace.N_VALUE_BINS) * 1e6)
    cap_bin = rng.integers(0, pace.N_VALUE_BINS, n_lines).astype(np.int32)
    out = np.empty((n_lines, pace.N_STEPS + 1))
    pace.tabulate_spend(values, cap_bin, costs, out)
    np.testing.assert_allclose(out, plain.tabulate_spend(values, cap_bin, costs), rtol=1e-9, atol=1e-9)
    return out


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0**10, 2.0**40, 1e15]), st.floats(0, 1e15)), max_size=20))
def test_value_bins(values):
    assert [pace.value_bin(value) for value in values] == plain.value_bin(np.array(values, float)).tolist()


@given(seeds, st.integers(1, 5))
def test_tables_descend_to_nothing(seed, n_lines):
    spend = table(np.random.default_rng(seed), n_lines)
    assert (np.diff(spend, axis=1) <= 1e-9 * spend[:, :1]).all()
    assert (spend[:, -1] == 0).all()


@given(seeds, st.lists(st.tuples(amounts, amounts), min_size=3, max_size=3), amounts, amounts)
def test_solutions_keep_every_budget_and_leave_nothing_on_the_table(seed, own, day, flight):
    rng = np.random.default_rng(seed)
    spend = table(rng, 3)
    traffic = np.where(rng.random((2, 3)) < 0.2, 0.0, rng.random((2, 3)) * 100)
    needs = pace.Needs(
        traffic, np.array(own).T.copy(), np.array([0, 2, 3]), np.array([[day, flight], [flight, day]]).T.copy()
    )
    out = np.empty(3)
    pace.solve_multipliers(spend, needs, out)
    assert ((out >= 0) & (out <= 1)).all()
    cost = traffic * plain.spend_of(spend, out)
    slack = np.inf
    for h in range(2):
        assert (cost[h] <= needs.left[h] * (1 + 1e-6) + 1e-6).all()
        for campaign, lines in enumerate((slice(0, 2), slice(2, 3))):
            left = needs.campaign_left[h, campaign]
            assert cost[h, lines].sum() <= left * (1 + 1e-6) + 1e-6
            slack = min(slack, left - cost[h, lines].sum())
    free = np.isinf(needs.left).all() and np.isinf(needs.campaign_left).all()
    assert not free or (out == 1).all()


@given(seeds, st.floats(1.0, 1e6))
def test_one_line_item_spends_all_that_it_may(seed, left):
    spend = table(np.random.default_rng(seed), 1)
    needs = pace.Needs(np.full((2, 1), 10.0), np.array([[left], [np.inf]]), np.array([0, 1]), np.full((2, 1), np.inf))
    out = np.empty(1)
    pace.solve_multipliers(spend, needs, out)
    wanted = min(left, 10.0 * spend[0, 0])
    np.testing.assert_allclose(10.0 * plain.spend_of(spend, out)[0], wanted, rtol=1e-6, atol=1e-6)


@given(seeds, st.integers(0, 4), st.integers(0, 5))
def test_tallies(seed, n_impressions, n_offers):
    rng = np.random.default_rng(seed)
    m = 3
    seen = pace.Seen(
        np.array([0, n_offers, n_offers]),
        rng.integers(0, m, n_offers).astype(np.int32),
        rng.choice([0, 1, 5000, 10**14], n_offers),
        np.sort(rng.integers(0, 2, n_impressions)).astype(np.int32),
        rng.random(n_impressions) < 0.5,
        rng.integers(-1, max(n_offers, 1), n_impressions).astype(np.int32),
    )
    multiplier, max_bid = rng.choice([0.0, 0.3, 1.0], m), rng.choice([1, 10**6], m)
    costs = np.sort(rng.random((2, pace.N_VALUE_BINS)), axis=1)
    tally = pace.Tally(np.zeros((m, pace.N_VALUE_BINS)), *(np.zeros(m) for _ in range(4)))
    pace.observe(seen, multiplier, max_bid, costs, tally)
    for ours, theirs in zip(tally, plain.observe(seen, multiplier, max_bid, costs, m), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
