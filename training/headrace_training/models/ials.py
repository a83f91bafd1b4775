"""Implicit-feedback alternating least squares, by the compiled core or the `implicit` library."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from headrace.errors import ConfigError
from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters, degree_power, degrees
from headrace_training.models.product import FactorProduct
from headrace_training.space import Real, Space, Whole

if TYPE_CHECKING:
    from headrace_training.als import Als


class Trainer(Protocol):
    """Learns factors whose products rank items; what `fit` puts into an artifact comes from one of these."""

    def factorize(self, train: sp.csr_matrix) -> tuple[Float32, Float32]:
        """User and item factors, (n_users, d) and (n_items, d) float32."""
        ...


class ImplicitTrainer:
    """The `implicit` library's solver, for where the compiled core is not there, and to compare with.

    The BLAS gets one thread, so that it does not compete with the solver's own.
    """

    def __init__(self, n_factors: int, alpha: float, regularization: float, iterations: int, seed: int) -> None:
        self.n_factors = n_factors
        self.alpha = alpha
        self.regularization = regularization
        self.iterations = iterations
        self.seed = seed

    def factorize(self, train: sp.csr_matrix) -> tuple[Float32, Float32]:
        if find_spec("implicit") is None:
            raise ConfigError("implicit is not installed", hint="pip install 'headrace[train]'")
        with threadpool_limits(limits=1, user_api="blas"):
            from implicit.cpu.als import AlternatingLeastSquares  # after the limit: it looks at BLAS when imported

            solver = AlternatingLeastSquares(
                factors=self.n_factors,
                alpha=self.alpha,
                regularization=self.regularization,
                iterations=self.iterations,
                num_threads=os.cpu_count() or 1,
                random_state=self.seed,
            )
            solver.fit(train, show_progress=False)
        return np.asarray(solver.user_factors), np.asarray(solver.item_factors)


class IalsTrainer:
    """Hu, Koren, Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008, eq. 3.

    Minimises Σ c (1 - x·y)² over what was observed, with c = alpha * weight, plus Σ (x·y)² over everything else, plus
    regularization * (Σ|x|² + Σ|y|²), in which a row counts by its frequency when `frequency_exponent` is not 0.
    Headrace's compiled core does it where it is built, `implicit` elsewhere.

    watch : called after every iteration of the compiled core, for curves of the loss.
    """

    def __init__(
        self,
        n_factors: int,
        alpha: float,
        regularization: float,
        iterations: int,
        seed: int,
        *,
        frequency_exponent: float = 0.0,
        watch: Callable[[Als], None] | None = None,
    ) -> None:
        self.n_factors = n_factors
        self.alpha = alpha
        self.regularization = regularization
        self.iterations = iterations
        self.seed = seed
        self.frequency_exponent = frequency_exponent
        self.watch = watch

    def factorize(self, train: sp.csr_matrix) -> tuple[Float32, Float32]:
        """Raises ConfigError for a value out of range, DataError for a weight that is not finite and above 0."""
        if find_spec("headrace._native") is None:
            return self._by_implicit(train)
        from headrace_training.als import Als, AlsSettings  # as late as this, since the core may not be built

        settings = AlsSettings(
            n_factors=self.n_factors,
            alpha=self.alpha,
            regularization=self.regularization,
            frequency_exponent=self.frequency_exponent,
            seed=self.seed,
        )
        als = Als(train, settings)
        for _ in range(self.iterations):
            als.epoch()
            if self.watch:
                self.watch(als)
        return als.user_factors, als.item_factors

    def _by_implicit(self, train: sp.csr_matrix) -> tuple[Float32, Float32]:
        if self.frequency_exponent:
            raise ConfigError(
                "frequency_exponent",
                got=self.frequency_exponent,
                expected="0 where headrace._native is not built",
                hint="install a C++ compiler and headrace again",
            )
        return ImplicitTrainer(self.n_factors, self.alpha, self.regularization, self.iterations, self.seed).factorize(
            train
        )


def ials_memory_bytes(n_users: int, n_items: int, nnz: int, d: int) -> int:
    """Upper estimate of what a factorization adds to its input's memory at its peak, in bytes.

    Both sides' confidences and their making, factors padded to the processor's vectors and given back, and the Gram
    matrix's partial sums.
    """
    return 32 * nnz + (n_users + n_items) * (8 * d + 128) + (d + 16) ** 2 * 8 * 24


class IalsModel:
    """iALS on weights divided by powers of the degrees, so that neither busy users nor frequent items rule the loss.

    A user exponent and an item exponent of 0 leave the weights as they are. A frequency exponent above 0 regularises
    busy users and frequent items more than others instead of weighing them less.
    """

    name = "ials"
    space: ClassVar[Space] = {
        "n_factors": Whole(32, 256, log=True),
        "alpha": Real(1.0, 1000.0, log=True),
        "regularization": Real(0.1, 300.0, log=True),
        "iterations": Whole(4, 20),
        "user_exponent": Real(0.0, 0.6),
        "item_exponent": Real(0.0, 0.6),
    }

    def __init__(
        self,
        n_factors: int = 256,
        alpha: float = 300.0,
        regularization: float = 30.0,
        iterations: int = 8,
        user_exponent: float = 0.25,
        item_exponent: float = 0.4,
        frequency_exponent: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.trainer = IalsTrainer(
            n_factors, alpha, regularization, iterations, seed, frequency_exponent=frequency_exponent
        )
        self.user_exponent = user_exponent
        self.item_exponent = item_exponent
        self.user_factors = self.item_factors = np.empty((0, 0), dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        names = ("n_factors", "alpha", "regularization", "frequency_exponent", "iterations", "seed")
        own: Parameters = {"user_exponent": self.user_exponent, "item_exponent": self.item_exponent}
        return {name: getattr(self.trainer, name) for name in names} | own

    @property
    def n_items(self) -> int:
        return len(self.item_factors)

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """About what fitting takes beside train: weighted copies of it, and what the trainer takes."""
        (n_users, n_items), n_pairs = train.shape, int(train.nnz)
        return 24 * n_pairs + ials_memory_bytes(n_users, n_items, n_pairs, self.trainer.n_factors)

    def fit(self, train: sp.csr_matrix) -> None:
        user_degrees, item_degrees = degrees(train)
        scaled = degree_power(user_degrees, self.user_exponent) @ train @ degree_power(item_degrees, self.item_exponent)
        self.user_factors, self.item_factors = self.trainer.factorize(scaled.tocsr().astype(np.float32))

    def product(self) -> FactorProduct:
        return FactorProduct(self.user_factors, self.item_factors)

    def scores(self, users: Int32) -> Float32:
        return np.asarray(self.user_factors[users] @ self.item_factors.T, dtype=np.float32)
