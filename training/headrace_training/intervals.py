"""How sure a mean over lines is: bootstrap intervals and the sign-flip test, seeded and in blocks of arrays."""

from __future__ import annotations

import numpy as np

from headrace.types import Float64

N_RESAMPLES = 1000
"""Resamples of an interval: its ends are then known to about a fifteenth of its width."""

N_FLIPS = 4999
"""Sign flips of a test: the smallest p-value is 1 / 5,000."""

LEVEL = 0.95
BLOCK_CELLS = 2_000_000
"""Draws held at once, 8 MB."""


def bootstrap_means(values: Float64, seed: int, n_resamples: int = N_RESAMPLES) -> Float64:
    """Column means of resamples of the rows; columns share each resample, so they stay paired.

    values : (n, m) float64, n >= 1; in whatever order the rows are, the result is the same.
    Returns (n_resamples, m) float64.
    Efron, Tibshirani, "An introduction to the bootstrap", 1993, section 6.2.
    """
    n, m = values.shape
    values = values[np.lexsort(values.T)]
    rng = np.random.default_rng(seed)
    columns = [np.ascontiguousarray(values[:, column]) for column in range(m)]
    out = np.empty((n_resamples, m))
    step = max(1, BLOCK_CELLS // n)
    for start in range(0, n_resamples, step):
        rows = rng.integers(0, n, size=(min(step, n_resamples - start), n), dtype=np.int32)
        for column, of_column in enumerate(columns):
            out[start : start + step, column] = of_column[rows].mean(axis=1)
    return out


def interval(resampled: Float64, level: float = LEVEL) -> list[float]:
    """The percentile interval [low, high] of resampled means; (n_resamples,) float64."""
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def sign_flip_p(differences: Float64, seed: int, n_flips: int = N_FLIPS) -> float:
    """Two-sided p-value of "the differences are as likely above zero as below": the mean against that of random signs.

    differences : (n,) float64.   Returns a number in (0, 1]; 1 when all are 0.
    Phipson, Smyth, Stat. Appl. Genet. Mol. Biol. 9(1), 2010: the sample itself counts as one flip.
    """
    moved = np.sort(differences[differences != 0])
    if not len(moved):
        return 1.0
    rng = np.random.default_rng(seed)
    total = moved.sum()
    # a sum of the same numbers in another order may differ in its last bits and is still as extreme
    bar = abs(total) - 1e-12 * np.abs(moved).sum()
    extreme, done = 0, 0
    step = max(1, BLOCK_CELLS // len(moved))
    while done < n_flips:
        rows = min(step, n_flips - done)
        bits = np.unpackbits(np.frombuffer(rng.bytes(rows * (len(moved) + 7) // 8 + 1), np.uint8))
        flips = bits[: rows * len(moved)].reshape(rows, len(moved))
        extreme += int((np.abs(2 * (flips @ moved) - total) >= bar).sum())
        done += rows
    return (1 + extreme) / (1 + n_flips)
