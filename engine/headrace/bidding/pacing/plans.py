"""Plans: how much of what was left at a start is to be used by now, of money or of promised impressions."""

from __future__ import annotations

import numpy as np

from headrace.bidding.pacing.experience import moved
from headrace.bidding.pacing.traffic import WEEK_MS, Traffic
from headrace.types import Bool, Float64, Int32, Int64

MOVED = 0.01
"""A plan starts anew when an edit moved what is left by more than this share."""
HORIZON_MS = 1000 * WEEK_MS


class Plans:
    """Two plans each of n nodes: row 0 to the end of the day, row 1 to the end of the flight; all (2, n).

    start_ms, end_ms : a start of 0 is no plan yet.   left : at the start, infinite where nothing is planned.
    used : all that had been used by the start.   done : share of the plan's expected traffic that has passed.

    By a share s of its traffic a plan wants 1 - (1 - s) ** curve of what was left used. Its pace, use over traffic, is
    then at every moment ``curve`` times what is left over the traffic left. What has passed is never counted anew,
    however the forecast changes.
    """

    def __init__(self, n_nodes: int) -> None:
        self.start_ms: Int64 = np.zeros((2, n_nodes), np.int64)
        self.end_ms: Int64 = np.zeros((2, n_nodes), np.int64)
        self.left: Float64 = np.zeros((2, n_nodes))
        self.used: Float64 = np.zeros((2, n_nodes))
        self.done: Float64 = np.zeros((2, n_nodes))

    def rearranged(self, nodes: Int64) -> Plans:
        """The same for another order, as `moved`."""
        result = Plans(len(nodes))
        for name in ("start_ms", "end_ms", "left", "used", "done"):
            setattr(result, name, moved(getattr(self, name), nodes))
        return result

    def pass_time(self, traffic: Traffic, then_ms: int, now_ms: int) -> None:
        """Count the expected traffic between two moments as passed."""
        nodes = slice(None, self.done.shape[1])
        for h in range(2):
            begin = np.maximum(self.start_ms[h], then_ms)
            end = np.minimum(self.end_ms[h], now_ms + HORIZON_MS)
            whole = traffic.between(begin, end, nodes)
            part = traffic.between(begin, np.minimum(end, now_ms), nodes)
            passed = np.divide(part, whole, out=np.ones_like(part), where=whole > 0.0)
            self.done[h] += (1.0 - self.done[h]) * np.where(now_ms > begin, passed, 0.0)

    def renew(self, start_ms: Int64, end_ms: Int64, left: Float64, used: Float64, anew: Bool | bool) -> None:
        """Start the plans anew that have no start yet or another end, and those that ``anew`` names."""
        over = (self.start_ms == 0) | (self.end_ms != end_ms) | anew
        self.start_ms = np.where(over, np.maximum(start_ms, 1), self.start_ms)
        self.end_ms = np.where(over, end_ms, self.end_ms)
        self.left = np.where(over, left, self.left)
        self.used = np.where(over, used, self.used)
        self.done = np.where(over, 0.0, self.done)

    def edited(self, left: Float64, used: Float64) -> Bool:
        """(2, n) where what is left is not what the plan's own use leaves: someone moved the limit."""
        with np.errstate(invalid="ignore"):
            moved = ~(np.abs(left - (self.left - (used - self.used))) <= MOVED * self.left)
        return np.asarray(moved | (np.isfinite(left) != np.isfinite(self.left)))

    def rest(self, curve: Float64) -> Float64:
        """(2, n) what the plans want to be left by now; infinite where nothing is planned.

        curve : (n,); where it is infinite nothing is to be left.
        """
        remaining = np.where(self.done >= 1.0, 0.0, (1.0 - self.done) ** curve)
        planned = np.isfinite(self.left)
        return np.where(planned, np.where(planned, self.left, 0.0) * remaining, np.inf)

    def wanted(self, curve: Float64) -> Float64:
        """(n,) what the plans want used by now in all, the tightest of both; infinite where nothing is planned."""
        rest = np.where(np.isfinite(self.left), self.rest(curve), 0.0)
        rest = np.where(np.isinf(curve), 0.0, rest)
        result: Float64 = (self.used + self.left - rest).min(axis=0)
        return result

    def shares_left(self, used: Float64, campaign_of: Int32) -> tuple[Float64, Float64]:
        """Shares of budget and of traffic that each line item's scarcest plan still has, (m,) both; 1 without a plan.

        A line item goes by its own plans and its campaign's.   used : (n,) in all.
        """
        m = len(campaign_of)
        planned = np.isfinite(self.left) & (self.left > 0.0)
        left = self.left - (used - self.used)
        budget = np.clip(np.divide(left, self.left, out=np.ones_like(left), where=planned), 0.0, 1.0)
        time = np.where(planned, 1.0 - self.done, 1.0)
        nodes = np.stack([np.arange(m), m + campaign_of])
        scarcest = np.argmin(np.where(planned, budget - time, 1.0)[:, nodes].reshape(4, -1), axis=0)[None]
        of_line = [np.take_along_axis(share[:, nodes].reshape(4, -1), scarcest, axis=0)[0] for share in (budget, time)]
        return of_line[0], of_line[1]
