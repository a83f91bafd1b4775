"""What batches of calls take, learned from those that were answered."""

from __future__ import annotations

MEMORY = 32
"""Batches that the estimate remembers, about; older ones fade."""

OUTLIER = 4.0
"""A batch counts at most so many times what was expected of it: one pause of the machine is no trend."""

SLACK_S = 0.001
"""Added to what was expected before a batch is an outlier, so that tiny times may vary freely."""

SPREAD = 0.1
"""Least relative variance of batch sizes from which a fixed part can be told from the part for each call."""


class Cost:
    """A line through (calls, seconds) of recent batches: ``fixed_s + n * each_s``.

    Sums fade exponentially, so a change of load, of model or of machine is followed within about MEMORY batches.
    Not thread-safe.
    """

    __slots__ = ("_mean_n", "_mean_nn", "_mean_nt", "_mean_t", "_seen", "each_s", "fixed_s")

    def __init__(self) -> None:
        self.fixed_s = 0.0
        self.each_s = 0.0
        self._seen = 0
        self._mean_n = self._mean_nn = self._mean_t = self._mean_nt = 0.0

    def learn(self, n: int, took_s: float) -> None:
        """Hear that a batch of n calls took so many seconds."""
        if self._seen:
            took_s = min(took_s, OUTLIER * (self.fixed_s + n * self.each_s + SLACK_S))
        self._seen += 1
        weight = 1.0 / min(self._seen, MEMORY)
        self._mean_n += weight * (n - self._mean_n)
        self._mean_nn += weight * (n * n - self._mean_nn)
        self._mean_t += weight * (took_s - self._mean_t)
        self._mean_nt += weight * (n * took_s - self._mean_nt)
        self._fit()

    def _fit(self) -> None:
        n, seconds = self._mean_n, self._mean_t
        variance = self._mean_nn - n * n
        each = seconds / n
        if variance > SPREAD * n * n:
            # neither part can be negative
            each = min(max((self._mean_nt - n * seconds) / variance, 0.0), each)
        self.each_s = each
        self.fixed_s = max(seconds - each * n, 0.0)
