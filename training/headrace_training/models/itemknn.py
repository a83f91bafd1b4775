"""Items next to the items of the user, by shrunk cosine over users; the classic baseline."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters, dense_product
from headrace_training.models.product import SparseProduct
from headrace_training.neighbours import BLOCK_ROWS, met_items, shrunk_cosine
from headrace_training.space import Real, Space, Whole


class ItemKnnModel:
    """Sum of the similarities of an item to those of the user.

    n_neighbours : kept an item.   shrink : common users that a similarity must stand against.
    """

    name = "itemknn"
    space: ClassVar[Space] = {"n_neighbours": Whole(10, 1000, log=True), "shrink": Real(0.0, 100.0)}

    def __init__(self, n_neighbours: int = 100, shrink: float = 10.0) -> None:
        self.n_neighbours = n_neighbours
        self.shrink = shrink
        self._train = sp.csr_matrix((0, 0), dtype=np.float32)
        self._similarity = sp.csr_matrix((0, 0), dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        return {"n_neighbours": self.n_neighbours, "shrink": self.shrink}

    @property
    def n_items(self) -> int:
        return int(self._train.shape[1])

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """About what fitting takes beside train: copies of it, the similarities twice, a block of them being sorted."""
        n_items, entries = int(train.shape[1]), met_items(train)
        kept = 12 * n_items * min(self.n_neighbours, entries)
        return 24 * int(train.nnz) + 2 * kept + 48 * min(BLOCK_ROWS, n_items) * entries

    def fit(self, train: sp.csr_matrix) -> None:
        self._train = train
        self._similarity = shrunk_cosine(train, self.n_neighbours, self.shrink)

    def product(self) -> SparseProduct:
        return SparseProduct(self._train, self._similarity)

    def scores(self, users: Int32) -> Float32:
        return dense_product(self._train[users], self._similarity)
