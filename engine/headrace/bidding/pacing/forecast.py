"""Requests to come: a profile by hour of the week learned as it goes, a level, and how far off the two have been."""

from __future__ import annotations

import numpy as np

from headrace.bidding.pacing.traffic import HOURS_PER_WEEK, smooth_profile
from headrace.kernels.plans import MONDAY_MS
from headrace.types import Float64

HOUR_MS = 3_600_000
PRIOR_DAYS = 3.0
"""The artifact's profile counts as so many days seen of each hour of the day, where it says anything …"""
PRIOR_WEEKS_SEEN = 2.0
"""… and what the days say together as so many weeks seen of each hour of the week."""
KEPT_A_WEEK = 0.7
"""Weight that is left of an hour's count when the same hour of the next week begins."""
LEVEL_HOURS = 3.0
"""Hours after which what the level was counts half."""
PRIOR_ERROR = 0.2
"""Relative error of an hour's forecast before any was checked …"""
PRIOR_HOURS = 4.0
"""… taken as seen so often."""
KEPT_AN_HOUR = 0.97
UNKNOWN_ERROR = 0.5
"""Errors of as many hours where nothing is known of the season; like others, they fade."""
SEASON = 0.7
"""Standard deviation of the logarithm of an unknown season's hours around their mean: peaks are a few times lows."""
SMOOTH = 1.5
"""Length of the periodic kernel: an unknown season's hours resemble those four hours away by four fifths."""
ANY_LEVEL = 100.0
"""Variance of the logarithm of a level that nothing is known of."""
DAY_ERROR = 0.15
"""Standard deviation of an hour's logarithm from day to day."""
Z_90 = 1.645
"""Half the width of an interval that holds 90 % of a normal distribution, in deviations."""
LOOK_MS = 600_000
"""An unknown season is looked at anew so often."""
RECENT_HOURS = 4
GONE_MS = 60_000
GONE_SHARE = 0.1
GONE_REQUESTS = 50.0
"""Traffic was gone, not low, when for a minute or more less than a tenth of 50 or more expected requests came."""


class Forecast:
    """Impressions asked for by the hour, of all line items together.

    prior : (168,) float64, the artifact's share of requests by hour of the week, UTC, Monday 00:00 first.
    shares : (168,) float64, the profile in force.   blank : whether the prior says nothing.

    An hour's share is its count over the weeks it was seen, shrunk to what the same hour of all days says together,
    which is shrunk to the prior: the mean of a gamma-Poisson model at either level. A prior that is the same for all
    hours was made of no history and says nothing of the season: see `season`. The level is the ratio of counts to
    shares, smoothed exponentially. The error of past hours gives the width of the intervals.
    """

    def __init__(self, prior: Float64) -> None:
        self._take_prior(prior)
        self._counts: Float64 = np.zeros(HOURS_PER_WEEK)
        self._weeks: Float64 = np.zeros(HOURS_PER_WEEK)
        self._level: Float64 = np.zeros(2)
        self._error: Float64 = PRIOR_HOURS * np.array([UNKNOWN_ERROR**2, 1.0]) if self.blank else np.zeros(2)
        self._hour = -1
        self._foreseen = np.zeros(3)
        self._renewed_ms = 0
        self.shares = self.profile()

    def adopt(self, prior: Float64) -> None:
        """Shrink to another artifact's profile from now on; what was counted stays."""
        self._take_prior(prior)
        self._renew_shares(0)

    def profile(self) -> Float64:
        """(168,) float64 shares of a week's requests by hour, summing to 1, none of them zero."""
        level = _safe(self._counts.sum(), float(self._weeks @ self._prior))
        if level <= 0.0:
            return self._prior
        weekly = self._prior.reshape(7, 24)
        seen, expected = self._counts.reshape(7, 24).sum(0), (self._weeks.reshape(7, 24) * weekly).sum(0) * level
        if self.blank:
            daily = weekly * season(seen, expected, self._weeks.reshape(7, 24).sum(0))
        else:
            strength = PRIOR_DAYS * weekly.mean(0) * level
            daily = weekly * ((seen + strength) / (expected + strength))
        strength = PRIOR_WEEKS_SEEN * daily.ravel() * level
        result = (self._counts + strength) / (self._weeks + PRIOR_WEEKS_SEEN)
        floor = result.sum() * 1e-3 / HOURS_PER_WEEK
        shares: Float64 = np.maximum(result, floor) / np.maximum(result, floor).sum()
        return shares

    def add(self, then_ms: int, now_ms: int, n: float) -> bool:
        """Count n impressions between two moments; True when the profile may have changed: each hour, more often while
        nothing was known of the season."""
        hour = (now_ms - MONDAY_MS) // HOUR_MS
        new = hour != self._hour
        if new:
            self._close_hour()
            self._open_hour(hour, now_ms)
        elapsed = min(max(now_ms - then_ms, 0), HOUR_MS) / HOUR_MS
        place = hour % HOURS_PER_WEEK
        self._counts[place] += n
        self._weeks[place] += elapsed
        self._level *= 0.5 ** (elapsed / LEVEL_HOURS)
        self._level += n, elapsed * self.shares[place]
        self._foreseen[1:] += n, elapsed
        if self.blank and now_ms - self._renewed_ms >= LOOK_MS:
            self._renew_shares(now_ms)
            new = True
        return bool(new)

    def rate(self, now_ms: int) -> float:
        """Impressions expected a millisecond, at a moment."""
        place = (now_ms - MONDAY_MS) // HOUR_MS % HOURS_PER_WEEK
        return _safe(self._level[0], self._level[1]) * float(self.shares[place]) / HOUR_MS

    def expect(self, start_ms: int, end_ms: int) -> tuple[float, float, float]:
        """Impressions between two moments: the mean, and the ends of an interval that should hold 90 % of outcomes.

        An hour's relative error is taken to last: errors of the hours of the span add up rather than cancel.
        """
        hours = np.arange(start_ms, end_ms, HOUR_MS)
        spans = np.minimum(end_ms - hours, HOUR_MS)
        mean = float(sum(self.rate(int(hour)) * span for hour, span in zip(hours, spans, strict=True)))
        half = Z_90 * float(np.sqrt(mean + (self.error * mean) ** 2))
        return mean, max(mean - half, 0.0), mean + half

    @property
    def error(self) -> float:
        """Relative error of an hour's forecast beyond that of counting."""
        total, n = self._error
        return float(np.sqrt((total + PRIOR_HOURS * PRIOR_ERROR**2) / (n + PRIOR_HOURS)))

    def gone(self, then_ms: int, now_ms: int, n: float) -> bool:
        """Whether no traffic came at all between two moments, in which n impressions did, rather than little."""
        expected = self.rate(now_ms) * (now_ms - then_ms)
        return now_ms - then_ms >= GONE_MS and expected >= GONE_REQUESTS and n < GONE_SHARE * expected

    def _take_prior(self, prior: Float64) -> None:
        self.blank = bool(np.ptp(prior) <= 1e-9 * prior.sum())
        self._prior = _by_hour(prior)

    def _renew_shares(self, now_ms: int) -> None:
        """Take the profile as it is known now; where nothing was known, what it learns today is no change of level."""
        before, self.shares = self.shares, self.profile()
        self._renewed_ms = now_ms
        if self.blank:
            lately = (self._hour - np.arange(RECENT_HOURS)) % HOURS_PER_WEEK
            self._level[1] *= _safe(self.shares[lately].sum(), before[lately].sum())

    def _open_hour(self, hour: int, now_ms: int) -> None:
        place = hour % HOURS_PER_WEEK
        self._hour = hour
        self._counts[place] *= KEPT_A_WEEK
        self._weeks[place] *= KEPT_A_WEEK
        self._renew_shares(now_ms)
        self._foreseen[:] = _safe(self._level[0], self._level[1]) * self.shares[place], 0.0, 0.0

    def _close_hour(self) -> None:
        """Learn from the error that the forecast of the hour made, where enough of it was seen."""
        expected, n, seen = self._foreseen
        expected *= seen
        if self._hour < 0 or seen < 0.5 or expected < 1.0:
            return
        # what counting alone explains is no error of the forecast
        self._error *= KEPT_AN_HOUR
        self._error += max((n / expected - 1.0) ** 2 - 1.0 / expected, 0.0), 1.0


def season(seen: Float64, expected: Float64, days: Float64) -> Float64:
    """(24,) factors on the expected counts of the hours of the day, (24,) all, where nothing is known but what was
    seen: a periodic Gaussian process of the logarithms (Rasmussen and Williams, "Gaussian processes for machine
    learning", 2006, 2.2 and 4.2) about an unknown level. Hours not seen yet are like their neighbours, and far from
    those like the mean.

    days : how often each hour was seen; it may be a part of one.
    """
    hours = np.flatnonzero(expected > 0.0)
    apart = np.subtract.outer(np.arange(24.0), np.arange(24.0))
    covariance = ANY_LEVEL + SEASON**2 * np.exp(-2.0 * (np.sin(np.pi / 24.0 * apart) / SMOOTH) ** 2)
    noise = 1.0 / (seen + 1.0)[hours] + DAY_ERROR**2 / np.maximum(days[hours], 1e-3)
    told = np.log((seen + 0.5) / (expected + 0.5))[hours]
    gain = np.linalg.solve(covariance[np.ix_(hours, hours)] + np.diag(noise), covariance[hours]).T
    # the median: who waits for the mean of what may come, which lies above it, is too often left with unspent money
    result: Float64 = np.exp(gain @ told)
    return result


def _by_hour(profile: Float64) -> Float64:
    result: Float64 = smooth_profile(profile).reshape(HOURS_PER_WEEK, 4).sum(axis=1)
    return result


def _safe(top: float, bottom: float) -> float:
    """top / bottom, 0 where the bottom is not positive."""
    return float(top) / float(bottom) if bottom > 0.0 else 0.0
