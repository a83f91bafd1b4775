"""What other people's baskets say of items that a person may not have yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.baskets import Baskets
from headrace_training.models.base import degree_power, degrees, dense_product
from headrace_training.ranking import BLOCK_CELLS

FEATURES = ("together", "next", "popular", "log_popular", "trend")
"""Of every item for a person: taken by those who have the person's items · taken after what the latest baskets hold
· in the latest baskets of all, each divided by its highest value · log of how many latest baskets hold it · that less
the log of how many baskets do."""

N_PERSONAL = 2


@dataclass(frozen=True)
class Associations:
    """Sparse matrices, float32, and what is the same for everybody.

    taken, latest : (n_users, n_items) Σ 0.9^age and Σ 0.5^age, rows summing to 1.
    together, following : (n_items, n_items) from an item to others.
    everybody : (3, n_items) float32, the last three FEATURES.
    """

    taken: sp.csr_matrix
    latest: sp.csr_matrix
    together: sp.csr_matrix
    following: sp.csr_matrix
    everybody: Float32

    @classmethod
    def of(cls, baskets: Baskets) -> Associations:
        """Gather them from a history."""
        slow, fast = (_to_sum_one(_decayed(baskets, decay)) for decay in (0.9, 0.5))
        return cls(slow, fast, _together(baskets), _following(baskets), _everybody(baskets))

    def personal(self, users: Int32) -> Iterator[Float32]:
        """The first N_PERSONAL of FEATURES for some people, each (len(users), n_items) float32."""
        yield _to_highest_one(dense_product(self.taken[users], self.together))
        yield _to_highest_one(dense_product(self.latest[users], self.following))

    @property
    def n_items(self) -> int:
        return int(self.everybody.shape[1])

    @property
    def block_rows(self) -> int:
        """People a block, such that no array of it has more than BLOCK_CELLS cells."""
        return max(1, BLOCK_CELLS // max(1, self.n_items))


def _decayed(baskets: Baskets, decay: float) -> sp.csr_matrix:
    """Σ decay^age; Hu et al., SIGIR 2020, section 4.1, without groups."""
    values = np.power(decay, baskets.age, dtype=np.float32)
    matrix = sp.csr_matrix((values, (baskets.user_of, baskets.items)), shape=(baskets.n_users, baskets.n_items))
    matrix.sum_duplicates()
    return matrix


def _to_sum_one(matrix: sp.csr_matrix) -> sp.csr_matrix:
    return (degree_power(degrees(matrix)[0], 1.0) @ matrix).tocsr()


def _together(baskets: Baskets) -> sp.csr_matrix:
    """Σ over people with both items of 1 / items of the person, divided by the square root of the first's people."""
    owned = baskets.counts()
    owned.data[:] = 1.0
    of_user, of_item = degrees(owned)
    linked = (owned.T @ (degree_power(of_user, 1.0) @ owned)).tocsr()
    linked.setdiag(0.0)
    linked.eliminate_zeros()
    return (degree_power(of_item, 0.5) @ linked).tocsr()


def _following(baskets: Baskets) -> sp.csr_matrix:
    """Σ over neighbouring baskets of 1 / √items of the former, divided by baskets with the first item to the 0.7."""
    ones = np.ones(len(baskets.items), dtype=np.float32)
    rows = sp.csr_matrix(
        (ones, baskets.items, baskets.item_indptr), shape=(len(baskets.item_indptr) - 1, baskets.n_items)
    )
    of_basket, of_item = degrees(rows)
    owner = np.repeat(np.arange(baskets.n_users), baskets.n_baskets)
    former = np.flatnonzero(owner[1:] == owner[:-1])
    before = (degree_power(of_basket, 0.5) @ rows).tocsr()[former]
    return (degree_power(of_item, 0.7) @ (before.T @ rows[former + 1])).tocsr()


def _everybody(baskets: Baskets) -> Float32:
    latest = np.bincount(baskets.items[baskets.age == 0], minlength=baskets.n_items)
    count = np.bincount(baskets.items, minlength=baskets.n_items)
    share = latest / max(1, int(latest.max(initial=0)))
    return np.stack([share, np.log1p(latest), np.log1p(latest) - np.log1p(count)]).astype(np.float32)


def _to_highest_one(scores: Float32) -> Float32:
    highest = scores.max(axis=1, keepdims=True, initial=0.0)
    return np.asarray(scores / np.where(highest > 0, highest, 1), dtype=np.float32)
