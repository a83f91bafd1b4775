"""What was taken most often: by everybody, by the person, or by the person and then by everybody."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32, Int64
from headrace_training.baskets import Baskets
from headrace_training.models.base import Parameters


class FrequencyModel:
    """Ranks by the number of baskets that hold an item; equal ones by everybody's number, then by index.

    own    : the person's own items stand first, by the person's number of baskets.
    others : items that the person never took are ranked too; else they are barred.
    """

    def __init__(self, name: str, *, own: bool, others: bool) -> None:
        self.name = name
        self._own = own
        self._others = others
        self._counts = sp.csr_matrix((0, 0), dtype=np.float32)
        self._place: Int64 = np.empty(0, dtype=np.int64)

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self._place)

    def fit(self, train: Baskets) -> None:
        self._counts = train.counts()
        order = np.argsort(-np.bincount(train.items, minlength=train.n_items), kind="stable")
        self._place = np.empty(train.n_items, dtype=np.int64)
        self._place[order] = np.arange(train.n_items)

    def scores(self, users: Int32) -> Float32:
        """Minus the place in everybody's order; a person's own items above all, by places among themselves."""
        everybody = (-self._place).astype(np.float32) if self._others else np.full(self.n_items, -np.inf, np.float32)
        out = np.tile(everybody, (len(users), 1))
        if self._own:
            for row, user in enumerate(users.tolist()):
                part = slice(self._counts.indptr[user], self._counts.indptr[user + 1])
                items = self._counts.indices[part]
                best = items[np.lexsort((self._place[items], -self._counts.data[part]))]
                out[row, best] = np.arange(len(best), 0, -1)
        return out


def frequency_models() -> dict[str, FrequencyModel]:
    """The three by name: G-TopFreq, P-TopFreq, GP-TopFreq of Li et al., TOIS 2023, section 4.2."""
    kinds = {"g-topfreq": (False, True), "p-topfreq": (True, False), "gp-topfreq": (True, True)}
    return {name: FrequencyModel(name, own=own, others=others) for name, (own, others) in kinds.items()}
