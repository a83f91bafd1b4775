"""A linear filter on the user-item graph, with its low frequencies added.

With R~ = D_u^-a R D_i^-b the filter is R D_i^-c (R^T D_u^-2a R) D_i^-e plus `low_pass` times the projection of R on
the leading right singular vectors of the symmetrically normalised matrix: the closed form of GF-CF (Shen et al.,
"How powerful is graph convolution for recommendation?", CIKM 2021, section 5) with free exponents.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters, degree_power, degrees, dense_product, largest_product
from headrace_training.models.product import SparseProduct
from headrace_training.neighbours import met_items
from headrace_training.space import Real, Space

FACTOR_EXPONENT = 0.4


class GraphModel:
    """Item-item filter, optionally with a low-pass part.

    user_exponent    : a; how much less a path over a busy user counts.
    from_exponent    : c; how much less a frequent item of the user counts.
    to_exponent      : e; how much less a frequent item is proposed.
    low_pass         : weight of the low-pass part in standard deviations of the filter's, 0 for none.
    n_factors        : singular vectors of the low-pass part.
    max_neighbours   : entries kept a row of the filter; bounds memory to 8 bytes times items times this.
    """

    name = "graph"
    space: ClassVar[Space] = {
        "user_exponent": Real(0.0, 0.8),
        "from_exponent": Real(0.2, 0.9),
        "to_exponent": Real(0.0, 0.8),
        "low_pass": Real(0.0, 0.8),
    }

    def __init__(
        self,
        user_exponent: float = 0.25,
        from_exponent: float = 0.6,
        to_exponent: float = 0.3,
        low_pass: float = 0.2,
        n_factors: int = 256,
        max_neighbours: int = 1000,
        seed: int = 0,
    ) -> None:
        self.user_exponent = user_exponent
        self.from_exponent = from_exponent
        self.to_exponent = to_exponent
        self.low_pass = low_pass
        self.n_factors = n_factors
        self.max_neighbours = max_neighbours
        self.seed = seed
        self._train = sp.csr_matrix((0, 0), dtype=np.float32)
        self.item_item = sp.csr_matrix((0, 0), dtype=np.float32)
        self._down = self._up = np.empty((0, 0), dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        names = ("user_exponent", "from_exponent", "to_exponent", "low_pass", "n_factors", "max_neighbours", "seed")
        return {name: getattr(self, name) for name in names}

    @property
    def n_items(self) -> int:
        return int(self._train.shape[1])

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """About what fitting takes beside train: its weighted copies, the filter and its parts, the vectors."""
        n_users, n_items = map(int, train.shape)
        kept = 8 * n_items * min(self.max_neighbours, met_items(train))
        rank = min(self.n_factors, n_users, n_items) if self.low_pass else 0
        vectors = 4 * (rank + max(16, rank // 4)) * (4 * n_items + 2 * n_users) if rank else 0
        return 40 * int(train.nnz) + kept + max(2 * kept, vectors)

    def fit(self, train: sp.csr_matrix) -> None:
        self._train = train
        user_degrees, item_degrees = degrees(train)
        left = (degree_power(item_degrees, self.from_exponent) @ train.T).tocsr()
        left = left @ degree_power(user_degrees, 2 * self.user_exponent)
        right = (train @ degree_power(item_degrees, self.to_exponent)).tocsr()
        self.item_item = largest_product(left, right, self.max_neighbours)
        rank = min(self.n_factors, min(train.shape) - 1)
        if self.low_pass and rank > 0:
            self._fit_low_pass(train, rank)

    def _fit_low_pass(self, train: sp.csr_matrix, rank: int) -> None:
        user_degrees, item_degrees = degrees(train)
        normal = degree_power(user_degrees, FACTOR_EXPONENT) @ train @ degree_power(item_degrees, FACTOR_EXPONENT)
        with threadpool_limits(limits=1, user_api="blas"):
            vectors = leading_vectors(normal.tocsr(), rank, self.seed)
        powers = np.maximum(item_degrees, 1e-12) ** 0.5
        self._down = np.where(item_degrees > 0, 1.0 / powers, 0.0).astype(np.float32)[:, None] * vectors
        self._up = (powers.astype(np.float32)[:, None] * vectors).T.copy()

    def product(self) -> SparseProduct | None:
        return None if self._up.size else SparseProduct(self._train, self.item_item)

    def scores(self, users: Int32) -> Float32:
        rows = self._train[users]
        linear = dense_product(rows, self.item_item)
        if not self._up.size:
            return linear
        low = np.asarray(rows @ self._down, dtype=np.float32) @ self._up
        for block, weight in ((linear, 1.0), (low, self.low_pass)):
            spread = block.std(axis=1, keepdims=True)
            block *= np.where(spread > 0, weight / np.maximum(spread, 1e-30), 0.0).astype(np.float32)
        linear += low
        return linear


def leading_vectors(matrix: sp.csr_matrix, rank: int, seed: int, n_iterations: int = 6) -> Float32:
    """Leading right singular vectors by randomised subspace iteration; (n_columns, rank) float32.

    Halko, Martinsson, Tropp, SIAM Review 53(2), 2011, algorithm 4.4.
    """
    rng = np.random.default_rng(seed)
    width = min(rank + max(16, rank // 4), *matrix.shape)
    basis = rng.standard_normal((matrix.shape[1], width)).astype(np.float32)
    basis = np.linalg.qr(basis)[0]
    for _ in range(n_iterations):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    projected = matrix @ basis
    values, rotation = np.linalg.eigh((projected.T @ projected).astype(np.float64))
    return np.ascontiguousarray(basis @ rotation[:, np.argsort(-values)[:rank]].astype(np.float32))
