"""Traffic to come: intervals hold what they promise, hours of the week are learned, silence is told from little."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.pacing.forecast import HOUR_MS, Forecast, season
from headrace.kernels.plans import MONDAY_MS

WEEK = 168
DAYTIME = np.array([1.0 + 0.8 * np.sin(2 * np.pi * (hour % 24 - 9) / 24) for hour in range(WEEK)])
DAYTIME[120:] *= 0.6


def play(forecast, rates, rng, start=0):
    """Hours of Poisson traffic with log-normal noise; returns what came and what was forecast at each hour's start."""
    came, foretold = [], []
    for number, rate in enumerate(rates, start):
        begin = MONDAY_MS + number * HOUR_MS
        expected = rate * rng.lognormal(0.0, 0.1)
        foretold.append(forecast.expect(begin, begin + HOUR_MS) if number else (0.0, 0.0, np.inf))
        counts = rng.poisson(expected / 12, 12)
        for part, count in enumerate(counts.tolist()):
            forecast.add(begin + part * 300_000, begin + (part + 1) * 300_000 - 1, count)
        came.append(counts.sum())
    return np.array(came), np.array(foretold)


@pytest.mark.parametrize("level", [300.0, 30_000.0])
@pytest.mark.parametrize("seed", range(3))
def test_ninety_per_cent_of_seasonal_hours_lie_in_their_intervals(seed, level):
    rng = np.random.default_rng(seed)
    forecast = Forecast(np.ones(WEEK))  # knows nothing of the season
    came, foretold = play(forecast, level * np.tile(DAYTIME, 5), rng)
    learned = slice(2 * WEEK, None)
    inside = (foretold[learned, 1] <= came[learned]) & (came[learned] <= foretold[learned, 2])
    assert 0.85 <= inside.mean() <= 0.99
    shares = forecast.profile()
    assert shares.sum() == pytest.approx(1.0)
    assert np.abs(shares / (DAYTIME / DAYTIME.sum()) - 1.0).mean() < 0.15


def test_intervals_widen_when_the_season_shifts_and_the_new_one_is_learned():
    rng = np.random.default_rng(5)
    forecast = Forecast(DAYTIME)
    play(forecast, 10_000 * np.tile(DAYTIME, 3), rng)
    before = forecast.error
    shifted = 10_000 * np.tile(np.roll(DAYTIME, 6), 4)
    came, foretold = play(forecast, shifted, rng, 3 * WEEK)
    assert forecast.error > before
    missed = np.abs(foretold[:, 0] / came - 1.0)
    assert missed[-WEEK:].mean() < 0.6 * missed[:24].mean()
    inside = (foretold[:, 1] <= came) & (came <= foretold[:, 2])
    assert inside[-WEEK:].mean() >= 0.85


def test_a_day_teaches_the_other_days_and_nothing_teaches_nothing():
    forecast = Forecast(np.ones(WEEK))
    assert forecast.profile().tolist() == pytest.approx([1 / WEEK] * WEEK)
    assert forecast.expect(MONDAY_MS, MONDAY_MS + HOUR_MS) == (0.0, 0.0, 0.0)
    play(forecast, 5_000 * DAYTIME[:48], np.random.default_rng(1))
    shares = forecast.profile()
    thursday = shares[72:96]
    assert thursday.argmax() in range(12, 19)
    assert thursday.max() > 1.3 * thursday.min()


EVENINGS = 1.0 + 0.9 * np.cos((np.arange(24) - 20) / 24 * 2 * np.pi)
NIGHTS = np.roll(EVENINGS, 7)
TWO_PEAKS = 0.25 + np.exp(-0.5 * ((np.arange(24) - 9) / 2) ** 2) + np.exp(-0.5 * ((np.arange(24) - 19) / 2.5) ** 2)


def surprise(prior, rates):
    """Mean error of the logarithm of a day's traffic to come over that of the moment, as foretold half-way in hours."""
    forecast, errors = Forecast(prior), []
    for part, rate in enumerate(np.repeat(rates, 12).tolist()):
        begin = MONDAY_MS + part * 300_000
        forecast.add(begin, begin + 299_999, rate / 12)
        hour = part // 12
        if part % 12 == 6 and 4 <= hour < 23:
            foretold, comes = (each[hour + 1 : 24].sum() / each[hour] for each in (forecast.shares, rates))
            errors.append(abs(np.log(foretold / comes)))
    return np.mean(errors)


@pytest.mark.parametrize(
    ("rates", "most"), [(EVENINGS, 0.5), (NIGHTS, 0.5), (TWO_PEAKS, 1.2)], ids=["evenings", "nights", "two peaks"]
)
def test_a_season_that_nobody_knew_is_followed_on_its_first_day(rates, most):
    even = surprise(np.random.default_rng(0).poisson(1e6, WEEK), 10_000 * rates)  # known to be even, and is not
    assert surprise(np.ones(WEEK), 10_000 * rates) < most * even  # sharp peaks cannot be foreseen


def test_days_that_were_even_stay_so_for_one_who_knew_nothing():
    assert surprise(np.ones(WEEK), np.full(24, 10_000.0)) < 0.01


def test_factors_of_an_unknown_season_are_the_regression_of_a_gaussian_process():
    seen, expected, days = np.zeros(24), np.zeros(24), np.zeros(24)
    seen[:8], expected[:8], days[:8] = 10_000 * EVENINGS[:8], 10_000.0, 1.0
    found = season(seen, expected, days)
    np.testing.assert_allclose(found[:8], EVENINGS[:8], rtol=0.25)
    assert found[23] == pytest.approx(found[0], rel=0.2)  # a circle
    least, mean = EVENINGS[:8].min(), np.exp(np.log(EVENINGS[:8]).mean())
    assert least < found[14] < 2.0 * mean  # back towards what was usual


def test_no_traffic_is_not_little_traffic():
    forecast = Forecast(np.ones(WEEK))
    play(forecast, [3_600.0] * 5, np.random.default_rng(2))
    now = MONDAY_MS + 5 * HOUR_MS
    assert forecast.gone(now, now + 1_800_000, 3)
    assert not forecast.gone(now, now + 1_800_000, 500)  # a fifth of what was expected
    assert not forecast.gone(now, now + 30_000, 0)  # half a minute says little
    rare = Forecast(np.ones(WEEK))
    for day in range(5):
        rare.add(MONDAY_MS + day * 24 * HOUR_MS, MONDAY_MS + (day + 1) * 24 * HOUR_MS, 1)
    assert not rare.gone(MONDAY_MS, MONDAY_MS + 24 * HOUR_MS, 0)  # one auction a day is all there is
