"""What passes of plans, what they want to be left, dual updates and memories agree with their plain twins."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.kernels import duals, experience, plans
from headrace.reference import experience as plain_experience
from headrace.reference import plans as plain

seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 12)
NOW = 1_700_000_000_000


def weeks_of(rng, n):
    """Two patterns, one of them with hours without traffic, and which node has which."""
    shares = rng.random((2, plans.N_QUARTERS))
    shares[1, rng.random(plans.N_QUARTERS) < 0.7] = 0.0
    weeks = np.concatenate([np.zeros((2, 1)), np.cumsum(shares, axis=1)], axis=1)
    return weeks, rng.integers(0, 2, n)


@given(seeds, counts)
def test_traffic_between_times(seed, n):
    rng = np.random.default_rng(seed)
    weeks, pattern = weeks_of(rng, n)
    start, end = (NOW + rng.integers(-(10**10), 10**10, n) for _ in range(2))
    found = np.empty(n)
    plans.traffic_between(weeks, pattern, start, end, found)
    np.testing.assert_allclose(found, plain.traffic_between(weeks, pattern, start, end), atol=1e-9)


@given(seeds, counts, st.integers(0, 10**9))
def test_plans_pass_and_want_what_their_twins_say(seed, n, elapsed):
    rng = np.random.default_rng(seed)
    weeks, pattern = weeks_of(rng, n)
    start = NOW + rng.integers(-(10**9), 10**9, (2, n))
    end = start + rng.integers(1, 10**9, (2, n))
    done = np.where(rng.random((2, n)) < 0.2, 1.0, rng.random((2, n)))
    expected = plain.pass_plans(weeks, pattern, start, end, NOW, NOW + elapsed, NOW + 10**10, done)
    plans.pass_plans(weeks, pattern, start, end, NOW, NOW + elapsed, NOW + 10**10, done)
    np.testing.assert_allclose(done, expected, atol=1e-12)
    left, curve = rng.choice([0.0, 1.0, 1e9, np.inf], (2, n)), rng.choice([1.0, 1.74, np.inf], n)
    rest = np.empty((2, n))
    plans.rest_of_plans(left, done, curve, rest)
    np.testing.assert_allclose(rest, plain.rest_of_plans(left, done, curve))


@given(seeds, st.integers(1, 4), st.integers(0, 9))
def test_sums_of_campaigns_and_their_scarcest_plans(seed, k, m):
    rng = np.random.default_rng(seed)
    campaign_of = np.sort(rng.integers(0, k, m)).astype(np.int32)
    indptr = np.searchsorted(campaign_of, np.arange(k + 1))
    values, found = rng.random(m), np.empty(m + k)
    plans.with_campaigns(indptr, values, found)
    np.testing.assert_allclose(found, np.concatenate([values, np.bincount(campaign_of, values, k)]))
    left = rng.choice([0.0, 100.0, 1e9, np.inf], (2, m + k))
    room, done = np.where(np.isfinite(left), left, 1.0) * rng.uniform(-0.1, 1.1, (2, m + k)), rng.random((2, m + k))
    budget, time = np.empty(m), np.empty(m)
    plans.scarcest_shares(left, room, done, campaign_of, budget, time)
    expected = plain.scarcest_shares(left, room, done, campaign_of)
    np.testing.assert_allclose((budget, time), expected)


@given(seeds, counts, st.sampled_from([0.0, 1e3, 6e4]))
def test_dual_updates(seed, n, elapsed):
    rng = np.random.default_rng(seed)
    amounts = [rng.choice([0.0, 1.0, 1.3, 1e6], n) * rng.random(n) for _ in range(2)]
    state = duals.Duals(
        rng.random(n) < 0.5, rng.random(n) < 0.5, rng.uniform(0, 87, n), *amounts, *rng.uniform(0, 6e5, (2, n))
    )
    seen = duals.Interval(
        elapsed_ms=elapsed,
        spend=rng.choice([0.0, 1.0, 1e6], n) * rng.random(n),
        target=rng.choice([0.0, 1.0, 1e6, np.inf], n),
        lump=rng.choice([0.0, 1e-3, 1.0], n),
        least=rng.choice([0.0, 16.0], n),
        strange=rng.random(n) < 0.2,
    )
    expected = plain.update_duals(seen, state)
    duals.update_duals(seen, state)
    for name, ours, theirs in zip(state._fields, state, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=name)


@given(seeds, counts, st.sampled_from([0.05, 0.5]))
def test_what_memories_say(seed, n, error):
    rng = np.random.default_rng(seed)
    sums, mass = rng.choice([0.0, 1e-6, 1.0, 300.0], (5, n)) * rng.random((5, n)), rng.random((2, n))
    found = np.empty(n)
    experience.real_shares(*sums[:4], 16.0, 0.25, 4.0, found)
    np.testing.assert_allclose(found, plain_experience.real_shares(*sums[:4], 16.0, 0.25, 4.0))
    experience.bid_shares(*sums[:3], 4.0, 0.01, found)
    np.testing.assert_allclose(found, plain_experience.bid_shares(*sums[:3], 4.0, 0.01))
    experience.levels(sums[3], mass[0], sums[4], mass[1], 1e-4, error, found)
    np.testing.assert_allclose(found, plain_experience.levels(sums[3], mass[0], sums[4], mass[1], 1e-4, error))
