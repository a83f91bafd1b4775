"""Whether prices have moved: win rates that were predicted against wins and losses, one outcome at a time.

Two CUSUM tests a row (Page, "Continuous inspection schemes", 1954) of the prediction against one whose logit is higher,
or lower, by `SHIFT`. A sum of log-likelihood ratios that rises to log(h) does so after h outcomes or more on average
when the prediction is right (Lorden, 1971); so both together alarm falsely once in h / 2 outcomes or less often.
"""

from __future__ import annotations

import math

from numba import njit

from headrace.types import Bool, Float64, Int32, Int64

SHIFT = 1.0
"""Smallest change of the win rate's logit that is looked for."""
OUTCOMES_PER_FALSE_ALARM = 100_000
THRESHOLD = math.log(2.0 * OUTCOMES_PER_FALSE_ALARM)
GRACE = 200
"""Outcomes of a row after its start, or an alarm, that are not tested: it still learns."""
LEAST_RATE = 1e-3
"""Predictions are kept this far from 0 and 1, where a single surprise would decide."""


@njit(nogil=True, cache=True)
def _ratio(rate: float, shift: float, won: bool) -> float:
    odds = math.exp(shift)
    # rate' / rate and (1 - rate') / (1 - rate) share the denominator 1 + rate * (odds - 1)
    return (shift if won else 0.0) - math.log(1.0 + rate * (odds - 1.0))


@njit(nogil=True, cache=True)
def watch(parents: Int32, rows: Int32, predicted: Float64, won: Bool, seen: Int64, sums: Float64, alarms: Bool) -> None:
    """Test n outcomes, each for its row and for all rows above it; for those only once the row itself has learned.

    parents : (r,) int32, -1 for the topmost.   rows : (n,) int32.   predicted : (n,) float64 win rates.   won : (n,).
    seen : (r,) int64 outcomes since the start or the last alarm, added to.
    sums : (r, 2) float64, the tests for higher and for lower win rates, updated.
    alarms : (r,) bool, set where a test rises to the threshold; the row's seen and sums then start from 0, and what
        follows of the same call is not tested.
    """
    for at in range(rows.shape[0]):
        rate = min(max(predicted[at], LEAST_RATE), 1.0 - LEAST_RATE)
        higher, lower = _ratio(rate, SHIFT, won[at]), _ratio(rate, -SHIFT, won[at])
        row = rows[at]
        learned = seen[row] >= GRACE
        while row >= 0:
            seen[row] += 1
            if learned and seen[row] > GRACE and not alarms[row]:
                sums[row, 0] = max(sums[row, 0] + higher, 0.0)
                sums[row, 1] = max(sums[row, 1] + lower, 0.0)
                if max(sums[row, 0], sums[row, 1]) >= THRESHOLD:
                    alarms[row] = True
                    sums[row, :] = 0.0
                    seen[row] = 0
            row = parents[row]
