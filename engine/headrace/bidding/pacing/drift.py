"""When the forecast does not hold: budgets steered by dual updates until it holds again.

The fallback is online mirror descent on the budget's dual with the entropic map (Balseiro, Lu and Mirrokni, "The best
of many worlds: dual mirror descent for online allocation problems", 2023; in time as Balseiro and Gur's adaptive
pacing, 2019): lambda := lambda * exp(-eta * (target - spend)), here of the multiplier 1 / lambda in steps.
"""

from __future__ import annotations

import numpy as np

from headrace.bidding.pacing.experience import moved
from headrace.kernels.duals import Duals, Interval, update_duals
from headrace.kernels.pace import N_STEPS
from headrace.types import Bool, Float64, Int64


class Drift:
    """Which of N nodes are steered by dual updates: ``state`` holds what is kept of each."""

    def __init__(self, n_nodes: int) -> None:
        flags, amounts = (np.zeros(n_nodes, bool) for _ in range(2)), (np.zeros(n_nodes) for _ in range(5))
        self.state = Duals(*flags, *amounts)

    @property
    def dual(self) -> Bool:
        """(N,) who is."""
        return self.state.dual

    @property
    def began(self) -> Bool:
        """(N,) who is since the last update."""
        return self.state.began

    def rearranged(self, nodes: Int64) -> Drift:
        """The same for another order, as `moved`."""
        result = Drift(len(nodes))
        result.state = Duals(*(moved(kept, nodes) for kept in self.state))
        return result

    def restart(self, nodes: Bool) -> None:
        """Begin to compare anew, (N,) bool of whom: their plan is another one."""
        state = self.state
        for kept in (state.spend, state.target, state.calm_ms, state.age_ms, state.dual):
            kept[nodes] = 0

    def update(self, seen: Interval) -> None:
        """Compare, switch, and move the steps of those that are steered."""
        update_duals(seen, self.state)

    def follow(self, steps: Float64) -> Float64:
        """(N,) the steps to use: the solved ones, or those of dual updates, which begin at a solved one."""
        state = self.state
        own = state.dual & ~state.began
        state.steps[:] = np.where(own, state.steps, np.minimum(steps, N_STEPS - 1.0))
        result: Float64 = np.where(own, state.steps, steps)
        return result
