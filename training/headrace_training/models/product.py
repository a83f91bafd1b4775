"""Models whose scores are one matrix product: such scores are ranked without being written down."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import scipy.sparse as sp

from headrace.types import Float32


class FactorProduct(NamedTuple):
    """Scores are ``users @ items.T``: (n_users, d) and (n_items, d) float32."""

    users: Float32
    items: Float32


class SparseProduct(NamedTuple):
    """Scores are ``users @ items``: (n_users, m) and (m, n_items) CSR, float32; 0 where nothing is stored."""

    users: sp.csr_matrix
    items: sp.csr_matrix


@runtime_checkable
class HasProduct(Protocol):
    """What a model may offer beside the protocol of models.base."""

    def product(self) -> FactorProduct | SparseProduct | None:
        """The two sides of the product that ``scores`` gives rows of; None when the scores are more than that."""
        ...
