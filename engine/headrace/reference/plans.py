"""Plain NumPy twins of `headrace.kernels.plans` and `headrace.kernels.duals`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float64, Int32, Int64

MONDAY_MS = 4 * 86_400_000
WEEK_MS, QUARTER_MS, N_QUARTERS = 7 * 86_400_000, 900_000, 672
SHORT_MS, CALM_MS = 120_000, 300_000
STEPS_PER_OCTAVE, N_STEPS = 4, 88


def traffic_between(weeks: Float64, pattern: Int64, start_ms: Int64, end_ms: Int64) -> Float64:
    """(n,) weeks of traffic between two times."""
    both = []
    for time_ms in (end_ms, start_ms):
        whole, rest = np.divmod(time_ms - MONDAY_MS, WEEK_MS)
        quarter, part = np.divmod(rest, QUARTER_MS)
        before, after = weeks[pattern, quarter], weeks[pattern, quarter + 1]
        both.append(whole * weeks[pattern, N_QUARTERS] + before + (after - before) * (part / QUARTER_MS))
    result: Float64 = np.maximum(both[0] - both[1], 0.0)
    return result


def pass_plans(
    weeks: Float64, pattern: Int64, start_ms: Int64, end_ms: Int64, then_ms: int, now_ms: int, last_ms: int, done: Any
) -> Any:
    """(2, n) the share of each plan's traffic that has passed, at the later moment."""
    begin, end = np.maximum(start_ms, then_ms), np.minimum(end_ms, last_ms)
    whole = np.stack([traffic_between(weeks, pattern, begin[h], end[h]) for h in range(2)])
    part = np.stack([traffic_between(weeks, pattern, begin[h], np.minimum(end[h], now_ms)) for h in range(2)])
    passed = np.divide(part, whole, out=np.ones_like(part), where=whole > 0.0)
    return done + (1.0 - done) * np.where(now_ms > begin, passed, 0.0)


def rest_of_plans(left: Float64, done: Float64, curve: Float64) -> Float64:
    """(2, n) what the plans want to be left."""
    remaining = np.where(done >= 1.0, 0.0, (1.0 - done) ** curve)
    planned = np.isfinite(left)
    return np.where(planned, np.where(planned, left, 0.0) * remaining, np.inf)


def scarcest_shares(left: Float64, room: Float64, done: Float64, campaign_of: Int32) -> tuple[Float64, Float64]:
    """Shares of budget and of traffic, (m,) both."""
    m = len(campaign_of)
    planned = np.isfinite(left) & (left > 0.0)
    budget = np.clip(np.divide(room, left, out=np.ones_like(left), where=planned), 0.0, 1.0)
    time = np.where(planned, 1.0 - done, 1.0)
    nodes = np.stack([np.arange(m), m + campaign_of])
    scarcest = np.argmin(np.where(planned, budget - time, 1.0)[:, nodes].reshape(4, m), axis=0)[None]
    shares = [np.take_along_axis(share[:, nodes].reshape(4, m), scarcest, axis=0)[0] for share in (budget, time)]
    return shares[0], shares[1]


def update_duals(seen: Any, state: Any) -> list[Any]:
    """The state's arrays after an interval."""
    fading = 0.5 ** (seen.elapsed_ms / SHORT_MS)
    planned = np.isfinite(seen.target)
    aim = np.where(planned, seen.target, 0.0)
    spend, target = state.spend * fading + seen.spend, state.target * fading + aim
    gap = np.abs(spend - target)
    deviation = np.sqrt(seen.lump * np.maximum(target, spend) + (0.1 * target) ** 2)
    free = (state.steps > seen.least + 0.5) | (spend > target)
    far = ((gap > 0.25 * target) & (gap > 4.0 * deviation) & free) | seen.strange
    near = ((gap <= 0.1 * target) | (gap <= 2.0 * deviation) | ~free) & ~seen.strange
    age = state.age_ms + seen.elapsed_ms
    calm = np.where(near, state.calm_ms + seen.elapsed_ms, 0.0)
    dual = planned & (target > 0.0) & ((far & (age >= SHORT_MS)) | (state.dual & (calm < CALM_MS)))
    pace = aim * (SHORT_MS / np.log(2.0) / seen.elapsed_ms) if seen.elapsed_ms > 0 else target
    scale = np.maximum(pace, 8.0 * seen.lump)
    move = np.divide(seen.spend - aim, scale, out=np.zeros_like(scale), where=scale > 0.0)
    move = np.clip(move * (STEPS_PER_OCTAVE / np.log(2.0)), -4.0, 4.0)
    steps = np.where(dual, np.clip(state.steps + move, seen.least, N_STEPS - 1.0), state.steps)
    return [dual, dual & ~state.dual, steps, spend, target, calm, age]
