"""Goals are kept by the solved steps and nothing is left on the table; premiums win the share that is wished for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import goals, pace
from headrace.reference import goals as plain

seeds = st.integers(0, 2**32 - 1)
MIDDLES = 2.0 ** (10 + (np.arange(pace.N_VALUE_BINS) + 0.5) / 4)


def market(rng, n_lines):
    """Spend and worth tables of one landscape: log-normal prices at second price."""
    edges = 2.0 ** (10 + np.arange(pace.N_VALUE_BINS + 1) / 4)
    rates = 1.0 / (1.0 + (edges / 10.0 ** rng.uniform(5, 8)) ** -2.0)
    costs = np.cumsum(np.diff(rates) * MIDDLES)
    wins, values = np.empty_like(costs), np.zeros((n_lines, pace.N_VALUE_BINS))
    pace.win_curve(costs, wins)
    values[:, 30:70] = rng.random((n_lines, 40)) * (rng.random((n_lines, 40)) < 0.5)
    cap, premium = np.full(n_lines, pace.N_VALUE_BINS - 1.0), np.zeros(n_lines, np.int64)
    tables = [np.empty((n_lines, pace.N_STEPS + 1)) for _ in range(2)]
    pace.tabulate_spend(values, cap, premium, costs, tables[0])
    pace.tabulate_worth(values, cap, premium, wins, tables[1])
    return *tables, values, wins


@given(seeds, st.sampled_from([0.0, 0.25, 1.0, 3.0]), st.sampled_from([-1e9, -1.0, 0.0, 1e3, 1e12]))
def test_goals_are_kept_at_the_largest_multiplier(seed, credit, balance):
    rng = np.random.default_rng(seed)
    spend, worth, _, _ = market(rng, 3)
    credits = np.where(rng.random(3) < 0.3, credit / 2, credit)
    earnings = goals.Earnings(spend, worth, rng.random(3) * 1e3, credits, np.full(3, 99.0))
    indptr, least = np.array([0, 2, 3]), rng.choice([0.0, 20.0], 3)
    balances, out = np.array([balance, 0.0]), np.empty(2)
    goals.earning_steps(earnings, indptr, balances, least, out)
    for group, lines in enumerate(plain.groups(indptr)):
        safe = plain.safe_step(credits[list(lines)])
        assert 0.0 <= out[group] <= safe
        kept = plain.earned(earnings, lines, least, out[group]) + balances[group]
        scale = plain.earned(earnings, lines, least, safe) + abs(balances[group]) + 1.0
        if out[group] < safe:
            assert kept >= -1e-6 * scale
        if safe > 0.0 and 0.01 < out[group] < safe and least.max() == 0.0:
            above = plain.earned(earnings, lines, least, out[group] - 0.01) + balances[group]
            assert above <= 1e-6 * scale


def test_few_wins_and_debts_bid_what_keeps_the_goal_by_itself():
    spend, worth, _, _ = market(np.random.default_rng(1), 1)
    for n_wins, balance in ((3.0, 1e12), (99.0, -1e18)):
        earnings = goals.Earnings(spend, worth, np.ones(1), np.full(1, 0.5), np.full(1, n_wins))
        out = np.empty(1)
        goals.earning_steps(earnings, np.array([0, 1]), np.array([balance]), np.zeros(1), out)
        assert out[0] == 20.0  # a half: one octave below 1


@given(seeds, st.floats(0.0, 1.5), st.sampled_from([1.0, 1e5, 1e9]), st.sampled_from([0.0, 0.2, 1.0]))
def test_premiums_win_the_share_wished_for(seed, rate, penalty, multiplier):
    rng = np.random.default_rng(seed)
    _, _, values, wins = market(rng, 2)
    values[1] = 0.0
    wishes = goals.Wishes(values, np.full(2, multiplier), np.full(2, 1e9), np.full(2, penalty), np.array([rate, rate]))
    out = np.empty(2)
    goals.promise_premiums(wishes, wins, out)
    assert ((out >= 0.0) & (out <= penalty)).all()
    assert out[1] == (penalty if rate > 0 else 0.0)
    if out[0] == 0.0:
        assert rate <= plain.won_share(wishes, 0, 0.0, wins) + 1e-12
    elif out[0] < penalty:
        assert abs(plain.won_share(wishes, 0, out[0], wins) - rate) < 1e-3
    else:
        assert plain.won_share(wishes, 0, penalty * 0.999, wins) <= rate + 1e-3
