"""The pacing kernels agree with their plain twins, and their solutions keep every budget."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import pace, price
from headrace.reference import pace as plain

seeds = st.integers(0, 2**32 - 1)
amounts = st.sampled_from([0.0, 1.0, 1e3, 1e7, np.inf])


def table(rng, n_lines):
    """Values and the spend that they make."""
    values = np.where(rng.random((n_lines, pace.N_VALUE_BINS)) < 0.1, rng.random((n_lines, pace.N_VALUE_BINS)), 0.0)
    costs = np.sort(rng.random(pace.N_VALUE_BINS) * 1e6)
    cap_place = rng.random(n_lines) * (pace.N_VALUE_BINS - 1)
    premium = rng.choice([0, 0, 5_000, 10**7], n_lines)
    out = np.empty((n_lines, pace.N_STEPS + 1))
    pace.tabulate_spend(values, cap_place, premium, costs, out)
    ones = np.ones(pace.N_VALUE_BINS)
    np.testing.assert_allclose(out, plain.tabulate(values, cap_place, premium, costs, ones), rtol=1e-9, atol=1e-9)
    wins, worth = np.sort(rng.random(pace.N_VALUE_BINS)), np.empty_like(out)
    pace.tabulate_worth(values, cap_place, premium, wins, worth)
    middles = 2.0 ** (10 + (np.arange(pace.N_VALUE_BINS) + 0.5) / 4)
    np.testing.assert_allclose(worth, plain.tabulate(values, cap_place, premium, wins, middles), rtol=1e-9)
    return out


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.5, 1.0, 2.0**10, 2.0**40, 1e15]), st.floats(0, 1e15)), max_size=20))
def test_value_bins(values):
    assert [pace.value_bin(value) for value in values] == plain.value_bin(np.array(values, float)).tolist()
    places = [pace.value_place(value) for value in values]
    np.testing.assert_allclose(places, plain.value_place(np.array(values, float)), atol=1e-12)


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
    least = rng.choice([0.0, 16.0, 30.5], 3)
    needs = pace.Needs(
        traffic, np.array(own).T.copy(), least, np.array([0, 2, 3]), np.array([[day, flight], [flight, day]]).T.copy()
    )
    steps, common = np.empty(3), np.empty(2)
    pace.solve_steps(spend, needs, steps, common)
    assert ((steps >= least) & (steps <= pace.N_STEPS)).all()
    assert ((common >= 0) & (common <= pace.N_STEPS)).all()
    cost = traffic * plain.spend_of(spend, np.maximum(steps, common[[0, 0, 1]]))
    for h in range(2):
        assert (cost[h] <= needs.left[h] * (1 + 1e-6) + 1e-6).all()
        for campaign, lines in enumerate((slice(0, 2), slice(2, 3))):
            assert cost[h, lines].sum() <= needs.campaign_left[h, campaign] * (1 + 1e-6) + 1e-6
    if np.isinf(needs.left).all():
        assert (steps == least).all()
    if np.isinf(needs.campaign_left).all():
        assert (common == 0).all()


@given(seeds, st.floats(1.0, 1e6))
def test_one_line_item_spends_all_that_it_may(seed, left):
    spend = table(np.random.default_rng(seed), 1)
    needs = pace.Needs(
        np.full((2, 1), 10.0), np.array([[left], [np.inf]]), np.zeros(1), np.array([0, 1]), np.full((2, 1), np.inf)
    )
    steps, common = np.empty(1), np.empty(1)
    pace.solve_steps(spend, needs, steps, common)
    wanted = min(left, 10.0 * spend[0, 0])
    np.testing.assert_allclose(10.0 * plain.spend_of(spend, steps)[0], wanted, rtol=1e-6, atol=1e-6)


@given(seeds)
def test_wins_follow_from_costs(seed):
    rng = np.random.default_rng(seed)
    costs, out = np.cumsum(rng.random(pace.N_VALUE_BINS) * 10.0 ** rng.integers(0, 6)), np.empty(pace.N_VALUE_BINS)
    pace.win_curve(costs, out)
    np.testing.assert_allclose(out, plain.win_curve(costs), rtol=1e-12)


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
    nothing = np.zeros(m, np.int64)
    multiplier, premium = rng.choice([0.0, 0.3, 1.0, 16.0], m), rng.choice([0, 0, 700], m)
    terms = price.Terms(
        nothing, rng.choice([1, 10**6], m), nothing, multiplier, nothing > 0, premium, np.ones(m), np.ones(m)
    )
    curves = pace.Curves(*np.sort(rng.random((2, 2, pace.N_VALUE_BINS)), axis=2))
    tally = pace.Tally(np.zeros((m, pace.N_VALUE_BINS)), *(np.zeros(m) for _ in range(7)))
    pace.observe(seen, terms, curves, 2.5, tally)
    for ours, theirs in zip(tally, plain.observe(seen, terms, curves, 2.5, m), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
