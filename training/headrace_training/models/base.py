"""What every model offers."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Float64, Int32
from headrace_training.baskets import Baskets
from headrace_training.kernels.gram import largest_of_product
from headrace_training.kernels.product import Rows, multiply_rows
from headrace_training.models.servable import Servable
from headrace_training.parallel import in_threads
from headrace_training.sequences import Sequences

Parameters = dict[str, str | int | float | bool | None]

BLOCK_ROWS = 512

Data = TypeVar("Data", contravariant=True)
Query = TypeVar("Query", contravariant=True)


class Scorer(Protocol[Data, Query]):
    """Learns from data of one form and scores all items for queries of another."""

    name: str

    @property
    def parameters(self) -> Parameters: ...

    @property
    def n_items(self) -> int: ...

    def fit(self, train: Data) -> None: ...

    def scores(self, query: Query, /) -> Float32:
        """Scores of all items, a row a query; (n, n_items) float32, the caller may change it."""
        ...


class Model(Scorer[sp.csr_matrix, Int32], Protocol):
    """Scores all items for users of the matrix it was fitted on.

    fit    : confidence weights; (n_users, n_items) float32, all stored values > 0.
    scores : of users, int32 rows of that matrix.
    """


class NextItemModel(Scorer[Sequences, Sequences], Protocol):
    """Scores all items as what comes next in sequences; those it is asked about need not be among those it learnt from.

    fit    : sessions, or what each person took, in time order.
    scores : of prefixes in the same item indices; a row does not depend on the others.
    """

    def servable(self) -> Servable:
        """What the fitted model answers with."""
        ...


class BasketModel(Scorer[Baskets, Int32], Protocol):
    """Scores all items as parts of the next baskets of people of the history that it was fitted on.

    fit    : what people took at each visit, in time order.
    scores : of people, int32 rows of that history; items taken before are among those scored.
    """


def degree_power(degrees: Float64, exponent: float) -> sp.csr_matrix:
    """diag(degree ** -exponent), 0 where the degree is 0; float32."""
    with np.errstate(divide="ignore"):
        values = np.where(degrees > 0, degrees**-exponent, 0.0)
    return sp.diags(values.astype(np.float32)).tocsr()


def degrees(matrix: sp.csr_matrix) -> tuple[Float64, Float64]:
    """Sums of rows and of columns, float64."""
    as_double = matrix.astype(np.float64)
    return np.asarray(as_double.sum(axis=1)).ravel(), np.asarray(as_double.sum(axis=0)).ravel()


def dense_product(left: sp.csr_matrix, right: sp.csr_matrix) -> Float32:
    """``left @ right`` of two sparse matrices as a dense float32 array."""
    out = np.empty((left.shape[0], right.shape[1]), dtype=np.float32)
    multiply_rows(as_rows(left), as_rows(right), out)
    return out


def largest_product(left: sp.csr_matrix, right: sp.csr_matrix, width: int) -> sp.csr_matrix:
    """The ``width`` largest entries of each row of ``left @ right``, ties by lower column; neither holds negatives.

    Returns float32 CSR with sorted indices, the same whatever the number of threads.
    """
    rows, columns = as_rows(left), as_rows(right)
    width = min(width, right.shape[1])

    def block(start: int) -> tuple[Int32, Float32, Int32]:
        n_rows = min(BLOCK_ROWS, left.shape[0] - start)
        items = np.empty((n_rows, width), dtype=np.int32)
        values = np.empty((n_rows, width), dtype=np.float32)
        counts = np.empty(n_rows, dtype=np.int32)
        largest_of_product(rows, columns, start, items, values, counts)
        kept = np.arange(width) < counts[:, None]
        return items[kept], values[kept], counts

    blocks = in_threads(block, range(0, left.shape[0], BLOCK_ROWS))
    if not blocks:
        return sp.csr_matrix((left.shape[0], right.shape[1]), dtype=np.float32)
    items, values, counts = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    indptr = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    return sp.csr_matrix((values, items, indptr), shape=(left.shape[0], right.shape[1]))


def as_rows(matrix: sp.csr_matrix) -> Rows:
    """The arrays of a matrix in the dtypes of the kernels."""
    index = np.int64 if matrix.nnz > np.iinfo(np.int32).max else np.int32
    return Rows(
        matrix.indptr.astype(index, copy=False),
        matrix.indices.astype(np.int32, copy=False),
        matrix.data.astype(np.float32, copy=False),
    )
