"""Win rates are fitted to the top of their likelihood, alarms and draws are what plain twins say, shading is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bidding.pricing.winrate import EDGES_CPM
from headrace.kernels import drift, explore, price, winrate
from headrace.reference import price as plain_price
from headrace.reference import winrate as plain

seeds = st.integers(0, 2**32 - 1)


def made_row(seed, n_bins, weight):
    """Evidence of a row, its parent, and a start that ascends."""
    rng = np.random.default_rng(seed)
    anchor = np.sort(rng.normal(0.0, 2.0, n_bins - 1)) + 0.05 * np.arange(n_bins - 1)
    some = rng.random((3, n_bins + 1)) < 0.5
    prices = 0.05 + (weight * rng.random(n_bins + 1) * some[0])[:n_bins]
    wins, losses = weight * rng.random((2, n_bins + 1)) * some[1:]
    return anchor, 10.0 ** rng.uniform(-1, 4, n_bins - 3), prices, wins, losses


@settings(max_examples=50)
@given(seeds, st.integers(4, 40), st.sampled_from([0.0, 1.0, 1_000.0]))
def test_a_fit_is_the_top_of_the_plain_likelihood(seed, n_bins, weight):
    anchor, smooth, prices, wins, losses = made_row(seed, n_bins, weight)
    theta = anchor.copy()
    assert winrate.fit_row(anchor, smooth, prices, wins, losses, theta) < winrate.MAX_STEPS
    assert (np.diff(theta) > 0).all()
    top = plain.objective(theta, anchor, smooth, prices, wins, losses)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 1e-1):
        other = np.sort(theta + size * rng.normal(size=n_bins - 1))
        other = np.maximum.accumulate(other + 1e-9 * np.arange(n_bins - 1))
        assert plain.objective(other, anchor, smooth, prices, wins, losses) <= top + 1e-5 * max(1.0, abs(top))
    elsewhere = np.linspace(-3.0, 3.0, n_bins - 1)
    winrate.fit_row(anchor, smooth, prices, wins, losses, elsewhere)
    assert plain.objective(elsewhere, anchor, smooth, prices, wins, losses) == pytest.approx(top, rel=1e-6, abs=1e-4)


@settings(max_examples=25)
@given(seeds, st.integers(5, 30), st.booleans())
def test_smoothness_errors_and_jumps_are_those_of_the_whole_inverse(seed, n_bins, some_jumps):
    anchor, _, prices, wins, losses = made_row(seed, n_bins, 100.0)
    rng = np.random.default_rng(seed)
    jumps = (
        (rng.random(n_bins - 2) < 0.2) & some_jumps & (np.arange(n_bins - 2) > 0) & (np.arange(n_bins - 2) < n_bins - 3)
    )
    smooth = np.full(n_bins - 3, 10.0 ** rng.uniform(0, 4))
    free = jumps[:-1] | jumps[1:]
    smooth[free] = winrate.JUMP_SMOOTH
    theta, errors, moved = anchor.copy(), np.zeros(n_bins + 1), jumps.copy()
    winrate.fit_row(anchor, smooth, prices, wins, losses, theta)
    learned = winrate.learn_smooth(anchor, smooth, moved, prices, wins, losses, theta, errors)
    inverse = np.linalg.inv(plain.hessian(theta, smooth, prices, wins, losses))
    np.testing.assert_allclose(errors[1:-1] ** 2, np.diag(inverse), rtol=1e-3)
    known = max(plain.sure_bends(inverse, smooth)[~free].sum(), 0.0)
    bent = np.sum(np.diff(theta - anchor, 2)[~free] ** 2)
    expected = (known + 1.0) / (bent + 1.0 / winrate.PRIOR_SMOOTH)
    assert learned == pytest.approx(np.clip(expected, winrate.LEAST_SMOOTH, winrate.MOST_SMOOTH), rel=1e-3)
    told = plain.jump_statistics(theta, anchor, inverse, smooth, jumps.tolist())
    assert (told[jumps & moved] >= winrate.JUMP_KEPT * 0.98).all()
    assert (told[jumps & ~moved] <= winrate.JUMP_KEPT * 1.02).all()
    taken, others = np.flatnonzero(moved & ~jumps), np.where(jumps, 0.0, told)
    assert len(taken) <= 1
    if len(taken):
        assert others[taken[0]] >= max(winrate.JUMP_TAKEN, others.max()) * 0.98
    else:
        assert others.max() <= winrate.JUMP_TAKEN * 1.02


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(1.0, 2.0**42)), max_size=20))
def test_evidence_counts_for_its_row_and_all_above(told):
    parents = np.array([-1, 0, 1], np.int32)
    shape = 3, winrate.N_BINS
    evidence = winrate.Evidence(
        np.zeros(shape), *(np.zeros((3, winrate.N_BINS + 1)) for _ in range(2)), np.zeros(3), np.zeros(3)
    )
    rows, kinds, amounts = (np.array(column) for column in zip(*told, strict=True)) if told else (np.zeros(0),) * 3
    outcomes = winrate.Outcomes(rows.astype(np.int32), kinds.astype(np.int8), amounts.astype(float))
    winrate.add_evidence(EDGES_CPM, parents, outcomes, evidence)
    for row in range(3):
        below = [(kind, amount) for at, kind, amount in told if at >= row]
        assert evidence.weight[row] == len(below)
        for kind, table in (
            (winrate.PRICE, evidence.prices),
            (winrate.WIN, evidence.wins),
            (winrate.LOSS, evidence.losses),
        ):
            mine = [amount for each, amount in below if each == kind]
            assert table[row].sum() == pytest.approx(len(mine))
            if kind == winrate.PRICE:
                bins = np.clip(np.searchsorted(EDGES_CPM, mine, side="left") - 1, 0, winrate.N_BINS - 1)
                np.testing.assert_array_equal(table[row], np.bincount(bins, minlength=winrate.N_BINS))
            elif mine:
                inside = np.clip(mine, EDGES_CPM[0], EDGES_CPM[-1])
                assert table[row] @ EDGES_CPM == pytest.approx(inside.sum())


@settings(max_examples=30)
@given(seeds, st.floats(0.05, 0.95), st.sampled_from([-2.0, 0.0, 2.0]), st.sampled_from([0.0, 0.3, 5.0]))
def test_alarms_are_the_plain_tests(seed, rate, shift, unsure):
    rng = np.random.default_rng(seed)
    n = 1_000
    predicted = np.clip(rate + rng.uniform(-0.04, 0.04, n), 0.01, 0.99)
    odds = predicted / (1.0 - predicted) * np.where(np.arange(n) > 200, np.exp(shift), 1.0)
    won, errors = rng.random(n) < odds / (1.0 + odds), unsure * rng.random(n)
    first = plain.cusum(predicted, errors, won.tolist(), drift.SHIFT, drift.THRESHOLD)
    behind, sums, alarms = np.array([1e9, drift.GRACE]), np.zeros((2, 2)), np.zeros(2, np.bool_)
    parents, rows = np.array([-1, 0], np.int32), np.ones(n, np.int32)
    before, after = slice(first if first >= 0 else n), slice(first, n)
    drift.watch(parents, rows[before], predicted[before], errors[before], won[before], behind, sums, alarms)
    assert not alarms.any()
    if first >= 0:
        drift.watch(parents, rows[after], predicted[after], errors[after], won[after], behind, sums, alarms)
        assert alarms.all()
        assert not sums.any()


@pytest.mark.parametrize(("behind", "expected"), [((1e9, 299.0), (False, False)), ((299.0, 1e9), (False, True))])
def test_what_was_fitted_to_too_little_is_not_tested(behind, expected):
    n = 1_000
    sums, alarms = np.zeros((2, 2)), np.zeros(2, np.bool_)
    parents, rows, rates = np.array([-1, 0], np.int32), np.ones(n, np.int32), np.full(n, 0.1)
    drift.watch(parents, rows, rates, np.zeros(n), np.ones(n, np.bool_), np.array(behind), sums, alarms)
    assert tuple(alarms) == expected


def made_auctions(rng, n, tries):
    request = np.sort(rng.integers(0, max(n // 2, 1), n)).astype(np.int32)
    floors = rng.choice([0, 1, 500], n)
    paced = np.maximum(rng.integers(1, 10**6, (n, tries)), floors[:, None])
    return price.Auctions(request, floors, rng.random(n) < 0.7, np.zeros(n, np.int32), paced)


@given(seeds, st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_draws_depend_on_the_request_and_lie_between_floor_and_paced_value(seed, share, some_strategies):
    rng = np.random.default_rng(seed)
    n, tries = 20, 2
    auctions = made_auctions(rng, n, tries)
    ranked = rng.integers(-1, 3, (n, tries)).astype(np.int32)
    lines = np.arange(3, dtype=np.int32)
    strategy = np.array([price.BUILT_IN, 0, price.BUILT_IN], np.int32) if some_strategies else np.zeros(0, np.int32)
    ids = rng.integers(0, 2**63, n).astype(np.uint64)
    solved = rng.integers(1, 9, (n, tries))
    bids, explored = solved.copy(), np.empty(n, np.bool_)
    explore.draw_bids(ids, share, auctions, lines, strategy, ranked, bids, explored)
    own = (ranked >= 0) & ~((ranked == 1) & some_strategies)
    for row in range(n):
        turn = 2 * int((auctions.request[:row] == auctions.request[row]).sum())
        request = int(ids[auctions.request[row]])
        drawn = auctions.first_price[row] and own[row, 0] and plain.random(request, turn) < share
        assert explored[row] == drawn
        for place in range(tries):
            if drawn and own[row, place]:
                low, high = max(int(auctions.floor_cpm[row]), 1), int(auctions.paced_cpm[row, place])
                assert bids[row, place] == low + min(
                    int(plain.random(request, turn + 1) * (high - low + 1)), high - low
                )
            else:
                assert bids[row, place] == solved[row, place]


@settings(max_examples=60)
@given(seeds, st.floats(0.0, 1.0), st.floats(-1.0, 5.0))
def test_shading_over_many_bins_passes_over_nothing(seed, floor_share, octave):
    rng = np.random.default_rng(seed)
    jumps = rng.random(480) ** 20 * (rng.random(480) < 0.3)
    rates = np.minimum(np.concatenate([[0.0], np.cumsum(jumps / max(jumps.sum(), 1e-9))]), 1.0)
    value = 2.0 ** (20 + octave)
    floor = value * floor_share
    bid = price.shade(value, floor, EDGES_CPM, rates)
    assert floor <= bid <= value
    knots = EDGES_CPM[(floor <= EDGES_CPM) & (value >= EDGES_CPM)]
    best = max([plain_price.surplus(b, value, EDGES_CPM, rates) for b in (floor, *knots)])
    best = max(best, plain_price.surplus(plain_price.shade(value, floor, EDGES_CPM, rates), value, EDGES_CPM, rates))
    assert plain_price.surplus(bid, value, EDGES_CPM, rates) >= best * (1.0 - 1e-9)
