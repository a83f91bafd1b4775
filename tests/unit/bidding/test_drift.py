"""Dual updates take over when spend leaves the plan, begin where the solution stood, and give way once it holds."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.pacing.drift import Drift
from headrace.kernels.duals import CALM_MS, MOST_STEPS, SHORT_MS, Interval
from headrace.kernels.pace import N_STEPS

SECOND = 1_000.0


def interval(spend, target=1e6, *, least=16.0, lump=1e3, strange=False, elapsed=SECOND):
    return Interval(
        elapsed_ms=elapsed,
        spend=np.array([spend]),
        target=np.array([target]),
        lump=np.array([lump]),
        least=np.array([least]),
        strange=np.array([strange]),
    )


def step_on(drift, n, solved=30.0, **fields):
    """Some seconds; returns the steps that were followed."""
    followed = []
    for _ in range(n):
        drift.update(interval(**fields))
        followed.append(float(drift.follow(np.array([solved]))[0]))
    return followed


def settled():
    drift = Drift(1)
    step_on(drift, 300, spend=1e6)
    assert not drift.dual[0]
    return drift


def test_the_solution_is_followed_while_spend_is_the_plans():
    assert set(step_on(settled(), 60, spend=1.05e6)) == {30.0}


def test_drift_switches_within_half_a_minute_and_steers_until_five_calm_minutes_have_passed():
    drift = settled()
    followed = step_on(drift, 30, spend=5e6)
    assert drift.dual[0]
    first = next(i for i, step in enumerate(followed) if step != 30.0)
    assert followed[first - 1] == 30.0  # begins where the solution stood
    assert (np.diff(followed[first:]) > 0).all()
    n_calm = 0
    while drift.dual[0]:
        step_on(drift, 1, spend=1e6)
        n_calm += 1
        assert n_calm < 3_600
    assert n_calm * SECOND >= CALM_MS
    assert step_on(drift, 1, spend=1e6) == [30.0]


def test_a_market_of_elastic_spend_is_brought_back_to_the_plan():
    drift, level = settled(), 5.0
    spend = [1e6 * level]
    for _ in range(600):
        drift.update(interval(spend=spend[-1]))
        step = float(drift.follow(np.array([30.0]))[0])
        spend.append(1e6 * level * 2.0 ** ((30.0 - step) / 4 * 1.5))
    assert drift.dual[0]
    assert spend[-1] == pytest.approx(1e6, rel=0.02)
    over = sum(each - 1e6 for each in spend) / 1e6
    assert 0 < over < 300  # seconds of the plan: a third of a per cent of a day


def test_too_little_spend_at_the_highest_bid_is_no_drift():
    drift = Drift(1)
    step_on(drift, 600, solved=16.0, spend=1e5)
    assert not drift.dual[0]


def test_strange_traffic_switches_without_a_plan_it_never_does():
    drift = settled()
    step_on(drift, 1, spend=1e6, strange=True)
    assert drift.dual[0]
    free = Drift(1)
    step_on(free, 300, spend=1e6, target=np.inf, strange=True)
    assert not free.dual[0]


def test_steps_stay_in_bounds_and_move_little_at_once():
    drift = settled()
    followed = step_on(drift, 2_000, spend=1e12)
    assert np.diff(followed).max() <= MOST_STEPS
    assert followed[-1] == N_STEPS - 1.0
    # nothing winds up: a minute of no spend brings it on its way back at once
    back = step_on(drift, 60, spend=0.0)
    assert (np.diff(back) < 0).all()
    assert step_on(drift, 4_000, spend=0.0, least=20.0)[-1] >= 20.0


def test_an_edited_plan_is_compared_anew():
    drift = settled()
    drift.restart(np.array([True]))
    step_on(drift, int(SHORT_MS / SECOND) - 1, spend=5e6)
    assert not drift.dual[0]
