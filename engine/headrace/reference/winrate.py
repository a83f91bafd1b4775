"""Plain NumPy twins of `headrace.kernels.winrate`, `headrace.kernels.drift` and `headrace.kernels.explore`."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64

_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def objective(
    theta: Float64, anchor: Float64, smooth: Float64, prices: Float64, wins: Float64, losses: Float64
) -> float:
    """What `fit_row` maximises, straight from the win rates."""
    rates = np.concatenate([[0.0], 1.0 / (1.0 + np.exp(-theta)), [1.0]])
    inner = slice(1, -1)
    likelihood = prices @ np.log(np.diff(rates))
    likelihood += wins[inner] @ np.log(rates[inner]) + losses[inner] @ np.log1p(-rates[inner])
    return float(likelihood - np.sum(smooth / 2.0 * np.diff(theta - anchor, 2) ** 2))


def hessian(theta: Float64, smooth: Float64, prices: Float64, wins: Float64, losses: Float64) -> Float64:
    """Minus the second derivatives of the objective, by differences of its gradient, (b - 1, b - 1)."""

    def gradient(at: Float64) -> Float64:
        rates = np.concatenate([[0.0], 1.0 / (1.0 + np.exp(-at)), [1.0]])
        slope = rates[1:-1] * (1.0 - rates[1:-1])
        per_bin = prices / np.diff(rates)
        likelihood = slope * (per_bin[:-1] - per_bin[1:])
        likelihood += wins[1:-1] * (1.0 - rates[1:-1]) - losses[1:-1] * rates[1:-1]
        bends = np.zeros(len(at))
        for k in range(1, len(at) - 1):
            bend = at[k - 1] - 2.0 * at[k] + at[k + 1]
            bends[k - 1 : k + 2] += smooth[k - 1] * np.array([1.0, -2.0, 1.0]) * bend
        result: Float64 = likelihood - bends
        return result

    steps = 1e-6 * np.eye(len(theta))
    return -np.array([(gradient(theta + step) - gradient(theta - step)) / 2e-6 for step in steps])


def sure_bends(inverse: Float64, smooth: Float64) -> Float64:
    """How much of each bend the evidence decides, (b - 3,), from the whole inverse Hessian."""
    bends = np.diff(np.eye(len(inverse)), 2, axis=0)
    result: Float64 = 1.0 - smooth * np.diag(bends @ inverse @ bends.T)
    return result


def jump_statistics(theta: Float64, anchor: Float64, inverse: Float64, smooth: Float64, jumps: list[bool]) -> Float64:
    """Score tests for jumps behind places 1 to b - 4, 0 for those downwards, and Wald's where there is one."""
    n = len(theta)
    bends = np.diff(np.eye(n), 2, axis=0)
    penalty = bends.T @ np.diag(smooth) @ bends
    result = np.zeros(n - 1)
    for k in range(1, n - 2):
        step = (np.arange(n) > k).astype(float)
        if jumps[k]:
            away = (bends @ step) @ bends
            result[k] = float(away @ (theta - anchor)) ** 2 / float(away @ inverse @ away)
            continue
        score = float(step @ penalty @ (theta - anchor))
        known = step @ penalty @ step - step @ penalty @ inverse @ penalty @ step
        result[k] = max(score, 0.0) ** 2 / known
    return result


def cusum(predicted: Float64, errors: Float64, won: list[bool], shift: float, threshold: float) -> int:
    """The first of n outcomes at which a CUSUM of log-likelihood ratios alarms for one row; -1 for none."""
    sums = np.zeros(2)
    for at, (rate, error, is_won) in enumerate(zip(predicted.tolist(), errors.tolist(), won, strict=True)):
        for side, sign in enumerate((1.0, -1.0)):
            odds = rate / (1.0 - rate) * np.exp(sign * np.array([shift, min(error, shift)]))
            moved, held = odds / (1.0 + odds) if is_won else 1.0 / (1.0 + odds)
            sums[side] = max(sums[side] + np.log(moved / held), 0.0)
        if sums.max() >= threshold:
            return at
    return -1


def random(seed: int, turn: int) -> float:
    """SplitMix64's output number ``turn`` from a seed, as a fraction of 2**53."""
    mixed = (seed + (turn + 1) * _GOLDEN) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / 2**53
