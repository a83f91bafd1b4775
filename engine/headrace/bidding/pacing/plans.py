"""Plans: how much of what was left at a start is to be used by now, of money or of promised impressions."""

from __future__ import annotations

import numpy as np

from headrace.bidding.pacing.experience import moved
from headrace.bidding.pacing.traffic import Traffic
from headrace.kernels.plans import WEEK_MS, pass_plans, rest_of_plans, scarcest_shares
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
        weeks, pattern = traffic.weeks, traffic.pattern[: self.done.shape[1]]
        pass_plans(weeks, pattern, self.start_ms, self.end_ms, then_ms, now_ms, now_ms + HORIZON_MS, self.done)

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
        result = np.empty_like(self.left)
        rest_of_plans(self.left, self.done, curve, result)
        return result

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
        budget, time = np.empty(len(campaign_of)), np.empty(len(campaign_of))
        scarcest_shares(self.left, self.left - (used - self.used), self.done, campaign_of, budget, time)
        return budget, time
