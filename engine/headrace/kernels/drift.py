"""Whether prices have moved: win rates that were predicted against wins and losses, one outcome at a time.

Two CUSUM tests a row (Page, "Continuous inspection schemes", 1954) of the prediction against one whose logit is higher,
or lower, by `SHIFT`. A prediction may be off by its standard error: the likeliest of that range is what is held against
the shift. A sum of log-likelihood ratios that rises to log(h) does so after h outcomes or more on average while the
truth lies in the range (Lorden, 1971); so both together alarm falsely once in h / 2 outcomes or less often.
"""

from __future__ import annotations

import math

from numba import njit

from headrace.types import Bool, Float64, Int32

SHIFT = 1.0
"""Smallest change of the win rate's logit that is looked for."""
OUTCOMES_PER_FALSE_ALARM = 100_000
THRESHOLD = math.log(2.0 * OUTCOMES_PER_FALSE_ALARM)
GRACE = 300.0
"""Weight, in auctions, of the evidence that a row is fitted to before its predictions are tested: with less it is they
that are off, not prices that have moved."""
LEAST_RATE = 1e-3
"""Predictions are kept this far from 0 and 1, where a single surprise would decide."""


@njit(nogil=True, cache=True)
def _likelihood(rate: float, shift: float, won: bool) -> float:
    # rate' / rate and (1 - rate') / (1 - rate) share the denominator 1 + rate * (odds - 1)
    return (shift if won else 0.0) - math.log(1.0 + rate * (math.exp(shift) - 1.0))


@njit(nogil=True, cache=True)
def watch(
    parents: Int32,
    rows: Int32,
    predicted: Float64,
    errors: Float64,
    won: Bool,
    behind: Float64,
    sums: Float64,
    alarms: Bool,
) -> None:
    """Test n outcomes, each for its row and for all rows above it; for those only once the row itself has learned.

    parents : (r,) int32, -1 for the topmost.   rows : (n,) int32.   predicted : (n,) float64 win rates.
    errors : (n,) float64 >= 0, standard errors of their logits; from `SHIFT` on nothing is tested.   won : (n,).
    behind : (r,) float64, weight of the evidence that each row's curve was fitted to. What came since is not of it: no
        prediction is the better for it.
    sums : (r, 2) float64, the tests for higher and for lower win rates, updated.
    alarms : (r,) bool, set where a test rises to the threshold; the row's sums then start from 0, and what follows of
        the same call is not tested.
    """
    for at in range(rows.shape[0]):
        rate = min(max(predicted[at], LEAST_RATE), 1.0 - LEAST_RATE)
        allowed = min(errors[at], SHIFT)
        higher = _likelihood(rate, SHIFT, won[at]) - _likelihood(rate, allowed, won[at])
        lower = _likelihood(rate, -SHIFT, won[at]) - _likelihood(rate, -allowed, won[at])
        row = rows[at]
        learned = behind[row] >= GRACE
        while learned and row >= 0:
            if behind[row] >= GRACE and not alarms[row]:
                sums[row, 0] = max(sums[row, 0] + higher, 0.0)
                sums[row, 1] = max(sums[row, 1] + lower, 0.0)
                if max(sums[row, 0], sums[row, 1]) >= THRESHOLD:
                    alarms[row] = True
                    sums[row, :] = 0.0
            row = parents[row]
