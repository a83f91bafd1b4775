"""When the forecast does not hold: budgets steered by dual updates until it holds again.

The fallback is online mirror descent on the budget's dual with the entropic map (Balseiro, Lu and Mirrokni, "The best
of many worlds: dual mirror descent for online allocation problems", 2023; in time as Balseiro and Gur's adaptive
pacing, 2019): lambda := lambda * exp(-eta * (target - spend)), here of the multiplier 1 / lambda in steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.bidding.pacing.experience import SHORT_MS, moved
from headrace.kernels.pace import N_STEPS, STEPS_PER_OCTAVE
from headrace.types import Bool, Float64, Int64

FAR = 0.25
"""Spend drifts when over the short memory it differs from the plan's pace by this share, and by four deviations."""
NEAR = 0.1
"""It is back when it differs by no more than this share or by two deviations …"""
CALM_MS = 300_000
"""… and has done so for five minutes."""
STEADY = 0.1
"""Relative error that a good forecast may make."""
LUMPS = 8.0
"""One update takes at least as many wins as one; spend comes in lumps."""
MOST_STEPS = 4.0
"""Steps of one update at most: half or double."""
MEMORY_MS = SHORT_MS / np.log(2.0)
"""What the short memory of something even amounts to."""


class Interval(NamedTuple):
    """What happened to N nodes since the last solution; money in nanos, (N,).

    elapsed_ms : float.   spend : expected cost of the bids made, corrected.   target : what the plans wanted.
    lump : cost of one win.   least : the lowest step allowed.   strange : bool, traffic is not what was forecast.
    """

    elapsed_ms: float
    spend: Float64
    target: Float64
    lump: Float64
    least: Float64
    strange: Bool


class Drift:
    """Which of N nodes are steered by dual updates.

    dual : (N,) bool.   steps : (N,) float64, the node's own step, followed while ``dual``.
    began : (N,) bool, who is so since the last update: its own step begins at the solved one.
    spend, target : (N,) short memories of both.   calm_ms : (N,) how long they have agreed.
    age_ms : (N,) how long they have been compared.
    """

    def __init__(self, n_nodes: int) -> None:
        self.dual: Bool = np.zeros(n_nodes, bool)
        self.began: Bool = np.zeros(n_nodes, bool)
        self.age_ms: Float64 = np.zeros(n_nodes)
        self.steps: Float64 = np.zeros(n_nodes)
        self.spend: Float64 = np.zeros(n_nodes)
        self.target: Float64 = np.zeros(n_nodes)
        self.calm_ms: Float64 = np.zeros(n_nodes)

    def rearranged(self, nodes: Int64) -> Drift:
        """The same for another order, as `moved`."""
        result = Drift(len(nodes))
        for name in ("dual", "began", "steps", "spend", "target", "calm_ms", "age_ms"):
            setattr(result, name, moved(getattr(self, name), nodes))
        return result

    def restart(self, nodes: Bool) -> None:
        """Begin to compare anew, (N,) bool of whom: their plan is another one."""
        for kept in (self.spend, self.target, self.calm_ms, self.age_ms):
            kept[nodes] = 0.0
        self.dual[nodes] = False

    def update(self, seen: Interval) -> None:
        """Compare, switch, and move the steps of those that are steered; the target is infinite without a plan."""
        fading = 0.5 ** (seen.elapsed_ms / SHORT_MS)
        planned = np.isfinite(seen.target)
        target = np.where(planned, seen.target, 0.0)
        self.spend = self.spend * fading + seen.spend
        self.target = self.target * fading + target
        gap = np.abs(self.spend - self.target)
        deviation = np.sqrt(seen.lump * np.maximum(self.target, self.spend) + (STEADY * self.target) ** 2)
        # whoever bids as high as allowed and spends too little is no victim of the forecast
        free = (self.steps > seen.least + 0.5) | (self.spend > self.target)
        far = ((gap > FAR * self.target) & (gap > 4.0 * deviation) & free) | seen.strange
        near = ((gap <= NEAR * self.target) | (gap <= 2.0 * deviation) | ~free) & ~seen.strange
        self.age_ms = self.age_ms + seen.elapsed_ms
        far &= self.age_ms >= SHORT_MS
        self.calm_ms = np.where(near, self.calm_ms + seen.elapsed_ms, 0.0)
        before = self.dual
        self.dual = planned & (self.target > 0.0) & (far | (self.dual & (self.calm_ms < CALM_MS)))
        self.began = self.dual & ~before
        pace = target * (MEMORY_MS / seen.elapsed_ms) if seen.elapsed_ms > 0 else self.target
        scale = np.maximum(pace, LUMPS * seen.lump)
        move = np.divide(seen.spend - target, scale, out=np.zeros_like(scale), where=scale > 0.0)
        move = np.clip(move * (STEPS_PER_OCTAVE / np.log(2.0)), -MOST_STEPS, MOST_STEPS)
        self.steps = np.where(self.dual, np.clip(self.steps + move, seen.least, N_STEPS - 1.0), self.steps)

    def follow(self, steps: Float64) -> Float64:
        """(N,) the steps to use: the solved ones, or those of dual updates, which begin at a solved one."""
        own = self.dual & ~self.began
        self.steps = np.where(own, self.steps, np.minimum(steps, N_STEPS - 1.0))
        result: Float64 = np.where(own, self.steps, steps)
        return result
