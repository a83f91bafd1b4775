"""How long purchases take to be reported, learned from those that were: young impressions show short delays only."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64

MOST_KEPT = 4096
"""Reports that are remembered; beyond that every second one is dropped, whenever it came, and of new ones as many."""
EVERY_MS = 60_000
"""The mean is estimated anew at most so often."""
SPREAD = 2.0
"""Standard deviation of the logarithm of the mean around that of the setting, before any report."""
LONGEST_MS = 30.0 * 86_400_000
_BISECTIONS = 50


class Delay:
    """Mean delay of reports. Only one thread may call it.

    setting_ms : what is expected before there are reports.
    """

    def __init__(self, setting_ms: float) -> None:
        self._setting_ms = self._mean_ms = float(setting_ms)
        self._kept: list[tuple[int, int, int]] = []
        self._stride, self._n, self._estimated_ms = 1, 0, 0

    def heard(self, issued_ms: int, came_ms: int, n: int) -> None:
        """Hear of so many purchases: when their bid was made, and when they were reported."""
        self._n += 1
        if self._n % self._stride:
            return
        self._kept.append((issued_ms, came_ms, n))
        if len(self._kept) > MOST_KEPT:
            self._kept = self._kept[::2]
            self._stride *= 2

    def mean_ms(self, now_ms: int) -> float:
        """The mean as it is known at a moment."""
        if self._kept and abs(now_ms - self._estimated_ms) >= EVERY_MS:
            self._estimated_ms = now_ms
            issued, came, n = np.array(self._kept, np.float64).T
            delay = np.maximum(came - issued, 1.0)
            room = np.maximum(now_ms - issued, delay)
            self._mean_ms = mean_delay(delay, room, n, self._setting_ms)
        return self._mean_ms


def mean_delay(delay: Float64, room: Float64, weight: Float64, setting: float = 0.0) -> float:
    """Mean of an exponential distribution of which only delays up to ``room`` are seen, from 1 to `LONGEST_MS`.

    delay, room, weight : (n,) float64, above 0, each delay at most its room.
    setting : what the mean is expected to be, see `SPREAD`; 0: nothing is.

    The likelihood under right truncation, times a log-normal prior, is largest where its derivative by the logarithm of
    the mean is 0: that of a delay x is (x - mean + room / (exp(room / mean) - 1)) / mean.
    """
    low, high = 1.0, LONGEST_MS
    for _ in range(_BISECTIONS):
        mean = float(np.sqrt(low * high))
        expected = mean - room / np.expm1(np.minimum(room / mean, 700.0))
        slope = float(weight @ (delay - expected)) / mean
        if setting:
            slope -= float(np.log(mean / setting)) / SPREAD**2
        low, high = (mean, high) if slope > 0.0 else (low, mean)
    return high
