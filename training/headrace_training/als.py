"""Implicit alternating least squares by Headrace's compiled core."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from headrace._native import ALS_LANES, als_gram, als_loss, als_solve, als_turn
from headrace.errors import ConfigError, DataError
from headrace.types import Float32, Float64, Int32, Int64

STEPS = 2
"""Conjugate gradient steps a row in each half sweep. In the Gram matrix's own axes a third one changes the loss after
equal epochs by less than a thousandth."""

MOST_CONFIDENCE = 1e12
"""Above it the squares of a row's sums leave float32."""

INITIAL_DEVIATION = 0.1
"""Expected length of an item's first factors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlsSettings:
    """What is minimised, from where, and by how many threads."""

    n_factors: int
    alpha: float
    """Confidence of an interaction of weight 1; unobserved pairs have 1."""
    regularization: float
    """Mean over the rows of what multiplies their factors' squared length."""
    frequency_exponent: float = 0.0
    """Regularise a row by (observed + others / alpha) ** this, scaled to the mean above; 0: all rows alike."""
    seed: int = 0
    n_threads: int = 0
    """0: one for each core. The result is the same, bit by bit, whatever it is."""

    def __post_init__(self) -> None:
        bounds = {"n_factors": 1, "alpha": 1e-30, "regularization": 1e-30, "frequency_exponent": 0, "n_threads": 0}
        for name, low in bounds.items():
            value = getattr(self, name)
            if not low <= value < float("inf"):
                raise ConfigError(name, got=value, expected=f"a finite number, at least {low:g}")


@dataclass(slots=True)
class Side:
    """Users or items: what was observed of them, how each is regularised, and their factors, padded to whole lanes."""

    indptr: Int64
    columns: Int32
    confidences: Float32
    ridge: Float32
    factors: Float32


class Als:
    """One factorization under way: `epoch` as often as wanted, then `user_factors` and `item_factors`.

    Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008, eq. 3 and 4; the
    regularisation by frequency is that of Rendle, Krichene, Zhang, Koren, "Revisiting the performance of iALS on item
    recommendation benchmarks", RecSys 2022. In every half sweep both sides are turned to the axes of the fixed
    side's Gram matrix, which changes no score; there each row is solved by preconditioned conjugate gradients.

    train : (n_users, n_items) weights above 0, with alpha at most 1e12. DataError when one is not.
    """

    def __init__(self, train: sp.csr_matrix, settings: AlsSettings) -> None:
        self.settings = settings
        self.n_threads = settings.n_threads or len(os.sched_getaffinity(0))
        confidences = _confidences(train, settings.alpha)
        self._users = self._side(confidences)
        self._items = self._side(confidences.T.tocsr())
        rng = np.random.default_rng(settings.seed)
        d, deviation = settings.n_factors, INITIAL_DEVIATION / settings.n_factors**0.5
        self._items.factors[:, :d] = rng.standard_normal((train.shape[1], d), dtype=np.float32) * np.float32(deviation)

    @property
    def user_factors(self) -> Float32:
        """(n_users, d) float32; zeros for users without an interaction."""
        return np.ascontiguousarray(self._users.factors[:, : self.settings.n_factors])

    @property
    def item_factors(self) -> Float32:
        """(n_items, d) float32."""
        return np.ascontiguousarray(self._items.factors[:, : self.settings.n_factors])

    def epoch(self, n_steps: int = STEPS) -> None:
        """Improve the users' factors, then the items'. Ctrl-C stops it within milliseconds, half done."""
        with threadpool_limits(limits=1, user_api="blas"):
            self._improve(self._users, self._items, n_steps)
            self._improve(self._items, self._users, n_steps)

    def loss(self) -> float:
        """What is minimised: Σ c (1 - x·y)² over what was observed, Σ (x·y)² over the rest, and the regularisation."""
        users, items = self._users, self._items
        observed = als_loss(
            users.indptr, users.columns, users.confidences, items.factors, users.factors, self.n_threads
        )
        # sums by NumPy: those of a BLAS depend on its threads
        everything = float((self._gram(users.factors) * self._gram(items.factors)).sum())
        return observed + everything + sum(_penalty(side) for side in (users, items))

    def _improve(self, free: Side, fixed: Side, n_steps: int) -> None:
        spectrum, rotation = self._axes(fixed.factors)
        als_turn(fixed.factors, rotation, self.n_threads)
        als_turn(free.factors, rotation, self.n_threads)
        als_solve(
            free.indptr,
            free.columns,
            free.confidences,
            fixed.factors,
            spectrum,
            free.ridge,
            free.factors,
            n_steps,
            self.n_threads,
        )

    def _axes(self, factors: Float32) -> tuple[Float32, Float32]:
        """Eigenvalues (width,) and eigenvectors (width, width) of the Gram matrix; zeros in the padding."""
        d, width = self.settings.n_factors, factors.shape[1]
        values, vectors = np.linalg.eigh(self._gram(factors)[:d, :d])
        spectrum, rotation = np.zeros(width, np.float32), np.zeros((width, width), np.float32)
        spectrum[:d], rotation[:d, :d] = np.maximum(values, 0.0), vectors
        return spectrum, rotation

    def _gram(self, factors: Float32) -> Float64:
        out = np.empty((factors.shape[1], factors.shape[1]))
        als_gram(factors, out, self.n_threads)
        return out

    def _side(self, rows: sp.csr_matrix) -> Side:
        settings, (n, others) = self.settings, rows.shape
        frequency = np.diff(rows.indptr) + others / settings.alpha
        scale = frequency**settings.frequency_exponent
        return Side(
            indptr=rows.indptr.astype(np.int64),
            columns=rows.indices.astype(np.int32),
            confidences=rows.data,
            ridge=(settings.regularization * scale / (scale.mean() if n else 1.0)).astype(np.float32),
            factors=np.zeros((n, padded(settings.n_factors)), dtype=np.float32),
        )


def padded(n_factors: int) -> int:
    """Columns of a table of factors: whole vectors of the processor's."""
    return -(-n_factors // ALS_LANES) * ALS_LANES


def _penalty(side: Side) -> float:
    lengths = np.einsum("ij,ij->i", side.factors, side.factors)
    return float((side.ridge * lengths).sum(dtype=np.float64))


def _confidences(train: sp.csr_matrix, alpha: float) -> sp.csr_matrix:
    """alpha * weights in rows without repeats, (n_users, n_items) float32. Raises DataError."""
    scaled = sp.csr_matrix(train, dtype=np.float32, copy=True)
    scaled.sum_duplicates()
    with np.errstate(over="ignore", under="ignore"):
        scaled.data *= np.float32(alpha)
    bad = ~((scaled.data > 0) & (scaled.data <= MOST_CONFIDENCE))
    if bad.any():
        weight = float(scaled.data[np.argmax(bad)]) / alpha
        most = f"at most {MOST_CONFIDENCE / alpha:g}"
        raise DataError("weight of an interaction", got=weight, expected=f"a finite number above 0, {most}")
    return scaled
