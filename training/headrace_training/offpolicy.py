"""What another policy would have earned, told from a log: inverse propensities, self-normalised, doubly robust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import ConfigError, DataError, HeadraceError
from headrace.types import Float64
from headrace_training.bandit import BanditLog, Policy, read_log, read_policy, uniform
from headrace_training.intervals import bootstrap_means, interval
from headrace_training.options import check_seed
from headrace_training.progress import say
from headrace_training.rewards import cross_fitted

FOLDS = 5
NORMAL = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""

LOW_SHARE, LOW_SIZE = 0.05, 100.0
"""An effective sample size below this share of the rows, or below this number, is warned of."""


def estimate_files(
    log_path: Path,
    policy: str,
    *,
    context: tuple[str, ...] = (),
    catalogue: Path | None = None,
    clip: float = 0.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Estimate what a policy (``uniform``, or a file of probabilities) would have earned on a log.

    Raises DataError naming the row of a propensity or reward that cannot be used, and ConfigError.
    """
    if not (np.isfinite(clip) and (clip == 0 or clip >= 1)):
        raise ConfigError("--clip", got=clip, expected="0 for none, or a number from 1")
    check_seed(seed)
    log = read_log(log_path, context, catalogue)
    return estimate(log, uniform(log) if policy == "uniform" else read_policy(Path(policy), log), clip=clip, seed=seed)


def estimate(log: BanditLog, policy: Policy, *, clip: float = 0.0, seed: int = 0) -> dict[str, Any]:
    """Estimates with 95 % intervals, and what tells whether to trust them; all numbers finite.

    clip : weights above it are cut to it, which trades variance for bias; 0 for none.
    ``interval`` is the bootstrap's (percentiles of 1,000 resamples of the rows, the reward models kept),
    ``normal_interval`` the estimate ± 1.96 standard errors. Horvitz, Thompson 1952; self-normalised: Swaminathan,
    Joachims, NIPS 2015; doubly robust: Dudík, Langford, Li, ICML 2011, cross-fitted.
    """
    full = policy.of_logged(log) / log.propensity
    weights = np.minimum(full, clip) if clip else full
    if not weights.any():
        raise DataError("the policy takes none of the logged actions", hint="nothing can be told from this log")
    logged, expected, kind = cross_fitted(log, policy, FOLDS, seed)
    robust = expected + weights * (log.reward - logged)
    values = np.column_stack([weights * log.reward, weights, robust, log.reward, full])
    resampled = bootstrap_means(values, seed)
    found = {
        "rows": len(log),
        "actions": len(log.actions),
        "policy": policy.name,
        "logged": _of_mean(values[:, 3], resampled[:, 3]),
        "ips": _of_mean(values[:, 0], resampled[:, 0]),
        "snips": _of_ratio(log.reward, weights, resampled),
        "dr": _of_mean(robust, resampled[:, 2]),
        "reward_model": kind,
        "rewarded_rows": int(np.count_nonzero((log.reward != 0) & (weights > 0))),
        "effective_sample_size": float(weights.sum() ** 2 / (weights * weights).sum()),
        "mean_weight": _of_mean(full, resampled[:, 4]),
        "max_weight": float(full.max()),
        "clip": clip,
        "clipped_share": float((full > clip).mean()) if clip else 0.0,
        "unsupported_share": float(policy.table[policy.group][:, log.n_logged :].sum(axis=1).mean()),
        "seed": seed,
    }
    _require_finite(found)
    return found | {"warnings": _warnings(found)}


def _of_mean(values: Float64, resampled: Float64) -> dict[str, Any]:
    error = float(values.std(ddof=1) / np.sqrt(len(values)))
    return _estimate(float(values.mean()), error, resampled)


def _of_ratio(reward: Float64, weights: Float64, resampled: Float64) -> dict[str, Any]:
    """Σ w r / Σ w with the delta method's standard error."""
    ratio = float((weights * reward).sum() / weights.sum())
    error = float(np.sqrt(np.square(weights * (reward - ratio)).sum()) / weights.sum())
    # a resample without any weight tells nothing
    some = resampled[:, 1] > 0
    return _estimate(ratio, error, resampled[some, 0] / resampled[some, 1])


def _estimate(value: float, error: float, resampled: Float64) -> dict[str, Any]:
    return {
        "estimate": value,
        "standard_error": error,
        "interval": interval(resampled),
        "normal_interval": [value - NORMAL * error, value + NORMAL * error],
    }


def _warnings(found: dict[str, Any]) -> list[str]:
    warnings = []
    size, rows = found["effective_sample_size"], found["rows"]
    if size < max(LOW_SHARE * rows, LOW_SIZE):
        warnings.append(f"the effective sample size is {size:.0f} of {rows} rows: a few rows decide; try --clip")
    if found["unsupported_share"] > 0:
        warnings.append(
            f"{found['unsupported_share']:.1%} of what the policy takes was never logged: ips and snips know nothing "
            "of it, dr has only the reward model's guess"
        )
    low, high = found["mean_weight"]["normal_interval"]
    if not found["unsupported_share"] and not low <= 1 <= high:
        mean = found["mean_weight"]["estimate"]
        warnings.append(
            f"the mean weight is {mean:.3f}, not 1: propensities are not those that the log was made with, "
            "or actions are missing"
        )
    if not found["rewarded_rows"]:
        warnings.append("no rewarded row has any weight: the intervals of ips and snips say nothing")
    for warning in warnings:
        say(f"warning: {warning}")
    return warnings


def _require_finite(found: dict[str, Any]) -> None:
    for value in found.values():
        if isinstance(value, dict):
            _require_finite(value)
        elif not isinstance(value, str) and not np.isfinite(value).all():
            raise HeadraceError("an estimate is not a finite number", hint="look for extreme rewards or propensities")
