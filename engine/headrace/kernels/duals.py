"""Dual updates of budgets: which of them drift off their plan's pace, and the multipliers of those that do."""

from __future__ import annotations

import math
from typing import NamedTuple

from numba import njit

from headrace.types import Bool, Float64

SHORT_MS = 120_000
"""Half-life of the short memory."""
MEMORY_MS = SHORT_MS / math.log(2.0)
"""What the short memory of something even amounts to."""
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
STEPS_PER_OCTAVE = 4
N_STEPS = 88


class Interval(NamedTuple):
    """What happened to N nodes since the last solution; money in nanos, (N,).

    elapsed_ms : float.   spend : expected cost of the bids made, corrected.   target : what the plans wanted, infinite
    without a plan.   lump : cost of one win.   least : the lowest step allowed.
    strange : bool, traffic is not what was forecast.
    """

    elapsed_ms: float
    spend: Float64
    target: Float64
    lump: Float64
    least: Float64
    strange: Bool


class Duals(NamedTuple):
    """State of N nodes, (N,) each.

    dual : bool, steered by dual updates.   began : bool, so since the last update: its own step begins at the solved
    one.   steps : its own step, followed while ``dual``.   spend, target : short memories of both.
    calm_ms : how long they have agreed.   age_ms : how long they have been compared.
    """

    dual: Bool
    began: Bool
    steps: Float64
    spend: Float64
    target: Float64
    calm_ms: Float64
    age_ms: Float64


@njit(nogil=True, cache=True)
def _moved(spend: float, target: float, pace: float, lump: float) -> float:
    scale = max(pace, LUMPS * lump)
    if scale <= 0.0:
        return 0.0
    steps = (spend - target) / scale * (STEPS_PER_OCTAVE / math.log(2.0))
    return min(max(steps, -MOST_STEPS), MOST_STEPS)


@njit(nogil=True, cache=True)
def update_duals(seen: Interval, state: Duals) -> None:
    """Compare spend with the plans' pace, switch, and move the steps of those that are steered; state is written."""
    fading = 0.5 ** (seen.elapsed_ms / SHORT_MS)
    for node in range(state.steps.shape[0]):
        planned, strange = seen.target[node] < math.inf, seen.strange[node]
        aim = seen.target[node] if planned else 0.0
        spend = state.spend[node] * fading + seen.spend[node]
        target = state.target[node] * fading + aim
        state.spend[node], state.target[node] = spend, target
        gap, lump = abs(spend - target), seen.lump[node]
        deviation = math.sqrt(lump * max(target, spend) + (STEADY * target) ** 2)
        # whoever bids as high as allowed and spends too little is no victim of the forecast
        free = state.steps[node] > seen.least[node] + 0.5 or spend > target
        far = (gap > FAR * target and gap > 4.0 * deviation and free) or strange
        near = (gap <= NEAR * target or gap <= 2.0 * deviation or not free) and not strange
        state.age_ms[node] += seen.elapsed_ms
        far = far and state.age_ms[node] >= SHORT_MS
        state.calm_ms[node] = state.calm_ms[node] + seen.elapsed_ms if near else 0.0
        before = state.dual[node]
        dual = planned and target > 0.0 and (far or (before and state.calm_ms[node] < CALM_MS))
        state.dual[node], state.began[node] = dual, dual and not before
        if dual:
            pace = aim * (MEMORY_MS / seen.elapsed_ms) if seen.elapsed_ms > 0.0 else target
            step = state.steps[node] + _moved(seen.spend[node], aim, pace, lump)
            state.steps[node] = min(max(step, seen.least[node]), N_STEPS - 1.0)
