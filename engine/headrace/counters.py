"""Counters cheap enough for hot paths: plain numbers, added a batch at a time, read now and then."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from headrace.types import Int64


class Counts:
    """How often each of n small whole numbers was seen; any thread may add.

    n : values are 0 to n - 1.
    """

    def __init__(self, n: int) -> None:
        self._totals = np.zeros(n, np.int64)
        self._lock = threading.Lock()

    def add(self, values: npt.NDArray[np.integer] | Sequence[int]) -> None:
        """Count a batch of values of 0 to n - 1."""
        totals = self._totals
        if len(values) == 1:
            with self._lock:
                totals[values[0]] += 1
            return
        seen = np.bincount(values, minlength=len(totals))
        with self._lock:
            totals += seen

    def totals(self) -> Int64:
        """A copy, (n,) int64."""
        with self._lock:
            return self._totals.copy()


class Histogram:
    """How many observations lie in each interval, and their sum; any thread may add.

    bounds : upper ends of the intervals, ascending, each belonging to its interval; above the last there is one more.
    """

    __slots__ = ("_counts", "_lock", "_sum", "bounds")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Count one observation."""
        with self._lock:
            self._counts[bisect_left(self.bounds, value)] += 1
            self._sum += value

    def add_since(self, end: float, begins: Sequence[float]) -> None:
        """Count how long before ``end`` each of several things began, in the clock's unit."""
        bounds, counts = self.bounds, self._counts
        with self._lock:
            for begin in begins:
                counts[bisect_left(bounds, end - begin)] += 1
            self._sum += end * len(begins) - sum(begins)

    def read(self) -> tuple[list[int], float]:
        """Observations of each interval, one more than there are bounds, and the sum of all."""
        with self._lock:
            return self._counts.copy(), self._sum
