"""Each item as a weighted sum of other items: ridge regressions over users.

With all other items as regressors this is EASE (Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019,
eq. 8) with weights of users and penalties of items. With the items nearest to each only, the normal equations are
solved on that support, as in Steck, "Markov random fields for collaborative filtering", NeurIPS 2019, section 3.2. A
penalty in proportion to an item's own squared length is what dropout amounts to (Steck, "Autoencoders that don't
overfit towards the identity", NeurIPS 2020, section 3).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from scipy.linalg import lapack

from headrace.errors import ConfigError, HeadraceError
from headrace.types import Float32, Int32
from headrace_training.kernels.ridge import Regression, solve_ridges
from headrace_training.models.base import (
    Parameters,
    as_rows,
    degree_power,
    degrees,
    dense_product,
    largest_product,
)
from headrace_training.models.product import SparseProduct
from headrace_training.neighbours import met_items
from headrace_training.parallel import in_threads
from headrace_training.space import Real, Space, Whole

MAX_EXACT_ITEMS = 10_000
"""More items than this need more than 1 GB for the exact solution."""

BLOCK_ITEMS = 256


class LinearModel:
    """Sum of the coefficients of the user's items.

    n_neighbours     : regressors an item, those with the largest weighted cosine; 0 for all items (exact EASE).
    user_exponent    : half of how much less a busy user's row counts, as a power of the row's sum.
    penalty          : of squared coefficients, in average interactions.
    relative_penalty : more of it, as a share of the regressor's own squared length.
    to_exponent      : how much less a frequent item is proposed.
    n_steps          : of the solver; few leave out what the data hardly say. Not used by the exact solution.
    """

    name = "linear"
    space: ClassVar[Space] = {
        "n_neighbours": Whole(50, 400),
        "user_exponent": Real(0.0, 0.5),
        "penalty": Real(5.0, 1000.0, log=True),
        "relative_penalty": Real(0.1, 5.0, log=True),
        "to_exponent": Real(0.0, 0.4),
        "n_steps": Whole(2, 12),
    }

    def __init__(
        self,
        n_neighbours: int = 200,
        user_exponent: float = 0.25,
        penalty: float = 120.0,
        relative_penalty: float = 1.0,
        to_exponent: float = 0.1,
        n_steps: int = 3,
    ) -> None:
        if penalty <= 0:
            raise ConfigError("penalty", got=penalty, expected="a number above 0")
        self.n_neighbours = n_neighbours
        self.user_exponent = user_exponent
        self.penalty = penalty
        self.relative_penalty = relative_penalty
        self.to_exponent = to_exponent
        self.n_steps = n_steps
        self._train = sp.csr_matrix((0, 0), dtype=np.float32)
        self.item_item: sp.csr_matrix | Float32 = sp.csr_matrix((0, 0), dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        names = ("n_neighbours", "user_exponent", "penalty", "relative_penalty", "to_exponent", "n_steps")
        return {name: getattr(self, name) for name in names}

    @property
    def n_items(self) -> int:
        return int(self._train.shape[1])

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """About what fitting takes beside train: the exact solution's dense matrices, or what is kept."""
        n_pairs, n_items = int(train.nnz), int(train.shape[1])
        if not self.n_neighbours:
            return 24 * n_pairs + 20 * n_items * n_items
        return 40 * n_pairs + 32 * n_items * min(self.n_neighbours + 1, met_items(train))

    def fit(self, train: sp.csr_matrix) -> None:
        self._train = train
        user_degrees, item_degrees = degrees(train)
        user_weights = degree_power(user_degrees, 2 * self.user_exponent)
        squares = np.asarray((user_weights @ train.multiply(train)).sum(axis=0)).ravel()
        unit = squares.sum() / max(1, train.nnz)
        penalties = (self.penalty * max(unit, 1e-30) + self.relative_penalty * squares).astype(np.float32)
        proposed = degree_power(item_degrees, self.to_exponent)
        if self.n_neighbours:
            scale = degree_power(item_degrees, 0.5)
            support = nearest(scale @ train.T @ user_weights, train @ scale, self.n_neighbours)
            self.item_item = (
                solve(train, user_weights.diagonal(), penalties, support, self.n_steps) @ proposed
            ).tocsr()
        else:
            gram = (train.T @ user_weights @ train).toarray()
            self.item_item = exact(gram, penalties) * proposed.diagonal()

    def product(self) -> SparseProduct | None:
        return None if isinstance(self.item_item, np.ndarray) else SparseProduct(self._train, self.item_item)

    def scores(self, users: Int32) -> Float32:
        rows = self._train[users]
        if isinstance(self.item_item, np.ndarray):
            return np.asarray(rows @ self.item_item, dtype=np.float32)
        return dense_product(rows, self.item_item)


def nearest(left: sp.csr_matrix, right: sp.csr_matrix, n_neighbours: int) -> sp.csr_matrix:
    """The largest entries of each row of ``left @ right`` but for those on the diagonal; float32 CSR."""
    support = largest_product(left.tocsr(), right.tocsr(), n_neighbours + 1)
    rows = np.repeat(np.arange(support.shape[0]), np.diff(support.indptr))
    support.data[rows == support.indices] = 0.0
    support.eliminate_zeros()
    return support


def solve(
    train: sp.csr_matrix, user_weights: Float32, penalties: Float32, support: sp.csr_matrix, n_steps: int
) -> sp.csr_matrix:
    """Coefficients on the support of each item; (n_items, n_items) float32 CSR, column j those of item j."""
    data, found = Regression(as_rows(train.T.tocsr()), user_weights, penalties), as_rows(support)
    n_items = support.shape[0]

    def block(start: int) -> None:
        solve_ridges(data, found, start, min(start + BLOCK_ITEMS, n_items), n_steps)

    in_threads(block, range(0, n_items, BLOCK_ITEMS))
    return sp.csr_matrix((found.data, found.indices, found.indptr), shape=support.shape).T.tocsr()


def exact(gram: Float32, penalties: Float32) -> Float32:
    """Coefficients on all other items; (n_items, n_items) float32, column j those of item j, 0 on the diagonal.

    ConfigError for more than MAX_EXACT_ITEMS, HeadraceError when the penalties are too small for float32.
    """
    n_items = len(gram)
    if n_items > MAX_EXACT_ITEMS:
        raise ConfigError("n_neighbours", got=0, expected=f"above 0 for more than {MAX_EXACT_ITEMS} items")
    matrix = np.asfortranarray(gram, dtype=np.float32)
    matrix[np.diag_indices(n_items)] += penalties
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        raise HeadraceError("the linear model has no solution in float32", hint="raise its penalty")
    lower = np.tril(lapack.spotri(factor, lower=1, overwrite_c=1)[0])
    inverse = lower + np.tril(lower, -1).T
    coefficients = -inverse / inverse.diagonal()
    coefficients[np.diag_indices(n_items)] = 0.0
    return np.asarray(coefficients, dtype=np.float32)
