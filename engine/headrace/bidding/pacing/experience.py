"""What happened to line items lately: sums that fade, over a short and a long memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.kernels.duals import SHORT_MS
from headrace.kernels.experience import bid_shares, levels, real_shares
from headrace.kernels.plans import WEEK_MS
from headrace.types import Bool, Float64, Int64

PRIOR_WEEKS = 30_000 / WEEK_MS
"""Traffic seen is taken as if half a minute of average traffic had passed unseen before it."""
PRIOR_BIDS = 16.0
"""Bids that met what was expected, taken as seen before the first real one."""
PRIOR_MATCHES = 4.0
BOUNDS = (0.25, 4.0)
"""Within these the landscape is corrected by what really happened."""
LEAST_ERROR = 0.05
"""No forecast is taken to be better than this."""
LEAST_SHARE = 0.01
"""A line item is taken to win at least this share of the impressions that it matches from its neighbours."""
FIRST_DELAY_MS = 60_000.0
"""How long notices are taken to need before the first has come …"""
LEAST_DELAY_MS = 1_000.0
"""… and at least."""
MOST_NOTICES = 32
"""The delay is the mean of the last so many notices or so."""

LONG, SHORT = 0, 1
MATCHED, COST_MATCHED, COST_BID, N_BID, WINS_BID, WORTH_BID, HELD = range(7)
N_SEEN = 7
DUE_COST, DUE_WINS, DUE_WORTH, COST, WINS, WORTH, MASS = range(7, 14)
N_SUMS = 14
BID_OF = {DUE_COST: COST_BID, DUE_WINS: WINS_BID, DUE_WORTH: WORTH_BID}


class Experience:
    """Sums of m line items.

    sums : (2, 14, m) float64: the long and the short memory of what `headrace.kernels.pace.Tally` counts, of the part
        of expected cost, wins and worth (of COST_BID, WINS_BID, WORTH_BID) whose notices are due, of the real ones, and
        of weeks of expected traffic.
    pending : (3, m) float64. Expected cost, wins and worth of bids whose notices are still to come.
    delay_ms : how long notices of wins take.
    """

    def __init__(self, n_lines: int) -> None:
        self.sums: Float64 = np.zeros((2, N_SUMS, n_lines))
        self.pending: Float64 = np.zeros((3, n_lines))
        self.delay_ms = FIRST_DELAY_MS
        self._n_heard = 0

    def rearranged(self, lines: Int64) -> Experience:
        """The same for another order: entry i comes from position lines[i], -1 starts empty."""
        result = Experience(len(lines))
        result.sums, result.pending = moved(self.sums, lines), moved(self.pending, lines)
        result.delay_ms, result._n_heard = self.delay_ms, self._n_heard
        return result

    def add(self, elapsed_ms: float, long_ms: float, seen: Float64, real: Float64, mass: Float64) -> None:
        """Let time pass; what is known of a line item's hours does not fade while it has none.

        long_ms : half-life of the long memory.   seen : (7, m), what was counted meanwhile.
        real : (3, m), cost, wins and worth that became known.   mass : (m,) weeks of expected traffic.
        """
        self.pending += seen[[COST_BID, WINS_BID, WORTH_BID]]
        due = self.pending * -np.expm1(-elapsed_ms / self.delay_ms) if elapsed_ms > 0 else np.zeros_like(self.pending)
        self.pending -= due
        self.sums[LONG] *= np.where(mass > 0.0, 0.5 ** (elapsed_ms / long_ms), 1.0)
        self.sums[SHORT] *= 0.5 ** (elapsed_ms / SHORT_MS)
        self.sums += np.concatenate([seen, due, real, mass[None]])

    def heard_after(self, delay_ms: float) -> None:
        """A notice of a win came so long after its bid."""
        self._n_heard = min(self._n_heard + 1, MOST_NOTICES)
        self.delay_ms += (max(delay_ms, LEAST_DELAY_MS) - self.delay_ms) / self._n_heard

    def known(self) -> Float64:
        """(m,) how much of `rate` is a line item's own, in [0, 1): 0 before its first hour, 1/2 after half a minute."""
        mass = self.sums[LONG, MASS]
        return np.asarray(mass / (mass + PRIOR_WEEKS))

    def rate(self) -> Float64:
        """(m,) impressions that match per week of expected traffic, as the long memory has it."""
        result: Float64 = self.sums[LONG, MATCHED] / (self.sums[LONG, MASS] + PRIOR_WEEKS)
        return result

    def level(self, error: float) -> Float64:
        """(m,) the same of both memories: the short one weighs more the more was counted and the worse the forecast.

        error : relative error that the forecast usually makes.
        """
        result: Float64 = np.empty(self.sums.shape[2])
        memories = [self.sums[memory, row] for memory in (LONG, SHORT) for row in (MATCHED, MASS)]
        levels(*memories, PRIOR_WEEKS, max(error, LEAST_ERROR), result)
        return result

    def restart(self, lines: Bool) -> None:
        """Forget what is older than the short memory, (m,) bool of whom: their traffic has changed its level."""
        self.sums[LONG][:, lines] = self.sums[SHORT][:, lines]

    def share(self) -> Float64:
        """(m,) share of matched impressions that are bid on, by expected cost, at least a hundredth."""
        n, whole, part = self.sums[LONG, MATCHED], self.sums[LONG, COST_MATCHED], self.sums[LONG, COST_BID]
        result: Float64 = np.empty_like(n)
        bid_shares(part, whole, n, PRIOR_MATCHES, LEAST_SHARE, result)
        return result

    def real(self, what: int, due: int, memory: int = LONG) -> Float64:
        """(m,) what really happened over what was expected, such as COST over DUE_COST, kept within bounds."""
        sums, usual = self.sums[memory], self.sums[LONG]
        result: Float64 = np.empty(sums.shape[1])
        real_shares(sums[what], sums[due], usual[BID_OF[due]], usual[N_BID], PRIOR_BIDS, *BOUNDS, result)
        return result


def moved(values: npt.NDArray[Any], positions: Int64) -> npt.NDArray[Any]:
    """The last axis in another order: entry i comes from positions[i], -1 is 0."""
    result: npt.NDArray[Any] = np.zeros((*values.shape[:-1], len(positions)), values.dtype)
    new = positions >= 0
    result[..., new] = values[..., positions[new]]
    return result


def ratio(top: Float64, bottom: Float64) -> Float64:
    """top / bottom, 1 where the bottom is not positive."""
    return np.divide(top, bottom, out=np.ones_like(top), where=bottom > 0.0)
